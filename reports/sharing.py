"""A patient shows one report to somebody outside the portal: the mails of a link, and what a browser has proven."""

import logging
import secrets
import smtplib
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.mail import send_mail
from django.db import transaction
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from reports.errors import MailError
from reports.models import Report, ShareLink

SESSION_KEY: Final = "share_links"
# After a code the report stays open in this browser for so long, at most until the browser is closed.
READ_FOR: Final = timedelta(hours=1)
# How long a link may last; those beyond ``settings.SHARE_MAX_DAYS`` are not offered.
DAYS: Final = (1, 7, 14, 30, 90)
logger = logging.getLogger(__name__)


def days_to_choose() -> tuple[int, ...]:
    """Return for how many days a link may last, shortest first."""
    return tuple(sorted({days for days in DAYS if days < settings.SHARE_MAX_DAYS} | {settings.SHARE_MAX_DAYS}))


def share_report(request: HttpRequest, report: Report, *, by: User, email: str, days: int) -> ShareLink:
    """Make a link to one released report and mail it to its reader.

    The mail names the patient by the given name and says nothing medical. Raises ``PermissionDenied`` for a report
    that ``by`` does not read as its patient, ``MailError`` if the mail could not be sent; nothing is stored then.
    """
    if not by.is_patient or not Report.objects.visible_to(by).filter(pk=report.pk).exists():
        raise PermissionDenied(_("Only the patient can share a report that was released to them."))
    with transaction.atomic():
        link, token = ShareLink.issue(report, by=by, recipient_email=email, days=days)
        address = request.build_absolute_uri(reverse("reports:share_open", kwargs={"token": token}))
        _mail(
            link,
            subject=_("%(name)s shares a document with you") % {"name": by.get_short_name()},
            template="reports/share_email.txt",
            context={"link": link, "sender": by.get_short_name(), "address": address},
        )
    return link


def send_code(request: HttpRequest, link: ShareLink) -> None:
    """Mail a code to the link's reader that opens the report in this browser. Raises ``MailError``."""
    entry = _entries(request).get(str(link.pk), {})
    browser = entry.get("browser") or secrets.token_urlsafe(16)
    with transaction.atomic():
        code = link.issue_code(browser=browser)
        _mail(
            link,
            subject=_("Your code"),
            template="reports/share_code_email.txt",
            context={
                "code": f"{code[:4]} {code[4:]}",
                "minutes": ShareLink.CODE_VALID_FOR // timedelta(minutes=1),
            },
        )
    _remember(request, link, browser=browser)


def is_waiting_for_code(request: HttpRequest, link: ShareLink) -> bool:
    """Return whether this browser has asked for a code that still opens the link."""
    return str(link.pk) in _entries(request) and link.has_code(at=timezone.now())


def try_code(request: HttpRequest, link: ShareLink, *, code: str) -> bool:
    """Return whether the code is right; from then on this browser reads the report for ``READ_FOR``."""
    browser = _entries(request).get(str(link.pk), {}).get("browser", "")
    if not browser or not link.use_code(code, browser=browser):
        return False
    if not request.user.is_authenticated:
        # A session that somebody else has planted in this browser learns nothing; a log-in's is never planted.
        request.session.cycle_key()
    _remember(request, link, browser=browser, proven_at=timezone.now().isoformat())
    return True


def is_proven(request: HttpRequest, link: ShareLink) -> bool:
    """Return whether this browser has entered the right code for the link, and not too long ago."""
    proven_at = _entries(request).get(str(link.pk), {}).get("proven_at")
    return proven_at is not None and datetime.fromisoformat(proven_at) > timezone.now() - READ_FOR


def _entries(request: HttpRequest) -> dict[str, Any]:
    entries: dict[str, Any] = request.session.get(SESSION_KEY, {})
    return entries


def _remember(request: HttpRequest, link: ShareLink, **entry: str) -> None:
    request.session[SESSION_KEY] = _entries(request) | {str(link.pk): entry}
    if not request.user.is_authenticated:
        # What a reader without an account has proven goes with the browser's window.
        request.session.set_expiry(0)


def _mail(link: ShareLink, *, subject: str, template: str, context: dict[str, Any]) -> None:
    try:
        send_mail(
            subject=subject,
            message=render_to_string(template, context),
            from_email=settings.DEFAULT_FROM_EMAIL,
            recipient_list=[link.recipient_email],
        )
    except (smtplib.SMTPException, OSError) as error:
        logger.exception("A mail of share link %s could not be sent.", link.pk)
        raise MailError(_("The e-mail could not be sent just now. Please try again in a few minutes.")) from error
