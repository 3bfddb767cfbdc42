"""The administration: the own hospital's rows, read-only where they are history, without pictures."""

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext
from pytest_django.asserts import assertContains, assertNotContains

from accounts.models import AccessEvent, User
from studies.models import Analysis, Finding, Image, Import, ImportFile, Patient, Study
from tests.factories import (
    AdministratorFactory,
    AnalysisFactory,
    DoctorFactory,
    PatientFactory,
    StudyFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db
MODELS = [Patient, Study, Image, Analysis, Finding]


def path(model: Any, action: str, *args: Any) -> str:
    return reverse(f"admin:studies_{model._meta.model_name}_{action}", args=args)


@pytest.fixture
def mine() -> Analysis:
    return AnalysisFactory(is_done=True)


@pytest.fixture
def theirs() -> Analysis:
    return AnalysisFactory(is_done=True)


@pytest.fixture
def administrator(mine: Analysis) -> User:
    return AdministratorFactory(hospital=mine.image.study.patient.hospital)


def row_of(model: Any, analysis: Analysis) -> Any:
    return {
        Patient: analysis.image.study.patient,
        Study: analysis.image.study,
        Image: analysis.image,
        Analysis: analysis,
        Finding: analysis.findings.get(),
    }[model]


@pytest.mark.parametrize("model", MODELS)
def test_an_administrator_sees_exactly_the_own_hospital(
    client: Client, administrator: User, mine: Analysis, theirs: Analysis, model: Any
) -> None:
    client.force_login(administrator)
    shown = client.get(path(model, "changelist"))
    assert {row.pk for row in shown.context["cl"].result_list} == {row_of(model, mine).pk}
    assert client.get(path(model, "change", row_of(model, mine).pk)).status_code == 200
    assert client.get(path(model, "change", row_of(model, theirs).pk)).status_code == 302
    events = AccessEvent.objects.filter(actor=administrator)
    assert list(events.values_list("target_id", flat=True)) == [row_of(model, mine).pk]


@pytest.mark.parametrize("model", MODELS)
def test_a_superuser_sees_all(client: Client, mine: Analysis, theirs: Analysis, model: Any) -> None:
    client.force_login(AdministratorFactory(hospital=None, is_superuser=True))
    shown = client.get(path(model, "changelist"))
    assert {row.pk for row in shown.context["cl"].result_list} == {row_of(model, one).pk for one in (mine, theirs)}


@pytest.mark.parametrize("model", MODELS)
def test_an_administrator_without_hospital_sees_nothing(client: Client, mine: Analysis, model: Any) -> None:
    client.force_login(AdministratorFactory(hospital=None))
    assert list(client.get(path(model, "changelist")).context["cl"].result_list) == []


@pytest.mark.parametrize("model", MODELS)
def test_nobody_else_gets_in(client: Client, mine: Analysis, model: Any) -> None:
    for person in (mine.image.study.created_by, UserFactory()):
        client.force_login(person)
        assert client.get(path(model, "changelist")).status_code in (302, 403, 404)


@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_added_or_deleted_and_history_is_not_changed(
    client: Client, administrator: User, mine: Analysis, model: Any
) -> None:
    client.force_login(administrator)
    row = row_of(model, mine)
    before = model.objects.values().get(pk=row.pk)
    assert client.get(path(model, "add")).status_code == 403
    assert client.post(path(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    if model is not Patient:
        assert client.post(path(model, "change", row.pk), {"state": "queued", "number": 9}).status_code == 403
    client.post(path(model, "changelist"), {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    assert model.objects.values().get(pk=row.pk) == before


def test_a_record_is_corrected_but_never_moved_or_tied(client: Client, administrator: User, mine: Analysis) -> None:
    client.force_login(administrator)
    patient = mine.image.study.patient
    other = DoctorFactory()
    response = client.post(
        path(Patient, "change", patient.pk),
        {
            "record_number": "NEW-1",
            "family_name": "New",
            "given_name": "Name",
            "birth_date": "1970-01-01",
            "email": "",
            "hospital": other.hospital_id,
            "user": other.id,
        },
    )
    assert response.status_code == 302
    hospital = patient.hospital
    patient.refresh_from_db()
    assert (patient.record_number, patient.hospital, patient.user) == ("NEW-1", hospital, None)
    assert AccessEvent.objects.filter(action="changed", target_id=patient.id, actor=administrator).exists()


def test_a_record_number_that_is_taken_is_a_sentence_not_an_error(
    client: Client, administrator: User, mine: Analysis
) -> None:
    client.force_login(administrator)
    patient = mine.image.study.patient
    PatientFactory(created_by=patient.created_by, record_number="TAKEN")
    response = client.post(
        path(Patient, "change", patient.pk),
        {"record_number": "taken", "family_name": "A", "given_name": "B", "birth_date": "1970-01-01", "email": ""},
    )
    assert response.status_code == 200
    assertContains(response, "already has a patient with this record number")


def test_no_page_shows_or_links_a_picture(client: Client, administrator: User, mine: Analysis) -> None:
    client.force_login(administrator)
    for model in MODELS:
        response = client.get(path(model, "change", row_of(model, mine).pk))
        assertNotContains(response, ".png")


@pytest.mark.parametrize("model", [Image, Analysis])
def test_analyse_again_queues_finished_slices_and_leaves_active_ones_out(
    client: Client, administrator: User, mine: Analysis, theirs: Analysis, model: Any
) -> None:
    client.force_login(administrator)
    waiting = AnalysisFactory(image__study=mine.image.study)
    rows = [row_of(model, mine), row_of(model, theirs), waiting.image if model is Image else waiting]
    response = client.post(
        path(model, "changelist"),
        {"action": "analyse_again", "_selected_action": [row.pk for row in rows]},
        follow=True,
    )
    assertContains(response, "1 slice waits to be analysed.")
    assertContains(response, "1 slice was left out")
    newest = mine.image.latest_analysis
    assert newest is not None
    assert (newest.state, newest.requested_by) == ("queued", administrator)
    assert theirs.image.analyses.count() == 1
    assert waiting.image.analyses.count() == 1


@pytest.mark.parametrize("model", MODELS)
def test_lists_ask_the_database_the_same_however_long_they_are(
    client: Client, administrator: User, mine: Analysis, model: Any
) -> None:
    client.force_login(administrator)

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            client.get(path(model, "changelist"), {"q": "R-"})
        return len(asked)

    queries()
    few = queries()
    for _ in range(12):
        study = StudyFactory(created_by=mine.image.study.created_by)
        AnalysisFactory(image__study=study, is_done=True)
    assert len(client.get(path(model, "changelist")).context["cl"].result_list) == 13
    assert queries() == few <= 12


@pytest.mark.parametrize("model", MODELS)
def test_no_page_shows_a_raw_number(client: Client, administrator: User, mine: Analysis, model: Any) -> None:
    client.force_login(administrator)
    Finding.objects.update(malignancy=0.8249999881, long_axis_px=15.6204993518, long_axis_mm=7.8102496, short_axis_mm=6)
    for url in (path(model, "changelist"), path(model, "change", row_of(model, mine).pk)):
        response = client.get(url)
        text = re.sub(r"<[^>]+>", " ", response.content.decode())
        assert not re.findall(r"\d\.\d{4,}", text)
        assertNotContains(response, "{&#x27;")


def test_a_search_box_has_a_label_in_words(client: Client, administrator: User, mine: Analysis) -> None:
    client.force_login(administrator)
    for model in MODELS:
        response = client.get(path(model, "changelist"))
        assertContains(response, '<label class="search-label" for="searchbar">Search</label>', html=True)
        assertContains(response, 'aria-describedby="searchbar_helptext"')


def test_studies_are_filtered_by_state_and_analysed_again(
    client: Client, administrator: User, mine: Analysis, theirs: Analysis
) -> None:
    client.force_login(administrator)
    failed = AnalysisFactory(
        image__study=StudyFactory(created_by=mine.image.study.created_by), has_failed=True
    ).image.study
    shown = client.get(path(Study, "changelist"), {"state": "failed"})
    assert list(shown.context["cl"].result_list) == [failed]
    response = client.post(
        path(Study, "changelist"),
        {"action": "analyse_again", "_selected_action": [failed.pk, theirs.image.study_id]},
        follow=True,
    )
    assertContains(response, "1 slice waits to be analysed.")
    assert Analysis.objects.filter(state="queued", requested_by=administrator).count() == 1


def test_search_and_filters_work(client: Client, administrator: User, mine: Analysis) -> None:
    client.force_login(administrator)
    number = mine.image.study.patient.record_number
    for model in MODELS:
        found = client.get(path(model, "changelist"), {"q": number}).context["cl"].result_list
        assert [row.pk for row in found] == [row_of(model, mine).pk]
        assert not client.get(path(model, "changelist"), {"q": "nothing-like-it"}).context["cl"].result_list
    assert not client.get(path(Analysis, "changelist"), {"state__exact": "failed"}).context["cl"].result_list


def test_what_a_worker_stored_is_shown_in_the_readers_language(client: Client, administrator: User) -> None:
    english = "The file is empty. Please export the slice again and upload the new file."
    hospital = administrator.hospital
    study = StudyFactory(created_by=DoctorFactory(hospital=hospital))
    failed = AnalysisFactory(image__study=study, is_running=True)
    failed.fail(english)
    batch = Import.objects.create(hospital=hospital, created_by=study.created_by, study_date="2026-03-09")
    line = ImportFile.objects.create(batch=batch, position=0, name="a.png", state="rejected", sentence=english)
    with translation.override("de"):
        german = gettext(english)
    assert german != english
    client.force_login(administrator)
    pages = [
        path(Analysis, "changelist"),
        path(Analysis, "change", failed.pk),
        path(ImportFile, "changelist"),
        path(ImportFile, "change", line.pk),
    ]
    for page in pages:
        assertContains(client.get(page), english)
    client.post(reverse("accounts:set_language"), {"language": "de"})
    for page in pages:
        answer = client.get(page)
        # Lists show the beginning.
        assertContains(answer, german[:70])
        assertNotContains(answer, english)
