"""Many studies at once: every line gets its answer, nothing is done twice, nothing is signed unread."""

import io
import uuid
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.db import IntegrityError, transaction
from django.urls import get_resolver, reverse
from django.utils import timezone
from django_q.models import OrmQ

from accounts.models import AccessEvent
from reports import bulk, tasks
from reports.errors import InvalidTransitionError
from reports.models import BulkJob, BulkLine, Report
from reports.views.bulk import MAX_STUDIES
from studies.models import Study, StudyUserObjectPermission
from studies.permissions import grant_study
from tests.factories import AnalysisFactory, DoctorFactory, ImageFactory, ReportFactory, StudyFactory

pytestmark = pytest.mark.django_db


def analysed(doctor) -> Study:
    study = StudyFactory(created_by=doctor)
    AnalysisFactory(image=ImageFactory(study=study), is_done=True)
    return study


def start(studies, *, by, kind: str = "draft") -> BulkJob:
    return BulkJob.objects.start(kind=kind, studies=studies, by=by)


def lines_of(job: BulkJob) -> list[tuple[str, str]]:
    return [(line.state, line.reason) for line in job.lines.order_by("number")]


# --- drafts -----------------------------------------------------------------------------------------------------------


def test_every_study_gets_a_line_done_or_skipped_because(doctor):
    colleague = DoctorFactory(hospital=doctor.hospital)
    readable = analysed(colleague)
    grant_study(readable, to=doctor, can_change=False)
    failed = StudyFactory(created_by=doctor)
    AnalysisFactory(image=ImageFactory(study=failed), has_failed=True)
    reported = ReportFactory(study=analysed(doctor)).study
    gone = analysed(doctor)
    job = start([analysed(doctor), readable, failed, reported, gone], by=doctor)
    StudyUserObjectPermission.objects.filter(content_object=gone).delete()
    tasks.run_bulk_job(str(job.id))
    job.refresh_from_db()
    assert job.state == BulkJob.State.DONE
    states, reasons = zip(*lines_of(job), strict=True)
    assert states == ("done", "skipped", "skipped", "skipped", "skipped")
    for reason, words in zip(
        reasons, ("", "not work on it", "no analysis of this study", "a report already", "no longer see"), strict=True
    ):
        assert words in reason
    assert Report.objects.count() == 2
    assert AccessEvent.objects.filter(actor=doctor, action="created").count() == 1


def test_a_draft_waits_for_the_first_impression(doctor):
    doctor.hospital.reads_first = True
    doctor.hospital.save()
    job = start([analysed(doctor)], by=doctor)
    tasks.run_bulk_job(str(job.id))
    assert "first impression" in lines_of(job)[0][1]
    assert not Report.objects.exists()


def test_pain_10_a_job_outlives_closed_browser_restarted_worker_and_resubmitted_form(doctor, monkeypatch):
    studies = [analysed(doctor) for _ in range(3)]
    job = start(studies, by=doctor)
    assert start(list(reversed(studies)), by=doctor) == job, "the same request while it runs is the same job"
    write, written = bulk.draft_report, []

    def die_at_the_second(study, *, by):
        if len(written) == 1:
            raise SystemExit("the worker was killed")
        written.append(study)
        return write(study, by=by)

    monkeypatch.setattr(bulk, "draft_report", die_at_the_second)
    with pytest.raises(SystemExit):
        tasks.run_bulk_job(str(job.id))
    monkeypatch.setattr(bulk, "draft_report", write)
    job.refresh_from_db()
    assert job.state == BulkJob.State.RUNNING
    tasks.run_bulk_job(str(job.id))
    assert Report.objects.count() == 1, "a running job is nobody else's"
    BulkJob.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    tasks.sweep()
    job.refresh_from_db()
    assert (job.state, job.attempt) == (BulkJob.State.QUEUED, 2)
    for _ in range(2):
        tasks.run_bulk_job(str(job.id))
    job.refresh_from_db()
    assert job.state == BulkJob.State.DONE
    assert [state for state, _reason in lines_of(job)] == ["done"] * 3
    assert Report.objects.count() == 3


def test_after_the_last_attempt_the_job_fails_with_a_sentence(doctor, settings):
    job = start([analysed(doctor)], by=doctor)
    BulkJob.objects.claim(job.id)
    BulkJob.objects.update(
        lease_expires_at=timezone.now() - timedelta(seconds=1), attempt=settings.ANALYSIS_MAX_ATTEMPTS
    )
    tasks.sweep()
    job.refresh_from_db()
    assert job.state == BulkJob.State.FAILED
    assert "please start it again" in job.error
    assert start([job.lines.get().study], by=doctor) != job


def test_a_late_worker_overwrites_nothing(doctor):
    job = start([analysed(doctor)], by=doctor)
    late = BulkJob.objects.claim(job.id)
    assert late is not None
    assert BulkJob.objects.claim(job.id) is None
    BulkJob.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    tasks.sweep()
    for act in (late.renew, late.hand_back, late.finish, lambda: late.fail("Late.")):
        with pytest.raises(InvalidTransitionError):
            act()


def test_a_long_job_lets_other_work_pass(doctor):
    job = start([analysed(doctor) for _ in range(2)], by=doctor)
    claimed = BulkJob.objects.claim(job.id)
    assert not bulk.take_turn(claimed, turn_s=-1)
    job.refresh_from_db()
    assert (job.state, job.attempt) == (BulkJob.State.QUEUED, 1)
    tasks.run_bulk_job(str(job.id))
    job.refresh_from_db()
    assert job.state == BulkJob.State.DONE


def test_a_surprise_fails_the_job_with_a_sentence_and_keeps_what_is_done(doctor, monkeypatch):
    job = start([analysed(doctor)], by=doctor)
    monkeypatch.setattr(bulk, "_draft", lambda *args, **kwargs: 1 / 0)
    tasks.run_bulk_job(str(job.id))
    job.refresh_from_db()
    assert job.state == BulkJob.State.FAILED
    assert "ZeroDivision" not in job.error


def test_a_lost_message_is_sent_again(doctor):
    job = start([analysed(doctor)], by=doctor)
    BulkJob.objects.update(enqueued_at=None, queued_at=timezone.now() - timedelta(minutes=1))
    before = OrmQ.objects.count()
    tasks.sweep()
    assert OrmQ.objects.count() == before + 1
    job.refresh_from_db()
    assert job.enqueued_at is not None


# --- pages ------------------------------------------------------------------------------------------------------------


def test_the_form_starts_a_job_and_shows_its_lines(doctor, log_in, django_capture_on_commit_callbacks):
    studies = [analysed(doctor) for _ in range(2)]
    browser = log_in(doctor)
    with django_capture_on_commit_callbacks(execute=True):
        answer = browser.post(reverse("reports:bulk_draft"), {"studies": [str(study.id) for study in studies]})
    job = BulkJob.objects.get()
    assert answer.headers["Location"] == reverse("reports:bulk_job", args=[job.id])
    assert job.enqueued_at is not None or BulkJob.objects.get().enqueued_at is not None
    page = browser.get(answer.headers["Location"]).content.decode()
    assert "0 of 2 studies" in page
    assert "every 1s" in page
    tasks.run_bulk_job(str(job.id))
    page = browser.get(answer.headers["Location"]).content.decode()
    assert "2 studies are done" in page
    assert "hx-get" not in page
    assert studies[0].patient.family_name in page
    assert str(job.id) in browser.get(reverse("reports:report_list")).content.decode()


def test_foreign_studies_are_left_out_and_alone_do_not_exist(doctor, log_in):
    mine, foreign = analysed(doctor), analysed(DoctorFactory())
    browser = log_in(doctor)
    answer = browser.post(reverse("reports:bulk_draft"), {"studies": [str(foreign.id)]})
    assert answer.status_code == 404
    answer = browser.post(
        reverse("reports:bulk_draft"), {"studies": [str(foreign.id), str(mine.id), str(mine.id)]}, follow=True
    )
    assert [line.study for line in BulkLine.objects.all()] == [mine]
    assert "1 of the chosen studies can no longer be seen" in answer.content.decode()


@pytest.mark.parametrize("studies", [[], ["not-a-uuid", ""], [str(uuid.uuid4()) for _ in range(MAX_STUDIES + 1)]])
def test_nothing_odd_or_too_much_starts_a_job(doctor, log_in, studies):
    answer = log_in(doctor).post(reverse("reports:bulk_pdf"), {"studies": studies})
    assert answer.headers["Location"] == reverse("studies:study_list")
    assert not BulkJob.objects.exists()


def test_nobody_sees_anothers_job_and_lost_studies_lose_their_names(doctor, log_in):
    study = analysed(doctor)
    job = start([study], by=doctor)
    address = reverse("reports:bulk_job", args=[job.id])
    for person in (DoctorFactory(hospital=doctor.hospital), DoctorFactory()):
        assert log_in(person).get(address).status_code == 404
    StudyUserObjectPermission.objects.filter(content_object=study).delete()
    page = log_in(doctor).get(address).content.decode()
    assert "can no longer see" in page
    assert study.patient.family_name not in page


def test_no_page_signs_many_reports(doctor, log_in):
    """Signing in bulk is impossible: no address offers it, and a signature for an unread report is refused."""
    names = {str(name) for name in get_resolver("reports.urls").reverse_dict if isinstance(name, str)}
    assert not [name for name in names if "sign" in name and name != "report_sign"]
    reports = [ReportFactory(study=analysed(doctor)) for _ in range(2)]
    browser = log_in(doctor)
    for report in reports:
        data = {"revision": report.revision, "evidence": report.content.evidence, "is_confirmed": "on"}
        assert browser.post(reverse("reports:report_sign", args=[report.id]), data).status_code == 409
    assert set(Report.objects.values_list("state", flat=True)) == {"draft"}


# --- archives ---------------------------------------------------------------------------------------------------------


def test_pain_10_pdfs_leave_as_one_archive_and_each_is_recorded(doctor, signed, log_in, settings):
    draft = ReportFactory(study=analysed(doctor))
    job = start([signed.study, draft.study, analysed(doctor)], by=doctor, kind="pdf")
    tasks.run_bulk_job(str(job.id))
    assert lines_of(job) == [
        ("done", ""),
        ("skipped", "The report is not signed yet."),
        ("skipped", "There is no report yet."),
    ]
    browser = log_in(doctor)
    address = reverse("reports:bulk_archive", args=[job.id])
    assert address in browser.get(reverse("reports:bulk_job", args=[job.id])).content.decode()
    answer = browser.get(address)
    assert answer["Cache-Control"] == "private, no-store"
    with zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content))) as archive:
        (name,) = archive.namelist()
        assert name.startswith(f"001-{signed.study.patient.record_number}-report-2026-03-09")
        assert archive.read(name) == signed.read_pdf()
    assert AccessEvent.objects.filter(actor=doctor, action="downloaded", target_id=signed.id).count() == 1

    # Somebody who may no longer see one of its reports gets nothing of it.
    StudyUserObjectPermission.objects.filter(content_object=signed.study).delete()
    answer = browser.get(address, follow=True)
    assert "no longer see every report" in answer.content.decode()
    assert log_in(DoctorFactory(hospital=doctor.hospital)).get(address).status_code == 404

    # After its time it is gone, from the disk too.
    BulkJob.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert browser.get(address).status_code == 404
    tasks.sweep()
    assert not list(Path(settings.MEDIA_ROOT).glob("archives/**/*.zip"))
    assert "was deleted" in browser.get(reverse("reports:bulk_job", args=[job.id])).content.decode()


def test_a_damaged_pdf_is_skipped_with_the_reason(doctor, signed):
    default_storage.delete(signed.pdf.name)
    job = start([signed.study], by=doctor, kind="pdf")
    tasks.run_bulk_job(str(job.id))
    job.refresh_from_db()
    ((state, reason),) = lines_of(job)
    assert state == "skipped"
    assert "damaged" in reason
    assert not job.archive


def test_an_odd_record_number_makes_a_plain_file_name(doctor, signed):
    patient = signed.study.patient
    patient.record_number = "../../etc/ä b"
    patient.save()
    line = BulkLine(number=7, study=signed.study)
    assert bulk._name_of(line, suffix="report.pdf") == "007-etc-b-report.pdf"


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (BulkJob, {"state": "running"}),
        (BulkJob, {"state": "failed"}),
        (BulkJob, {"archive": "a.zip"}),
        (BulkLine, {"state": "skipped"}),
    ],
)
def test_what_must_be_true_of_jobs_is_held_by_the_database(doctor, model, changes):
    start([analysed(doctor)], by=doctor)
    with pytest.raises(IntegrityError), transaction.atomic():
        model.objects.update(**changes)
