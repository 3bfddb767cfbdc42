"""What a patient uploads alone: consent, the checks of the file, the quota, who sees it, and deleting it again."""

import datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects
from pytest_django.fixtures import Settings

from accounts.models import AccessEvent, User
from studies import consent
from studies.errors import IntakeError, OwnStudyError, QuotaError
from studies.intake import Upload
from studies.models import Analysis, Consent, Handover, Image, Patient, Study
from studies.own import delete_own_study, submit_own_slice
from tests.factories import (
    BIRTH_DATE,
    AnalysisFactory,
    DoctorFactory,
    OwnStudyFactory,
    StudyFactory,
    UserFactory,
    slice_png,
)

pytestmark = pytest.mark.django_db
CREATE = reverse("studies:own_create")


@pytest.fixture
def person() -> User:
    return UserFactory()


@pytest.fixture
def page(client: Client, person: User) -> Client:
    client.force_login(person)
    return client


def filled_in(*, seed: int = 1, **changes: Any) -> dict[str, Any]:
    file = SimpleUploadedFile("Müller Hans.png", slice_png(seed=seed))
    return {
        "consent": "on",
        "consent_version": consent.CURRENT,
        "birth_date": "1960-05-17",
        "study_date": "2026-02-02",
        "clinical_question": "What is it?",
        "slice": file,
    } | changes


def files() -> set[Path]:
    return {path for path in Path(default_storage.location).rglob("*") if path.is_file()}


def test_a_slice_with_consent_is_stored_analysed_and_nobody_elses(page: Client, person: User) -> None:
    response = page.post(CREATE, filled_in())
    study = Study.objects.get()
    assertRedirects(response, reverse("studies:own_study", args=[study.id]))
    assert (study.patient.hospital, study.patient.user, study.created_by) == (None, person, person)
    assert Analysis.objects.get().state == Analysis.State.QUEUED
    given = Consent.objects.get()
    assert (given.user, given.study_id, given.version) == (person, study.id, consent.CURRENT)
    assert given.wording_sha256 == consent.wording_sha256(consent.CURRENT)
    assert AccessEvent.objects.filter(action="created", target_id=study.id, actor=person).exists()
    assert list(Study.objects.uploaded_by(person)) == [study]
    for other in (UserFactory(), DoctorFactory()):
        assert not Study.objects.uploaded_by(other).exists()
        assert not Study.objects.visible_to(other).exists()
        assert not Patient.objects.visible_to(other).exists()
        assert not Image.objects.visible_to(other).exists()


def test_without_consent_nothing_is_stored_and_what_was_typed_stays(page: Client) -> None:
    response = page.post(CREATE, filled_in(consent=""))
    assertContains(response, "Without your consent nothing is uploaded", status_code=400)
    assertContains(response, "What is it?", status_code=400)
    assert not Study.objects.exists()
    assert not Consent.objects.exists()
    assert files() == set()


def test_a_consent_to_another_wording_is_none(page: Client) -> None:
    response = page.post(CREATE, filled_in(consent_version="1999-01"))
    assertContains(response, "The text has changed since you opened this page", status_code=400)
    assert not Study.objects.exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"birth_date": "2015-01-01"}, "Only adults can upload here"),
        ({"birth_date": "2099-01-01"}, "lies in the future"),
        ({"birth_date": "1700-01-01"}, "too far in the past"),
        ({"study_date": "1950-01-01"}, "before the first CT scanners"),
        ({"study_date": "2099-01-01"}, "lies in the future"),
        ({"birth_date": "1999-05-05", "study_date": "1998-05-05"}, "before your birth"),
        ({"slice": ""}, "Please choose the file of the slice."),
        ({"slice": SimpleUploadedFile("x.png", b"")}, "empty"),
        ({"slice": SimpleUploadedFile("x.png", b"I am a text.")}, "PNG"),
        ({"slice": SimpleUploadedFile("x.zip", b"PK\x03\x04" + b"\0" * 60)}, "PNG"),
    ],
)
def test_what_is_wrong_stands_beside_the_field(page: Client, changes: dict[str, Any], sentence: str) -> None:
    response = page.post(CREATE, filled_in(**changes))
    assertContains(response, sentence, status_code=400)
    assert not Study.objects.exists()
    assert not Patient.objects.exists()
    assert files() == set()


def test_two_slices_in_one_request_are_refused(page: Client) -> None:
    two = [SimpleUploadedFile(f"{n}.png", slice_png(seed=n)) for n in (1, 2)]
    response = page.post(CREATE, filled_in(slice=two))
    assertContains(response, "one slice only", status_code=400)
    assert not Study.objects.exists()


def test_a_form_that_is_sent_twice_is_one_upload(page: Client) -> None:
    token = page.get(CREATE).context["form"]["token"].value()
    first = page.post(CREATE, filled_in(token=str(token)))
    second = page.post(CREATE, filled_in(token=str(token)))
    assert first.url == second.url
    assert Study.objects.count() == Consent.objects.count() == 1


def test_the_quota_counts_thirty_days_and_deleted_uploads_too(page: Client, person: User, settings: Settings) -> None:
    settings.OWN_UPLOADS_PER_MONTH = 2
    first = OwnStudyFactory(created_by=person)
    OwnStudyFactory(created_by=person)
    delete_own_study(first, by=person)
    response = page.post(CREATE, filled_in())
    assertContains(response, "You have uploaded 2 slices within 30 days", status_code=400)
    with pytest.raises(QuotaError, match=r"from .* on"):
        OwnStudyFactory(created_by=person)
    OwnStudyFactory()  # somebody else's quota is their own
    Consent.objects.filter(study_id=first.id).update(given_at=timezone.now() - datetime.timedelta(days=31))
    assert page.post(CREATE, filled_in(seed=9)).status_code == 302


def test_a_refused_file_costs_nothing_of_the_quota(page: Client, settings: Settings) -> None:
    settings.OWN_UPLOADS_PER_MONTH = 1
    page.post(CREATE, filled_in(slice=SimpleUploadedFile("x.png", b"no picture")))
    assert page.post(CREATE, filled_in()).status_code == 302


def test_a_portal_that_takes_nothing_from_patients_says_so(page: Client, settings: Settings) -> None:
    settings.OWN_UPLOADS_PER_MONTH = 0
    assertContains(page.get(CREATE), "takes no uploads from patients")
    assertContains(page.post(CREATE, filled_in()), "takes no uploads from patients", status_code=400)
    assert not Study.objects.exists()


def test_a_refused_file_leaves_neither_row_nor_file(person: User) -> None:
    with pytest.raises(IntakeError):
        submit_own_slice(
            person,
            birth_date=BIRTH_DATE,
            study_date=BIRTH_DATE,
            upload=Upload(content=b"%PDF-1.7", name="a.pdf"),
            consent_version=consent.CURRENT,
        )
    assert not Patient.objects.exists()
    assert files() == set()


def test_a_person_has_one_record_of_their_own_and_no_record_is_nobodys(person: User) -> None:
    OwnStudyFactory(created_by=person)
    OwnStudyFactory(created_by=person)
    own = Patient.objects.get()
    assert own.studies.count() == 2
    for user, number in ((person, ""), (None, ""), (UserFactory(), "R-1")):
        with pytest.raises(IntegrityError), transaction.atomic():
            Patient.objects.create(
                user=user, record_number=number, birth_date=BIRTH_DATE, created_by=person, given_name="A"
            )


def test_the_page_tells_where_the_analysis_stands(page: Client, person: User) -> None:
    study = OwnStudyFactory(created_by=person)
    address = reverse("studies:own_study", args=[study.id])
    waiting = page.get(address)
    assertContains(waiting, "is being analysed")
    assertContains(waiting, "hx-get")
    status = reverse("studies:own_study_status", args=[study.id])
    assert page.get(status, {"seen": waiting.context["seen"]}).status_code == 204
    Analysis.objects.claim(Analysis.objects.get().id).fail("The file is damaged. Please upload it again.")  # type: ignore[union-attr]
    assertContains(page.get(status, {"seen": waiting.context["seen"]}), "The file is damaged.")
    failed = page.get(address)
    assertContains(failed, "Try again")
    assertNotContains(failed, "hx-get")
    page.post(reverse("studies:own_retry", args=[study.id]))
    assert sorted(Analysis.objects.values_list("state", flat=True)) == ["failed", "queued"]
    page.post(reverse("studies:own_retry", args=[study.id]))
    assert Analysis.objects.count() == 2


def test_deleting_takes_pictures_and_answers_and_keeps_consent_and_log(page: Client, person: User) -> None:
    study = OwnStudyFactory(created_by=person, is_done=True)
    other = OwnStudyFactory(created_by=person)
    page.get(reverse("reports:automatic_report", args=[study.id]))
    kept = {path for path in files() if path.name in str(other.images.get().file.name)}
    address = reverse("studies:own_delete", args=[study.id])
    assertContains(page.get(address), "cannot be brought back")
    with pytest.MonkeyPatch.context() as patch:
        # The test's own transaction never commits: what waits for the commit is done at once.
        patch.setattr(transaction, "on_commit", lambda act, **kwargs: act())
        assertRedirects(page.post(address), reverse("studies:own_list"))
    assert list(Study.objects.all()) == [other]
    assert files() == kept
    assert Consent.objects.get(study_id=study.id).withdrawn_at is not None
    assert AccessEvent.objects.get(action="deleted").target_id == study.id
    assert page.get(reverse("studies:own_study", args=[study.id])).status_code == 404


def test_what_is_being_analysed_handed_over_or_taken_is_not_deleted(person: User) -> None:
    study = OwnStudyFactory(created_by=person)
    analysis = Analysis.objects.claim(Analysis.objects.get().id)
    assert analysis is not None
    with pytest.raises(OwnStudyError, match="analysed at this moment"):
        delete_own_study(study, by=person)
    analysis.fail("No.")
    doctor = DoctorFactory()
    handover = Handover.request(study, hospital=doctor.hospital, by=person)
    with pytest.raises(OwnStudyError, match="withdraw the request first"):
        delete_own_study(study, by=person)
    handover.withdraw(by=person)
    delete_own_study(study, by=person)
    assert not Study.objects.exists()


def test_a_doctor_s_study_of_the_same_person_is_no_own_upload(page: Client, person: User) -> None:
    study = StudyFactory()
    study.patient.link_to(person)
    AnalysisFactory(image__study=study)
    for name in ("own_study", "own_study_status", "own_picture", "own_handover", "own_delete"):
        assert page.get(reverse(f"studies:{name}", args=[study.id])).status_code == 404
    assertContains(page.get(reverse("studies:own_list")), "Nothing uploaded yet")


def test_the_wording_in_force_is_the_one_that_was_published() -> None:
    # Who changes a sentence gives the wording a new version: consents name the old one by version and hash.
    published = {"2026-11": "d05a08d81d267fe20000f07ce8c84304e478b74bba5e75c65e7e4d14c2dc5b53"}
    assert {version: consent.wording_sha256(version) for version in consent.WORDINGS} == published
    assert consent.CURRENT in published


def test_names_in_the_file_s_name_are_not_on_the_page(page: Client) -> None:
    page.post(CREATE, filled_in())
    study = Study.objects.get()
    assertNotContains(page.get(reverse("studies:own_study", args=[study.id])), "Hans")
