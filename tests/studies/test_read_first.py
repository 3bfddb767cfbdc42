"""Read first: what a doctor sees of a study before and after noting a first impression, and how both compare."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from accounts.models import User
from accounts.roles import create_roles
from reports.drafting import draft_report
from reports.errors import FirstImpressionMissingError
from reports.models import Report
from studies.agreement import agreement, compare_all, compare_with_ai
from studies.models import Analysis, FindingReview, FirstImpression, Image
from studies.permissions import grant_study
from tests.factories import (
    AdministratorFactory,
    AnalysisFactory,
    DoctorFactory,
    FirstImpressionFactory,
    HospitalFactory,
    ImageFactory,
    StudyFactory,
    answer,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def doctor() -> User:
    return DoctorFactory(hospital=HospitalFactory(reads_first=True))


@pytest.fixture
def page(client: Client, doctor: User) -> Client:
    client.force_login(doctor)
    return client


@pytest.fixture
def image(doctor: User) -> Image:
    slice_ = ImageFactory(study=StudyFactory(created_by=doctor))
    AnalysisFactory(image=slice_, is_done=True)
    return slice_


def address(name: str, **kwargs: Any) -> str:
    return reverse(f"studies:{name}", kwargs=kwargs)


def test_the_study_page_asks_for_a_first_impression_and_shows_the_bare_slice(page: Client, image: Image) -> None:
    response = page.get(address("study_detail", study_id=image.study_id))
    assertContains(response, "Your first impression")
    assertContains(response, address("image_file", image_id=image.id))
    for words in ("Malignant or benign", "test-1", "overlay.png", "mask.png", "82%", "Write the draft"):
        assertNotContains(response, words)


def test_an_earlier_answer_cannot_be_asked_for_by_its_address(page: Client, image: Image) -> None:
    analysis = Analysis.objects.get()
    response = page.get(address("study_detail", study_id=image.study_id), {"analysis": str(analysis.id)})
    assertNotContains(response, "test-1")


def test_the_self_updating_part_hides_the_answer_too(page: Client, image: Image) -> None:
    response = page.get(address("study_status", study_id=image.study_id))
    assertContains(response, "Slice 1")
    assertNotContains(response, "82%")
    assertNotContains(response, 'name="diagnosis"')


@pytest.mark.parametrize("picture", ["overlay", "mask", "activation"])
def test_pictures_of_the_answer_are_refused_until_it_is_revealed(page: Client, image: Image, picture: str) -> None:
    url = address(f"analysis_{picture}", analysis_id=Analysis.objects.get().id)
    assert page.get(url).status_code == 403
    FirstImpressionFactory(study=image.study)
    assert page.get(url).status_code == 200


def test_a_first_impression_may_be_noted_while_the_slice_is_still_being_analysed(page: Client, doctor: User) -> None:
    image = ImageFactory(study=StudyFactory(created_by=doctor))
    AnalysisFactory(image=image, is_running=True)
    url = address("study_detail", study_id=image.study_id)
    response = page.get(url)
    assertContains(response, "Your first impression")
    # What is typed must not be thrown away by a page that refreshes itself: the form is outside the part that does.
    assertNotContains(response, 'http-equiv="refresh"')
    assert 'name="suspicion"' not in response.text.split('id="slices"')[1].split("split__sticky")[0]
    page.post(address("first_impression", study_id=image.study_id), {"diagnosis": "unsure", "suspicion": "3"})
    assertContains(page.get(url), 'http-equiv="refresh"')


def test_after_the_impression_the_answer_stands_beside_it(page: Client, image: Image) -> None:
    FirstImpressionFactory(study=image.study, diagnosis="squamous_cell_carcinoma", suspicion=2, note="A scar, I think.")
    response = page.get(address("study_detail", study_id=image.study_id))
    assertContains(response, "Malignant or benign")
    assertContains(response, "Your first impression and the software")
    assertContains(response, "A scar, I think.")
    assertContains(response, "disagree about malignancy")
    assertContains(response, "Your judgement")


def test_who_may_only_read_sees_no_buttons_to_judge(image: Image, doctor: User) -> None:
    reader = DoctorFactory(hospital=doctor.hospital)
    grant_study(image.study, to=reader, can_change=False)
    FirstImpressionFactory(study=image.study, doctor=reader)
    browser = Client()
    browser.force_login(reader)
    response = browser.get(address("study_detail", study_id=image.study_id))
    assertContains(response, "Your judgement")
    assertNotContains(response, 'value="accepted"')


def test_the_buttons_of_the_page_do_what_they_say(page: Client, image: Image) -> None:
    FirstImpressionFactory(study=image.study)
    url = address("study_detail", study_id=image.study_id)
    found = page.get(url).context["judged"][0]
    judge = address("finding_reviews", lesion_id=found.lesion_id)
    assertContains(page.get(url), judge)
    page.post(judge, {"verdict": "rejected", "seen": ""})
    response = page.get(url)
    assertContains(response, "rejected")
    assertContains(response, f'name="seen" value="{FindingReview.objects.get().id}"')


def test_a_hospital_that_does_not_read_first_shows_the_answer_at_once(page: Client, image: Image, doctor: User) -> None:
    doctor.hospital.reads_first = False
    doctor.hospital.save()
    response = page.get(address("study_detail", study_id=image.study_id))
    assertContains(response, "Malignant or benign")
    assertNotContains(response, "first impression")


def test_a_draft_is_written_only_after_the_first_impression(page: Client, image: Image, doctor: User) -> None:
    with pytest.raises(FirstImpressionMissingError, match="first impression"):
        draft_report(image.study, by=doctor)
    url = reverse("reports:report_create", kwargs={"study_id": image.study_id})
    response = page.post(url, follow=True)
    assertRedirects(response, address("first_impression", study_id=image.study_id))
    assertContains(response, "Please note your first impression of this study first.")
    assert not Report.objects.exists()
    FirstImpressionFactory(study=image.study)
    page.post(url)
    assert Report.objects.count() == 1


# --- comparison -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("diagnosis", "suspicion", "same_class", "same_side"),
    [
        ("adenocarcinoma", 5, True, True),
        ("large_cell_carcinoma", 4, False, True),
        ("normal", 1, False, False),
        ("unsure", 3, None, None),
        ("unsure", 2, None, False),
    ],
)
def test_impression_and_answer_are_compared_by_class_and_by_side(
    image: Image, diagnosis: str, suspicion: int, same_class: bool | None, same_side: bool | None
) -> None:
    compared = compare_with_ai(FirstImpressionFactory(study=image.study, diagnosis=diagnosis, suspicion=suspicion))
    assert (compared.is_same_class, compared.is_same_side) == (same_class, same_side)
    assert (compared.ai_class, compared.ai_malignant_probability) == ("adenocarcinoma", 0.885)


def test_the_most_suspicious_slice_and_its_newest_answer_speak_for_the_software(image: Image) -> None:
    calm = answer(malignant_probability=0.1, probabilities={"normal": 0.9, "adenocarcinoma": 0.1})
    AnalysisFactory(image=image, is_done=True, result=calm)
    other = ImageFactory(study=image.study)
    AnalysisFactory(image=other, is_done=True, result=answer(malignant_probability=0.4))
    compared = compare_with_ai(FirstImpressionFactory(study=image.study))
    assert compared.analysis is not None
    assert (compared.analysis.image, compared.ai_malignant_probability) == (other, 0.4)
    assert compared.ai_says_malignant is False


def test_without_an_answer_there_is_nothing_to_compare(doctor: User) -> None:
    compared = compare_with_ai(FirstImpressionFactory(study=StudyFactory(created_by=doctor)))
    assert (compared.ai_class, compared.is_same_class, compared.is_same_side) == ("", None, None)


def test_the_counts_of_agreement_add_up_and_cost_two_queries(doctor: User) -> None:
    for diagnosis, suspicion in (("adenocarcinoma", 5), ("normal", 1), ("unsure", 3), ("large_cell_carcinoma", 4)):
        image = ImageFactory(study=StudyFactory(created_by=doctor))
        AnalysisFactory(image=image, is_done=True)
        FirstImpressionFactory(study=image.study, diagnosis=diagnosis, suspicion=suspicion)
    FirstImpressionFactory(study=StudyFactory(created_by=doctor))
    with CaptureQueriesContext(connection) as queries:
        compared = compare_all(FirstImpression.objects.all())
    assert len(queries) == 2
    counts = agreement(compared)
    assert (counts.noted, counts.compared) == (5, 4)
    assert (counts.same_class, counts.other_class, counts.class_undecided) == (1, 2, 1)
    assert (counts.both_malignant, counts.only_ai_malignant, counts.side_undecided) == (2, 1, 1)
    assert (counts.both_benign, counts.only_doctor_malignant) == (0, 0)
    row = compared[0].to_row()
    assert row["ai_class"] == "adenocarcinoma"
    assert not any("Family" in str(value) for value in row.values()), "nobody is named"


# --- the switch -------------------------------------------------------------------------------------------------------


def test_an_administrator_of_the_hospital_switches_reading_first_off_and_on(client: Client, image: Image) -> None:
    hospital = image.study.patient.hospital
    administrator = AdministratorFactory(hospital=hospital)
    create_roles()
    client.force_login(administrator)
    url = reverse("admin:accounts_hospital_change", args=[hospital.pk])
    values = {"department": "Radiology", "address": "", "phone": ""}
    assert client.post(url, values).status_code == 302
    hospital.refresh_from_db()
    assert not hospital.reads_first
    client.post(url, values | {"reads_first": "on"})
    hospital.refresh_from_db()
    assert hospital.reads_first
