"""Erasure at the patient's wish: who asks, who decides, what really goes, what stays, and what is told."""

import datetime
from pathlib import Path

import pytest
from django.core import mail
from django.core.files.storage import default_storage
from django.db import IntegrityError, transaction
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from pytest_django.asserts import assertContains, assertNotContains
from pytest_django.fixtures import Settings

from accounts.audit import verify_chain
from accounts.models import AccessEvent, User
from portal.erasure import erase_record, plan_erasure
from portal.retention import apply_retention
from reports.models import BulkJob, Report, ShareLink
from reports.tasks import run_bulk_job
from studies.errors import ErasureError
from studies.models import Analysis, ErasureRequest, Finding, FirstImpression, Image, Patient, Study
from studies.reviewing import Judgement, add_finding
from tests.factories import (
    AdministratorFactory,
    AnalysisFactory,
    DoctorFactory,
    FirstImpressionFactory,
    ImageFactory,
    OwnStudyFactory,
    PatientFactory,
    ReportFactory,
    StudyFactory,
    UserFactory,
    outline_png,
)

pytestmark = pytest.mark.django_db(transaction=True)
MINE = reverse("erasure_mine")


@pytest.fixture(autouse=True)
def _ten_years(settings: Settings) -> None:
    settings.RETENTION_YEARS, settings.RETENTION_MINIMUM_AGE_YEARS = 10, 28


@pytest.fixture
def record() -> Patient:
    return PatientFactory(user=UserFactory())


@pytest.fixture
def administrator(record: Patient) -> User:
    return AdministratorFactory(hospital=record.hospital)


@pytest.fixture
def reported(record: Patient) -> Report:
    """A study with a released report, a doctor's outline and a first impression."""
    study = StudyFactory(patient=record, created_by=record.created_by)
    report = ReportFactory(study=study, is_released=True)
    image = study.images.get()
    add_finding(image, by=record.created_by, judgement=Judgement(verdict="added", outline=outline_png()))
    FirstImpressionFactory(study=study)
    return report


@pytest.fixture
def unreported(record: Patient) -> Study:
    study = StudyFactory(patient=record, created_by=record.created_by)
    AnalysisFactory(image=ImageFactory(study=study), is_done=True)
    return study


def files() -> set[str]:
    root = Path(default_storage.location)
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def ask(record: Patient) -> ErasureRequest:
    assert record.user is not None
    return ErasureRequest.ask(record, by=record.user, message="Please.")


def decide(client: Client, wish: ErasureRequest, *, by: User, decision: str = "erase", reason: str = "You asked."):
    client.force_login(by)
    address = reverse("erasure_decide", args=[wish.pk])
    return client.post(address, {"decision": decision, "reason": reason}, follow=True)


def test_a_record_without_signed_reports_goes_as_a_whole(
    client: Client, record: Patient, unreported: Study, administrator: User
) -> None:
    ReportFactory(study=StudyFactory(patient=record, created_by=record.created_by))  # a draft
    wish = ask(record)
    assertContains(decide(client, wish, by=administrator), "It is done")
    for model in (Study, Image, Analysis, Finding, Report, Patient):
        assert not model.objects.exists(), model
    assert files() == set()
    wish.refresh_from_db()
    assert (wish.state, wish.patient, wish.studies_erased, wish.studies_kept) == ("granted", None, 2, 0)
    deleted = AccessEvent.objects.filter(action="deleted").order_by("sequence")
    assert [event.target_type for event in deleted] == ["studies.study", "studies.study", "studies.patient"]
    assert {event.actor for event in deleted} == {administrator}
    assert {event.patient_id for event in deleted} == {record.pk}
    assert verify_chain().problems == ()


def test_pictures_go_and_a_signed_report_under_retention_stays(
    client: Client, record: Patient, reported: Report, unreported: Study, administrator: User
) -> None:
    before = files()
    wish = ask(record)
    client.force_login(administrator)
    page = client.get(reverse("erasure_decide", args=[wish.pk]))
    assertContains(page, "kept until")
    assertContains(page, "none to be kept: erased as a whole")
    assert files() == before
    decide(client, wish, by=administrator)
    assert files() == {reported.pdf.name}
    assert list(Study.objects.all()) == [reported.study]
    for model in (Image, Analysis, Finding, FirstImpression):
        assert not model.objects.exists(), model
    reported.refresh_from_db()
    assert reported.verify().is_intact
    assert Patient.objects.get() == record
    wish.refresh_from_db()
    assert (wish.studies_erased, wish.studies_kept) == (1, 1)
    assert wish.kept_until is not None
    assert wish.kept_until >= timezone.localdate() + datetime.timedelta(days=3650)
    study = Study.objects.get()
    assert (study.state, study.triage_class) == ("", "")


def test_what_stays_is_readable_without_broken_pictures(
    client: Client, record: Patient, reported: Report, administrator: User
) -> None:
    decide(client, ask(record), by=administrator)
    for person, name in ((record.user, "reports:my_report"), (record.created_by, "reports:report_detail")):
        client.force_login(person)
        page = client.get(reverse(name, args=[reported.id]))
        assertContains(page, "The pictures were erased")
        assertNotContains(page, "overlays/1.png")
        assert client.get(reverse("reports:report_overlay", args=[reported.id, 1])).status_code == 404
        assert client.get(reverse("reports:report_pdf", args=[reported.id])).content.startswith(b"%PDF")
    assert client.get(reverse("studies:study_detail", args=[reported.study_id])).status_code == 200
    assert client.get(reverse("studies:study_list")).status_code == 200


def test_when_its_time_is_over_the_kept_report_goes_too(
    client: Client, record: Patient, reported: Report, administrator: User
) -> None:
    decide(client, ask(record), by=administrator)
    until = ErasureRequest.objects.get().kept_until
    assert until is not None
    day = datetime.datetime(until.year, until.month, until.day, 12, tzinfo=datetime.UTC)
    assert apply_retention(now=day - datetime.timedelta(days=2), is_dry_run=False).studies == 0
    assert apply_retention(now=day + datetime.timedelta(days=2), is_dry_run=False).studies == 1
    assert not Patient.objects.exists()
    assert files() == set()
    assert ErasureRequest.objects.get().patient is None


def test_a_report_whose_time_is_over_is_not_kept(record: Patient, reported: Report) -> None:
    later = timezone.now() + datetime.timedelta(days=11 * 366)
    assert [one.is_kept for one in plan_erasure(record, now=timezone.now()).studies] == [True]
    assert [one.is_kept for one in plan_erasure(record, now=later).studies] == [False]


def test_without_a_retention_time_signed_reports_stay_without_an_end(
    client: Client, record: Patient, reported: Report, administrator: User, settings: Settings
) -> None:
    settings.RETENTION_YEARS = 0
    wish = ask(record)
    client.force_login(administrator)
    assertContains(client.get(reverse("erasure_decide", args=[wish.pk])), "no retention time is set")
    decide(client, wish, by=administrator)
    wish.refresh_from_db()
    assert (wish.studies_kept, wish.kept_until) == (1, None)
    client.force_login(record.user)
    assertContains(client.get(MINE), "has set no end to its retention time")


def test_a_child_s_report_stays_until_the_child_is_grown_up(record: Patient, reported: Report) -> None:
    born = timezone.localdate().replace(day=1) - datetime.timedelta(days=366)
    Patient.objects.update(birth_date=born)
    reported.study.patient.refresh_from_db()
    (one,) = plan_erasure(Patient.objects.get(), now=timezone.now()).studies
    assert one.kept_until is not None
    assert one.kept_until.year == born.year + 28


def test_links_and_archives_with_what_was_erased_end(
    client: Client, record: Patient, reported: Report, administrator: User
) -> None:
    assert record.user is not None
    link, _token = ShareLink.issue(reported, recipient_email="aunt@example.org", by=record.user, days=7)
    jobs = [
        BulkJob.objects.start(kind="my_data", studies=[reported.study], by=record.user),
        BulkJob.objects.start(kind="pdf", studies=[reported.study], by=record.created_by),
    ]
    for job in jobs:
        run_bulk_job(str(job.pk))
    assert BulkJob.objects.exclude(archive="").count() == 2
    decide(client, ask(record), by=administrator)
    link.refresh_from_db()
    assert link.revoked_at is not None
    assert not BulkJob.objects.exclude(archive="").exists()
    assert files() == {reported.pdf.name}


def test_a_refusal_erases_nothing_and_tells_why(
    client: Client, record: Patient, unreported: Study, administrator: User
) -> None:
    before = files()
    wish = ask(record)
    page = decide(client, wish, by=administrator, decision="refuse", reason="A court asks for <b>it</b>.")
    assertContains(page, "It is done")
    assert files() == before
    client.force_login(record.user)
    assertContains(client.get(MINE), "A court asks for &lt;b&gt;it&lt;/b&gt;.")
    (told,) = mail.outbox
    assert told.to == [record.user.email]  # type: ignore[union-attr]
    for word in ("court", "CT", "scan", "report", "record", record.record_number, record.hospital.name):
        assert word not in told.subject + told.body.replace(MINE, "")


@pytest.mark.parametrize("data", [{}, {"decision": "erase"}, {"decision": "erase", "reason": "  "}, {"reason": "Why."}])
def test_no_decision_without_a_reason(
    client: Client, record: Patient, unreported: Study, administrator: User, data: dict[str, str]
) -> None:
    wish = ask(record)
    client.force_login(administrator)
    assert client.post(reverse("erasure_decide", args=[wish.pk]), data).status_code == 400
    wish.refresh_from_db()
    assert wish.is_waiting
    assert Study.objects.exists()


def test_only_an_administrator_of_that_hospital_decides(
    client: Client, record: Patient, unreported: Study, administrator: User
) -> None:
    wish = ask(record)
    doctor, nobody = record.created_by, AdministratorFactory(hospital=None)
    for other in (AdministratorFactory(), nobody, doctor, DoctorFactory(), record.user, UserFactory()):
        client.force_login(other)
        address = reverse("erasure_decide", args=[wish.pk])
        assert client.post(address, {"decision": "erase", "reason": "Mine."}).status_code == 404
        assert not ErasureRequest.objects.decidable_by(other).exists()
    assert Study.objects.exists()
    assert list(ErasureRequest.objects.decidable_by(administrator)) == [wish]


def test_the_second_decision_is_told_and_changes_nothing(
    client: Client, record: Patient, unreported: Study, administrator: User
) -> None:
    wish = ask(record)
    decide(client, wish, by=administrator, decision="refuse", reason="First.")
    assertContains(decide(client, wish, by=administrator), "decided or withdrawn already")
    wish.refresh_from_db()
    assert (wish.state, wish.reason) == ("refused", "First.")
    assert Study.objects.exists()


def test_of_two_erasures_at_once_the_second_is_told(
    client: Client, record: Patient, unreported: Study, administrator: User
) -> None:
    wish = ask(record)
    stale = ErasureRequest.objects.select_related("patient").get(pk=wish.pk)
    decide(client, wish, by=administrator)
    request = RequestFactory().post("/")
    request.user = administrator
    with pytest.raises(ErasureError, match="erased already"):
        erase_record(stale, by=administrator, reason="Again.", request=request)
    wish.refresh_from_db()
    assert wish.reason == "You asked."


def test_while_a_slice_is_analysed_nothing_is_erased(
    client: Client, record: Patient, unreported: Study, administrator: User
) -> None:
    AnalysisFactory(image=ImageFactory(study=unreported), is_running=True)
    wish = ask(record)
    assertContains(decide(client, wish, by=administrator), "being analysed")
    wish.refresh_from_db()
    assert wish.is_waiting
    assert Image.objects.count() == 2


def test_a_patient_asks_once_for_an_own_record_and_may_withdraw(client: Client, record: Patient) -> None:
    client.force_login(record.user)
    client.post(reverse("erasure_ask", args=[record.pk]), {"message": "Please erase."})
    wish = ErasureRequest.objects.get()
    with pytest.raises(ErasureError, match="asked this hospital already"):
        ask(record)
    for stranger in (PatientFactory(user=UserFactory()), PatientFactory()):
        assert client.post(reverse("erasure_ask", args=[stranger.pk])).status_code == 404
    with pytest.raises(ErasureError, match="Only your own record"):
        ErasureRequest.ask(record, by=UserFactory())
    client.post(reverse("erasure_withdraw", args=[wish.pk]))
    wish.refresh_from_db()
    assert wish.state == "withdrawn"
    assert ask(record).is_waiting
    client.post(reverse("erasure_withdraw", args=[wish.pk]))
    assert ErasureRequest.objects.filter(state="requested").count() == 1


def test_what_no_hospital_has_is_deleted_by_oneself(client: Client, record: Patient) -> None:
    assert record.user is not None
    own = OwnStudyFactory(created_by=record.user)
    with pytest.raises(ErasureError, match="Only your own record at a hospital"):
        ErasureRequest.ask(own.patient, by=record.user)
    client.force_login(record.user)
    assert client.post(reverse("erasure_ask", args=[own.patient_id])).status_code == 404


def test_a_decision_without_reason_is_refused_by_the_database(record: Patient) -> None:
    wish = ask(record)
    for changes in (
        {"state": "refused", "decided_by": record.user, "decided_at": timezone.now()},
        {"state": "refused", "reason": "Why."},
        {"state": "requested", "decided_at": timezone.now()},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            ErasureRequest.objects.filter(pk=wish.pk).update(**changes)
