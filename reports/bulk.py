"""What a bulk job does with each study, and the archive at its end. Nothing here signs: each report must be opened."""

import logging
import re
import tempfile
import time
import zipfile

from django.core.exceptions import PermissionDenied
from django.core.files import File
from django.utils.translation import gettext as _

from accounts.models import AccessEvent, User
from reports.copies import copy_of
from reports.drafting import draft_report
from reports.errors import NothingToReportError, PdfError, ReportExistsError
from reports.models import BulkJob, BulkLine, Report
from reports.models.bulk import archive_path
from reports.my_data import write_my_data
from studies.models import Study

# After so long other work of the queue may pass: a slice that waits for its analysis, another doctor's job.
TURN_S = 15.0

logger = logging.getLogger(__name__)


def take_turn(job: BulkJob, *, turn_s: float = TURN_S) -> bool:
    """Work off waiting lines for a while; return whether the whole job is done.

    Raises ``InvalidTransitionError`` if the attempt was given up meanwhile; lines that are done stay done.
    """
    started = time.monotonic()
    waiting = job.lines.filter(state=BulkLine.State.WAITING).select_related("study__patient__hospital")
    for line in waiting.order_by("number"):
        if time.monotonic() - started > turn_s:
            job.hand_back()
            return False
        job.renew()
        if job.kind == BulkJob.Kind.MY_DATA:
            _choose_own_report(line, patient=job.requested_by)
        else:
            _work_off(line, kind=job.kind, doctor=job.requested_by)
    job.renew()
    job.finish(archive=_store_archive(job) if job.kind != BulkJob.Kind.DRAFT else "")
    return True


def _work_off(line: BulkLine, *, kind: str, doctor: User) -> None:
    # Asked anew for each line: between the click and this moment a doctor may have moved or lost a grant.
    studies = Study.objects.visible_to(doctor)
    if not studies.filter(id=line.study_id).exists():
        line.skip(_("You can no longer see this study."))
    elif kind == BulkJob.Kind.DRAFT:
        _draft(line, doctor=doctor)
    else:
        _choose_pdf(line)


def _draft(line: BulkLine, *, doctor: User) -> None:
    study = line.study
    if not study.can_be_changed_by(doctor):
        line.skip(_("You may read this study, but not work on it."))
        return
    try:
        report = draft_report(study, by=doctor)
    except ReportExistsError:
        line.skip(_("There is a report already."))
    except (NothingToReportError, PermissionDenied) as error:
        line.skip(str(error))
    else:
        line.finish(report)
        # In the worker there is no request, and so no address.
        AccessEvent.note_of(action=AccessEvent.Action.CREATED, target=report, actor=doctor)


def _choose_pdf(line: BulkLine) -> None:
    report = Report.objects.in_force().filter(study=line.study_id).first()
    if report is None:
        has_draft = Report.objects.filter(study=line.study_id).exists()
        line.skip(_("The report is not signed yet.") if has_draft else _("There is no report yet."))
        return
    line.finish(report)


def _choose_own_report(line: BulkLine, *, patient: User) -> None:
    report = Report.objects.visible_to(patient).filter(study=line.study_id).first()
    if report is None:
        line.skip(_("This report is no longer released to you."))
    else:
        line.finish(report)


def _store_archive(job: BulkJob) -> str:
    """Write the ZIP of a job into the private store; return its name, or nothing for one without content."""
    lines = job.lines.filter(state=BulkLine.State.DONE).select_related("report__study__patient").order_by("number")
    with tempfile.TemporaryFile() as target:
        count = 0
        if job.kind == BulkJob.Kind.MY_DATA:
            reports = [line.report for line in lines if line.report is not None]
            with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
                write_my_data(archive, user=job.requested_by, reports=reports, keep_alive=job.renew)
            target.seek(0)
            own: str = job.archive.storage.save(archive_path(job, "archive.zip"), File(target))
            logger.info("Bulk job %s: somebody's own data with %d reports.", job.id, len(reports))
            return own
        # PDFs are compressed already.
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for line in lines:
                assert line.report is not None  # noqa: S101 - narrows the type: a line that is done has one
                job.renew()
                try:
                    copy = copy_of(line.report)
                except PdfError as error:
                    line.skip(str(error))
                    continue
                archive.writestr(_name_of(line, suffix=copy.name), copy.pdf)
                count += 1
        if not count:
            return ""
        target.seek(0)
        name: str = job.archive.storage.save(archive_path(job, "archive.zip"), File(target))
    logger.info("Bulk job %s: an archive of %d reports.", job.id, count)
    return name


def _name_of(line: BulkLine, *, suffix: str) -> str:
    """Name a file in the archive by the patient's record number, as far as it goes into a file name."""
    number = re.sub(r"[^A-Za-z0-9-]+", "-", line.study.patient.record_number).strip("-") or "record"
    return f"{line.number:03d}-{number}-{suffix}"
