"""The acts that cannot be taken back: a doctor signs a report, releases it to the patient, adds a signed remark."""

import logging
import smtplib
from dataclasses import dataclass

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.mail import send_mail
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.language import speaking_to
from accounts.models import User
from reports.content import collect_addendum, collect_content
from reports.errors import InvalidTransitionError, StaleDraftError
from reports.models import Addendum, Report
from reports.pdf import read_pictures, render_addendum, render_pdf
from reports.permissions import grant_release
from studies.models import Analysis

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Release:
    """What became of a release: whether the patient has a log-in yet, and whether the notice left by e-mail."""

    has_reader: bool
    is_notified: bool


def sign_report(report: Report, *, by: User, revision: int, evidence: str) -> None:
    """Freeze the report as the doctor has read it: content, hash and PDF.

    ``revision`` and ``evidence`` (``ReportContent.evidence``) name the text and the analyses that were on the page.
    Raises ``PermissionDenied``, ``InvalidTransitionError``, ``UnreadReportError``, ``StaleDraftError`` as
    ``Report.sign`` does, the last one also if another analysis has become the newest; ``PdfError`` if the PDF cannot
    be made. Nothing is stored then.
    """
    report.refresh_from_db()
    if not report.can_be_changed_by(by):
        raise PermissionDenied(_("Only a doctor who may work on the study can sign its report."))
    report.check_can_be_signed(by=by, revision=revision)
    if Analysis.objects.active().filter(image__study=report.study).exists():
        raise InvalidTransitionError(
            _("A slice of this study is still being analysed. Please wait until it is done, then read and sign.")
        )
    content = collect_content(report, reader=by, signature=report.signature_of(by, at=timezone.now()))
    if content.evidence != evidence:
        raise StaleDraftError(
            _("A slice was analysed again since you read this. Please look at the new pictures and figures, then sign.")
        )
    # Seconds of work, so outside any transaction; the conditional UPDATE in sign() decides who was first.
    pdf = render_pdf(content, pictures=read_pictures(content))
    report.sign(by=by, revision=revision, content=content, pdf=pdf)
    logger.info("Report %s signed, %d bytes of PDF.", report.id, len(pdf))


def release_report(report: Report, *, by: User, link: str) -> Release:
    """Let the patient read the signed report and tell them by e-mail that there is something to read.

    ``link`` is the address of the patient's list. The mail says nothing medical and names no hospital department.
    Raises ``PermissionDenied`` unless ``by`` may work on the study, ``InvalidTransitionError`` unless signed.
    """
    if not report.can_be_changed_by(by):
        raise PermissionDenied(_("Only a doctor who may work on the study can release its report."))
    with transaction.atomic():
        report.release(by=by)
        has_reader = grant_release(report)
    reader = report.study.patient.user
    is_notified = has_reader and reader is not None and _notify(reader, link=link, is_replaced=report.is_amendment)
    return Release(has_reader=has_reader, is_notified=is_notified)


def sign_addendum(report: Report, *, by: User, text: str, link: str) -> Addendum:
    """Add a signed remark to a signed report; the patient of a released one can read it at once and is told by e-mail.

    Raises ``PermissionDenied`` unless ``by`` may work on the study, ``InvalidTransitionError`` unless the report is
    signed and in force, ``PdfError`` if the page cannot be made. Nothing is stored then.
    """
    if not report.can_be_changed_by(by):
        raise PermissionDenied(_("Only a doctor who may work on the study can add to its report."))
    if not report.can_be_supplemented:
        raise InvalidTransitionError(
            _("Only a signed report that is in force can get an addendum. Please open its newest version.")
        )
    content = collect_addendum(
        report, text=text, number=report.addenda.count() + 1, signature=report.signature_of(by, at=timezone.now())
    )
    addendum = Addendum.sign(report, by=by, content=content, pdf=render_addendum(content))
    logger.info("Report %s got its addendum %d.", report.id, addendum.number)
    reader = report.study.patient.user
    if report.state == Report.State.RELEASED and reader is not None:
        _notify(reader, link=link)
    return addendum


def _notify(reader: User, *, link: str, is_replaced: bool = False) -> bool:
    context = {"reader": reader, "link": link, "is_replaced": is_replaced}
    with speaking_to(reader):
        subject = _("A document in your account was replaced") if is_replaced else _("A document is waiting for you")
        message = render_to_string("reports/release_email.txt", context)
    try:
        send_mail(
            subject=subject,
            message=message,
            from_email=settings.DEFAULT_FROM_EMAIL,
            recipient_list=[reader.email],
        )
    except (smtplib.SMTPException, OSError):
        # The release stands whether or not the post works; the doctor is told.
        logger.exception("The notice of a release could not be sent.")
        return False
    return True
