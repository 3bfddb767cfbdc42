"""The pages of a study, as a doctor sees them: upload, states, answers, sharing."""

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects
from pytest_django.fixtures import Settings

from accounts.models import AccessEvent, User
from studies.models import Analysis, Image, Patient, Study
from studies.permissions import grant_study
from tests.factories import (
    AdministratorFactory,
    AnalysisFactory,
    DoctorFactory,
    ImageFactory,
    PatientFactory,
    StudyFactory,
    UserFactory,
    answer,
    slice_png,
)
from tests.studies.test_models import stored_files

pytestmark = pytest.mark.django_db


@pytest.fixture
def doctor() -> User:
    return DoctorFactory()


@pytest.fixture
def page(client: Client, doctor: User) -> Client:
    client.force_login(doctor)
    return client


def address(name: str, **kwargs: Any) -> str:
    return reverse(f"studies:{name}", kwargs=kwargs)


def slice_file(*, seed: int = 0, name: str = "slice.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, slice_png(seed=seed), content_type="image/png")


def filled(**changes: Any) -> dict[str, Any]:
    """Return the form of a new study as a doctor fills it in."""
    return {
        "patient": "",
        "record_number": "R-1",
        "family_name": "Muster",
        "given_name": "Maria",
        "birth_date": "1960-05-17",
        "email": "maria@example.org",
        "study_date": "2026-03-09",
        "clinical_question": "Nodule in the left upper lobe?",
        "slices": slice_file(),
    } | changes


# --- all pages --------------------------------------------------------------------------------------------------------

STUDY_PAGES = ["study_detail", "study_status", "image_add", "study_share"]
PATIENT_PAGES = ["patient_detail", "patient_edit"]
LISTS = ["study_list", "study_create", "patient_list", "patient_create"]


@pytest.fixture
def study(doctor: User) -> Study:
    """A study of the doctor with a done, a failed and a waiting slice."""
    study = StudyFactory(created_by=doctor)
    AnalysisFactory(image=ImageFactory(study=study), is_done=True)
    AnalysisFactory(image=ImageFactory(study=study), has_failed=True)
    AnalysisFactory(image=ImageFactory(study=study))
    return study


def pages_of(study: Study) -> list[str]:
    return [
        *(address(name, study_id=study.id) for name in STUDY_PAGES),
        *(address(name, patient_id=study.patient_id) for name in PATIENT_PAGES),
    ]


def files_of(study: Study) -> list[str]:
    image = study.images.get(number=1)
    analysis = image.analyses.get()
    return [
        address("image_file", image_id=image.id),
        *(address(f"analysis_{name}", analysis_id=analysis.id) for name in ("overlay", "mask", "activation")),
    ]


def test_every_page_opens_and_is_one_page_with_one_heading(page: Client, study: Study) -> None:
    for url in [*pages_of(study), *(address(name) for name in LISTS)]:
        response = page.get(url)
        assert response.status_code == 200, url
        if "status" not in url:
            assertContains(response, "<h1", count=1)


def test_every_picture_is_sent_privately_and_recorded(page: Client, study: Study, doctor: User) -> None:
    for url in files_of(study):
        response = page.get(url)
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "image/png"
        assert response.headers["Cache-Control"] == "private, no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Disposition"].startswith("inline; filename=")
        assert b"".join(response.streaming_content).startswith(b"\x89PNG")
    events = AccessEvent.objects.filter(actor=doctor, action="viewed")
    assert sorted(events.values_list("target_type", flat=True)) == ["studies.analysis"] * 3 + ["studies.image"]


def test_a_picture_whose_file_is_lost_is_not_found_and_not_recorded_as_seen(page: Client, study: Study) -> None:
    image = study.images.get(number=1)
    image.file.storage.delete(image.file.name)
    assert page.get(address("image_file", image_id=image.id)).status_code == 404
    assert not AccessEvent.objects.exists()


def test_there_is_no_picture_before_there_is_an_answer(page: Client, study: Study) -> None:
    waiting = Analysis.objects.get(state="queued")
    for name in ("overlay", "mask", "activation"):
        assert page.get(address(f"analysis_{name}", analysis_id=waiting.id)).status_code == 404


@pytest.mark.parametrize("who", ["stranger", "colleague", "patient", "administrator", "superuser", "waiting"])
def test_who_holds_no_grant_finds_nothing(client: Client, study: Study, doctor: User, who: str) -> None:
    people: dict[str, Callable[[], User]] = {
        "stranger": DoctorFactory,
        "colleague": lambda: DoctorFactory(hospital=doctor.hospital),
        "patient": UserFactory,
        "administrator": lambda: AdministratorFactory(hospital=doctor.hospital),
        "superuser": lambda: AdministratorFactory(hospital=None, is_superuser=True),
        "waiting": lambda: DoctorFactory(hospital=doctor.hospital, approved_at=None),
    }
    client.force_login(people[who]())
    analysis = study.images.get(number=2).analyses.get()
    for url in [*pages_of(study), *files_of(study)]:
        assert client.get(url).status_code == 404, url
    for name in ("analysis_rerun", "analysis_cancel"):
        assert client.post(address(name, analysis_id=analysis.id)).status_code == 404
    for name in ("image_add", "study_share"):
        assert client.post(address(name, study_id=study.id)).status_code == 404
    assert not AccessEvent.objects.exists()
    assert Analysis.objects.count() == 3


def test_the_patient_whose_study_it_is_sees_it_only_through_reports(client: Client, study: Study) -> None:
    person = UserFactory()
    study.patient.link_to(person)
    client.force_login(person)
    for url in [*pages_of(study), *files_of(study), *(address(name) for name in LISTS)]:
        assert client.get(url).status_code == 404


def test_anonymous_people_are_sent_to_the_log_in(client: Client, study: Study) -> None:
    for url in [*pages_of(study), *files_of(study), *(address(name) for name in LISTS)]:
        response = client.get(url)
        assert response.status_code == 302
        assert response.headers["Location"].startswith(reverse("account_login"))


def test_who_may_read_but_not_change_sees_no_buttons_and_is_refused(client: Client, study: Study, doctor: User) -> None:
    reader = DoctorFactory(hospital=doctor.hospital)
    grant_study(study, to=reader, can_change=False)
    client.force_login(reader)
    response = client.get(address("study_detail", study_id=study.id))
    assertNotContains(response, "Add slices")
    assertNotContains(response, "Analyse again")
    failed = study.images.get(number=2).analyses.get()
    assert client.post(address("analysis_rerun", analysis_id=failed.id)).status_code == 403
    assert client.post(address("analysis_cancel", analysis_id=failed.id)).status_code == 403
    for name in ("image_add", "study_share"):
        assert client.get(address(name, study_id=study.id)).status_code == 403
        assert client.post(address(name, study_id=study.id)).status_code == 403
    assert client.get(address("patient_detail", patient_id=study.patient_id)).status_code == 200
    assert client.get(address("patient_edit", patient_id=study.patient_id)).status_code == 403


def test_a_doctor_who_moves_to_another_hospital_loses_sight(client: Client, study: Study, doctor: User) -> None:
    doctor.hospital = DoctorFactory().hospital
    doctor.save()
    client.force_login(doctor)
    for url in [*pages_of(study), *files_of(study)]:
        assert client.get(url).status_code == 404


# --- new study --------------------------------------------------------------------------------------------------------


def test_a_new_study_is_received_and_shown(page: Client, doctor: User) -> None:
    response = page.post(address("study_create"), filled())
    study = Study.objects.get()
    assertRedirects(response, address("study_detail", study_id=study.id))
    assert study.patient.email == "maria@example.org"
    assert study.clinical_question == "Nodule in the left upper lobe?"
    shown = page.get(address("study_detail", study_id=study.id))
    assertContains(shown, "Maria Muster")
    assertContains(shown, "badge--queued")
    assert AccessEvent.objects.filter(action="created", target_id=study.id, actor=doctor).exists()


def test_a_known_patient_can_be_chosen_and_is_preselected_from_the_record(page: Client, doctor: User) -> None:
    patient = PatientFactory(created_by=doctor)
    form = page.get(address("study_create") + f"?patient={patient.id}")
    assertContains(form, str(patient.record_number))
    assert form.context["form"]["patient"].value() == patient.id
    data = filled(patient=patient.id, record_number="", family_name="", given_name="", birth_date="", email="")
    page.post(address("study_create"), data)
    assert Study.objects.get().patient == patient
    assert Patient.objects.count() == 1


def test_patients_are_found_by_searching_whatever_their_number(
    page: Client, doctor: User, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        PatientFactory(created_by=doctor, family_name=f"Meier{number}")
    wanted = PatientFactory(created_by=doctor, family_name="Rare", record_number="Z-1")
    PatientFactory(family_name="Rare")
    url, find = address("study_create"), address("patient_find")
    assertNotContains(page.get(url), "Meier")
    with django_assert_max_num_queries(10):
        found = page.get(find, {"find": "meier"})
    assert found.content.count(b'type="radio"') == 12, (
        "a new patient, ten that match, and one to show that there are more"
    )
    assertContains(found, "More patients match.")
    assertContains(page.get(find, {"find": "rare"}), str(wanted.id))
    assert page.get(find, {"find": "rare"}).content.count(b'type="radio"') == 2
    assertContains(page.get(find, {"find": "z-1", "patient": "nonsense"}), str(wanted.id))
    assertContains(page.get(find, {"find": "nobody", "patient": str(wanted.id)}), "checked")
    assertContains(page.get(find, {"find": "\x00nobody"}), "None of your patients matches.")
    data = filled(patient=wanted.id, record_number="", family_name="", given_name="", birth_date="", email="")
    page.post(url, data)
    assert Study.objects.get().patient == wanted, (
        "whoever is chosen is taken, whether or not the search still shows them"
    )


def test_the_search_without_javascript_keeps_what_was_typed_and_judges_nothing(page: Client, doctor: User) -> None:
    patient = PatientFactory(created_by=doctor, family_name="Rare")
    data = filled(find="rare", find_patient="1", birth_date="", clinical_question="Kept?")
    response = page.post(address("study_create"), data)
    assertContains(response, str(patient.id))
    assertContains(response, "Kept?")
    assertNotContains(response, 'role="alert"')
    assert response.context["form"]["token"].value()
    assert not Study.objects.exists()


def test_a_form_that_is_sent_twice_is_one_study(page: Client, doctor: User) -> None:
    token = page.get(address("study_create")).context["form"]["token"].value()
    first = page.post(address("study_create"), filled(token=token))
    again = page.post(address("study_create"), filled(token=token))
    assert first.headers["Location"] == again.headers["Location"] == address("study_detail", study_id=token)
    assert Study.objects.count() == 1


@pytest.mark.parametrize("token", ["", "nonsense"])
def test_a_form_without_a_token_is_taken_too(page: Client, token: str) -> None:
    page.post(address("study_create"), filled(token=token))
    assert Study.objects.count() == 1


def test_somebody_else_s_identifier_is_not_taken_over(page: Client) -> None:
    other = StudyFactory()
    page.post(address("study_create"), filled(token=other.id))
    assert Study.objects.count() == 2
    assert Study.objects.get(id=other.id).patient == other.patient


def test_only_visible_patients_are_on_offer(page: Client, doctor: User) -> None:
    mine = PatientFactory(created_by=doctor)
    hidden = [PatientFactory(), PatientFactory(created_by=DoctorFactory(hospital=doctor.hospital))]
    form = page.get(address("patient_find"), {"find": "R-"})
    assertContains(form, str(mine.id))
    assertContains(form, "A new patient, entered below")
    for patient in hidden:
        assertNotContains(form, str(patient.id))
        data = filled(patient=patient.id, record_number="", family_name="", given_name="", birth_date="")
        refused = page.post(address("study_create"), data)
        assertContains(refused, "one of your patients", status_code=400)
    assert not Study.objects.exists()


WRONG = {
    "no file": ({"slices": ""}, "Please choose the file of the slice."),
    "text file": ({"slices": SimpleUploadedFile("a.png", b"hello")}, "not a picture"),
    "empty file": ({"slices": SimpleUploadedFile("a.png", b"")}, "The file is empty"),
    "no number": ({"record_number": " "}, "enter the record number"),
    "no family name": ({"family_name": ""}, "enter the family name"),
    "no birth date": ({"birth_date": ""}, "enter the date of birth"),
    "odd birth date": ({"birth_date": "yesterday"}, "This is not a date"),
    "unborn": ({"birth_date": "2999-01-01"}, "date of birth lies in the future"),
    "very old": ({"birth_date": "1066-10-14"}, "too far in the past"),
    "future study": ({"study_date": "2999-01-01"}, "study date lies in the future"),
    "before CT": ({"study_date": "1950-01-01"}, "before the first CT scanners"),
    "before birth": ({"birth_date": "2010-01-01", "study_date": "2009-12-31"}, "before the patient&#x27;s birth"),
    "odd e-mail": ({"email": "maria"}, "valid email"),
    "long question": ({"clinical_question": "x" * 2001}, "at most 2000"),
    "nul byte": ({"family_name": "Mus\x00ter"}, "Null characters"),
    "odd patient": ({"patient": "1 OR 1=1"}, "one of your patients"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_stands_beside_the_field_and_nothing_is_stored_or_lost(page: Client, kind: str) -> None:
    changes, sentence = WRONG[kind]
    if hasattr(changes.get("slices"), "seek"):
        changes["slices"].seek(0)
    response = page.post(address("study_create"), filled(**changes))
    assertContains(response, sentence, status_code=400)
    for name, value in filled(**changes).items():
        if name != "slices" and value.strip() and "\x00" not in value and name != "patient":
            assertContains(response, value, status_code=400)
    assert (Patient.objects.count(), Study.objects.count(), stored_files()) == (0, 0, set())


def test_a_chosen_patient_and_a_new_one_at_once_is_a_question_not_a_guess(page: Client, doctor: User) -> None:
    patient = PatientFactory(created_by=doctor)
    response = page.post(address("study_create"), filled(patient=patient.id))
    assertContains(response, "keep one of the two", status_code=400)
    assert not Study.objects.exists()


def test_a_record_number_of_a_visible_patient_says_which(page: Client, doctor: User) -> None:
    PatientFactory(created_by=doctor, record_number="r-1", family_name="Known", given_name="Kim")
    response = page.post(address("study_create"), filled())
    assertContains(response, "please choose Known, Kim above", status_code=400)


def test_a_record_number_of_a_hidden_patient_does_not_say_whose(page: Client, doctor: User) -> None:
    PatientFactory(created_by=DoctorFactory(hospital=doctor.hospital), record_number="R-1", family_name="Hidden")
    response = page.post(address("study_create"), filled())
    assertContains(response, "already has a patient with this record number", status_code=400)
    assertNotContains(response, "Hidden", status_code=400)
    PatientFactory(record_number="R-2")
    assert page.post(address("study_create"), filled(record_number="R-2")).status_code == 302


def test_markup_in_what_people_type_stays_text(page: Client) -> None:
    page.post(
        address("study_create"),
        filled(
            family_name="<script>alert(1)</script>",
            clinical_question="<img src=x onerror=alert(1)>",
            slices=slice_file(name="<b>x</b>.png"),
        ),
    )
    response = page.get(address("study_detail", study_id=Study.objects.get().id))
    assertNotContains(response, "<script>alert")
    assertNotContains(response, "<img src=x")
    assertNotContains(response, "<b>x")


# --- too large --------------------------------------------------------------------------------------------------------


def test_a_request_that_is_too_large_is_refused_with_a_sentence_and_the_text_stays(
    page: Client, settings: Settings
) -> None:
    settings.UPLOAD_MAX_BYTES = 1024
    big = SimpleUploadedFile("big.png", b"\x89PNG\r\n\x1a\n" + b"x" * 2_000_000)
    response = page.post(address("study_create"), filled(slices=big))
    assertContains(response, "larger than the 0 MB", status_code=400)
    assertContains(response, "Nodule in the left upper lobe?", status_code=400)
    assert stored_files() == set()


def test_a_request_that_hides_its_size_is_stopped_at_the_limit(page: Client, settings: Settings) -> None:
    settings.UPLOAD_MAX_BYTES = 1024 * 1024
    files = [SimpleUploadedFile(f"{n}.png", b"x" * 600_000) for n in range(2)]
    response = page.post(address("study_create"), filled(slices=files))
    assertContains(response, "larger than the 1 MB", status_code=400)


def test_csrf_is_still_asked_for(doctor: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(doctor)
    assert strict.post(address("study_create"), filled()).status_code == 403


# --- more slices ------------------------------------------------------------------------------------------------------


def test_several_slices_are_added_in_the_order_of_their_names(page: Client, doctor: User) -> None:
    study = StudyFactory(created_by=doctor)
    files = [slice_file(seed=seed, name=f"im{seed}.png") for seed in (10, 2, 1)]
    response = page.post(address("image_add", study_id=study.id), {"slices": files})
    assertRedirects(response, address("study_detail", study_id=study.id) + "?slice=1")
    names = list(study.images.order_by("number").values_list("original_name", flat=True))
    assert names == ["im1.png", "im2.png", "im10.png"]


def test_a_bad_slice_among_several_is_named_and_none_is_stored(page: Client, study: Study) -> None:
    files = [slice_file(seed=50), SimpleUploadedFile("notes.txt", b"notes")]
    response = page.post(address("image_add", study_id=study.id), {"slices": files})
    assertContains(response, "notes.txt: ", status_code=400)
    assert study.images.count() == 3


def test_a_slice_that_the_study_has_is_refused(page: Client, doctor: User) -> None:
    study = StudyFactory(created_by=doctor)
    page.post(address("image_add", study_id=study.id), {"slices": slice_file()})
    response = page.post(address("image_add", study_id=study.id), {"slices": slice_file()})
    assertContains(response, "already slice 1", status_code=400)


# --- states and polling -----------------------------------------------------------------------------------------------


def test_a_page_polls_only_while_its_markup_says_so(page: Client, doctor: User) -> None:
    analysis = AnalysisFactory(image__study__created_by=doctor)
    url = address("study_detail", study_id=analysis.image.study_id)
    waiting = page.get(url)
    assertContains(waiting, "hx-get=")
    assertContains(waiting, '<meta http-equiv="refresh"')
    claimed = Analysis.objects.claim(analysis.id)
    assert claimed is not None
    assertContains(page.get(url), "badge--running")
    claimed.fail("The file is damaged. Please upload it again.")
    done = page.get(url)
    assertNotContains(done, "hx-get=")
    assertNotContains(done, "http-equiv")
    assertContains(done, "The file is damaged. Please upload it again.")
    assertContains(done, "Try again")


def test_news_come_only_when_there_are_news(page: Client, doctor: User) -> None:
    analysis = AnalysisFactory(image__study__created_by=doctor)
    url = address("study_status", study_id=analysis.image.study_id)
    seen = page.get(url).context["seen"]
    looks = AccessEvent.objects.count()
    unchanged = page.get(url, {"seen": seen})
    assert (unchanged.status_code, unchanged.content) == (204, b"")
    assert AccessEvent.objects.count() == looks
    claimed = Analysis.objects.claim(analysis.id)
    changed = page.get(url, {"seen": seen})
    assertContains(changed, "badge--running")
    assertContains(changed, "hx-get=")
    assert "no-store" in changed.headers["Cache-Control"]
    assert AccessEvent.objects.count() == looks + 1
    assert claimed is not None
    claimed.fail("No.")
    assertNotContains(page.get(url, {"seen": seen}), "hx-get=")


def test_try_again_is_a_new_analysis_of_the_same_slice(page: Client, doctor: User) -> None:
    failed = AnalysisFactory(image__study__created_by=doctor, has_failed=True)
    response = page.post(address("analysis_rerun", analysis_id=failed.id))
    assertRedirects(response, address("study_detail", study_id=failed.image.study_id) + "?slice=1")
    newest = failed.image.latest_analysis
    assert newest is not None
    assert (newest.state, newest.requested_by) == ("queued", doctor)
    again = page.post(address("analysis_rerun", analysis_id=failed.id), follow=True)
    assertContains(again, "already waiting")
    assert failed.image.analyses.count() == 2


def test_cancel_works_while_it_waits_and_not_after(page: Client, doctor: User) -> None:
    analysis = AnalysisFactory(image__study__created_by=doctor)
    page.post(address("analysis_cancel", analysis_id=analysis.id))
    analysis.refresh_from_db()
    assert analysis.state == "cancelled"
    running = AnalysisFactory(image__study__created_by=doctor, is_running=True)
    response = page.post(address("analysis_cancel", analysis_id=running.id), follow=True)
    assertContains(response, "still waiting can be cancelled")


@pytest.mark.parametrize("name", ["analysis_rerun", "analysis_cancel"])
def test_changes_need_a_post(page: Client, study: Study, name: str) -> None:
    analysis = study.images.get(number=2).analyses.get()
    assert page.get(address(name, analysis_id=analysis.id)).status_code == 405


# --- the answer -------------------------------------------------------------------------------------------------------


def test_the_answer_names_classes_verdict_findings_and_model(page: Client, doctor: User) -> None:
    analysis = AnalysisFactory(image__study__created_by=doctor, is_done=True)
    response = page.get(address("study_detail", study_id=analysis.image.study_id))
    for text in (
        "Adenocarcinoma",
        "71%",
        "88%",
        "the cancer classes together",
        "From 50% on",
        "15.6 × 13.9 px",
        "82%",
        "Millimetres are unknown",
        "This is not evidence",
        "test-1",
        "outline 50%",
        "96 ms",
    ):
        assertContains(response, text)
    assertContains(response, "<meter", count=5)


def test_millimetres_stand_where_they_are_known(page: Client, doctor: User) -> None:
    image = ImageFactory(study=StudyFactory(created_by=doctor), row_spacing_mm=0.5, column_spacing_mm=0.5)
    (finding,) = answer().findings
    known = type(finding)(**{**vars(finding), "area_mm2": 30.0, "long_axis_mm": 7.8, "short_axis_mm": 6.95})
    AnalysisFactory(image=image, is_done=True, result=answer(findings=(known,)))
    response = page.get(address("study_detail", study_id=image.study_id))
    assertContains(response, "7.8 × 7.0 mm")
    assertNotContains(response, "Millimetres are unknown")


def test_no_finding_is_said_without_reassurance(page: Client, doctor: User) -> None:
    image = ImageFactory(study=StudyFactory(created_by=doctor))
    AnalysisFactory(image=image, is_done=True, result=answer(findings=()))
    response = page.get(address("study_detail", study_id=image.study_id))
    assertContains(response, "Nothing was outlined on this slice. That does not mean that nothing is there.")


def test_an_earlier_answer_stays_visible_while_a_new_one_is_made_and_can_be_chosen(page: Client, doctor: User) -> None:
    long_ago = timezone.now() - datetime.timedelta(hours=1)
    first = AnalysisFactory(image__study__created_by=doctor, is_done=True, queued_at=long_ago)
    second = AnalysisFactory(image=first.image)
    url = address("study_detail", study_id=first.image.study_id)
    assertContains(page.get(url), "the answer of an earlier analysis")
    claimed = Analysis.objects.claim(second.id)
    assert claimed is not None
    claimed.succeed(
        answer(model_version="test-2"), overlay_png=b"overlay", mask_png=b"mask", activation_png=b"activation"
    )
    newest = page.get(url)
    assert newest.context["shown"] == second
    assertContains(newest, "All 2 analyses of this slice")
    earlier = page.get(url, {"analysis": str(first.id)})
    assert earlier.context["shown"] == first
    assertContains(earlier, "the answer of an earlier analysis")


@pytest.mark.parametrize("query", [{"slice": "99"}, {"slice": "x"}, {"slice": "-1"}, {"slice": "²"}])
def test_a_slice_that_is_not_there_shows_the_first(page: Client, study: Study, query: dict[str, str]) -> None:
    assert page.get(address("study_detail", study_id=study.id), query).context["image"].number == 1


def test_an_answer_of_another_slice_is_not_found(page: Client, study: Study, doctor: User) -> None:
    other = AnalysisFactory(image__study__created_by=doctor, is_done=True)
    url = address("study_detail", study_id=study.id)
    assert page.get(url, {"analysis": str(other.id)}).status_code == 404
    assert page.get(url, {"analysis": "nonsense"}).status_code == 404
    assert page.get(url, {"analysis": str(uuid.uuid4())}).status_code == 404


def test_figures_of_the_card_stand_beside_answers_of_its_own_version_only(
    page: Client, doctor: User, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = (
        '{"format": 1, "version": "test-1", "figures": {"official_test.accuracy": '
        '{"value": 0.87, "low": 0.83, "high": 0.91, "on": "315 images."}, "odd": {"value": "many"}}}'
    )
    (tmp_path / "model.json").write_text(card)
    monkeypatch.setenv("IRA_MODEL_DIR", str(tmp_path))
    mine = AnalysisFactory(image__study__created_by=doctor, is_done=True)
    response = page.get(address("study_detail", study_id=mine.image.study_id))
    assertContains(response, "Slice class: accuracy, official test set")
    assertContains(response, "(95% interval 0.83 to 0.91)")
    assertContains(response, "315 images.")
    image = ImageFactory(study=StudyFactory(created_by=doctor))
    AnalysisFactory(image=image, is_done=True, result=answer(model_version="older"))
    other = page.get(address("study_detail", study_id=image.study_id))
    assertNotContains(other, "0.87")
    assertContains(other, "not at hand")


# --- the list ---------------------------------------------------------------------------------------------------------


def test_the_list_shows_exactly_the_own_studies_newest_first(page: Client, doctor: User) -> None:
    mine = [StudyFactory(created_by=doctor) for _ in range(3)]
    StudyFactory()
    StudyFactory(created_by=DoctorFactory(hospital=doctor.hospital))
    shared = StudyFactory(created_by=DoctorFactory(hospital=doctor.hospital))
    grant_study(shared, to=doctor, can_change=False)
    rows = page.get(address("study_list")).context["page"].rows
    assert list(rows) == [shared, *reversed(mine)]


def test_the_list_filters_by_state_and_searches(page: Client, doctor: User) -> None:
    patient = PatientFactory(created_by=doctor, family_name="Muster", record_number="X-77")
    failed = AnalysisFactory(image__study=StudyFactory(created_by=doctor, patient=patient), has_failed=True).image.study
    done = AnalysisFactory(image__study__created_by=doctor, is_done=True).image.study
    url = address("study_list")

    def found(**query: str) -> list[Study]:
        return list(page.get(url, query).context["page"].rows)

    assert found(state="failed") == [failed]
    assert found(state="succeeded") == [done]
    assert found(state="running") == []
    assert found(q="must") == [failed]
    assert found(q="x-77", state="succeeded") == []
    assert found(state="nonsense") == [done, failed]
    assert found(q="\x00") == [done, failed]
    assert found(q="x" * 500) == [done, failed]


def test_pages_follow_each_other_without_gap_or_repeat(page: Client, doctor: User) -> None:
    patient = PatientFactory(created_by=doctor)
    moment = timezone.now()
    for _ in range(60):
        StudyFactory(created_by=doctor, patient=patient)
    Study.objects.update(created_at=moment)  # the same moment: only the id tells them apart
    url: str | None = address("study_list")
    seen: list[Study] = []
    sizes = []
    key = ""
    while url:
        shown = page.get(url, {"after": key} if key else {}).context["page"]
        seen += shown.rows
        sizes.append(len(shown.rows))
        key = shown.next_key
        url = url if key else None
    assert sizes == [25, 25, 10]
    assert len({study.id for study in seen}) == 60


@pytest.mark.parametrize("key", ["x", "!!!", "W10", "WzEsMl0", "WyJ4IiwieSJd", "bnVsbA", "\x00", "ÿ" * 50])
def test_a_key_that_does_not_read_shows_the_first_page(page: Client, doctor: User, key: str) -> None:
    study = StudyFactory(created_by=doctor)
    for name in ("study_list", "patient_list"):
        shown = page.get(address(name), {"after": key}).context["page"]
        assert shown.is_first
        assert len(shown.rows) == 1
    assert study.pk


def test_lists_ask_the_database_the_same_however_long_they_are(
    page: Client, doctor: User, django_assert_max_num_queries: Any
) -> None:
    for _ in range(12):
        AnalysisFactory(image__study__created_by=doctor, is_done=True)
    page.get(address("study_list"))
    for name in ("study_list", "patient_list"):
        with django_assert_max_num_queries(8):
            page.get(address(name))
    study = StudyFactory(created_by=doctor)
    for _ in range(6):
        AnalysisFactory(image=ImageFactory(study=study), is_done=True)
    with django_assert_max_num_queries(28):
        page.get(address("study_detail", study_id=study.id))


# --- sharing ----------------------------------------------------------------------------------------------------------


def test_sharing_lets_a_colleague_of_the_hospital_in(page: Client, study: Study, doctor: User) -> None:
    colleague = DoctorFactory(hospital=doctor.hospital)
    url = address("study_share", study_id=study.id)
    page.post(url, {"colleague": colleague.id})
    assert list(Study.objects.visible_to(colleague)) == [study]
    assert list(Patient.objects.visible_to(colleague)) == [study.patient]
    assert not study.can_be_changed_by(colleague)
    page.post(url, {"colleague": colleague.id, "can_change": "on"})
    assert study.can_be_changed_by(colleague)
    assert not study.patient.can_be_changed_by(colleague)
    page.post(url, {"colleague": colleague.id})
    assert study.can_be_changed_by(colleague), "sharing again never takes away"
    assertContains(page.get(url), "may read and work on it", count=2)


def test_sharing_offers_and_takes_only_approved_active_colleagues(page: Client, study: Study, doctor: User) -> None:
    hospital = doctor.hospital
    others = [
        DoctorFactory(),
        DoctorFactory(hospital=hospital, approved_at=None),
        DoctorFactory(hospital=hospital, is_active=False),
        AdministratorFactory(hospital=hospital),
        UserFactory(),
        doctor,
    ]
    url = address("study_share", study_id=study.id)
    for person in others:
        assertNotContains(page.get(url), f'value="{person.id}"')
        response = page.post(url, {"colleague": person.id})
        assertContains(response, "colleague of your own hospital", status_code=400)
    assert not any(Study.objects.visible_to(person).exists() for person in others[:-1])
    assertContains(page.post(url, {}), "Please choose a colleague.", status_code=400)


def test_images_of_a_study_are_not_deleted_with_it() -> None:
    analysis = AnalysisFactory()
    with pytest.raises(Exception, match="protected"):
        analysis.image.study.delete()
    assert Image.objects.count() == 1


@pytest.mark.parametrize("wanted", ["", "nonsense", "00000000-0000-0000-0000-000000000000"])
def test_a_patient_who_is_not_there_is_not_preselected(page: Client, doctor: User, wanted: str) -> None:
    hidden = PatientFactory()
    for value in (wanted, str(hidden.id)):
        form = page.get(address("study_create"), {"patient": value}).context["form"]
        assert not form.is_for_known_patient
        assert form.fields["record_number"].required
