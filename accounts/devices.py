"""A mail to whoever logs in on a device for the first time, so that a stranger's log-in does not stay unseen."""

import hashlib
import logging
import secrets
from datetime import timedelta
from smtplib import SMTPException
from typing import Final

from allauth.account.adapter import get_adapter
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from accounts.models import KnownDevice, User

COOKIE: Final = "known_device"
REMEMBERED_FOR: Final = timedelta(days=365)
logger = logging.getLogger(__name__)


def notice_device(
    sender: type[User], *, request: HttpRequest, user: User, response: HttpResponse | None = None, **kwargs: object
) -> None:
    """Remember the browser that this log-in comes from, and mail its owner if it is a new one.

    The first of all log-ins is no news. The mail names time, address and browser, and nothing medical.
    """
    token = request.COOKIES.get(COOKIE) or secrets.token_urlsafe(32)
    token_hash = hashlib.sha256(token.encode()).hexdigest()
    KnownDevice.objects.filter(user=user, last_seen_at__lt=timezone.now() - REMEMBERED_FOR).delete()
    has_devices = KnownDevice.objects.filter(user=user).exists()
    _device, is_new = KnownDevice.objects.update_or_create(
        user=user, token_hash=token_hash, defaults={"last_seen_at": timezone.now()}
    )
    if response is not None:
        response.set_cookie(
            COOKIE,
            token,
            max_age=REMEMBERED_FOR,
            httponly=True,
            secure=settings.SESSION_COOKIE_SECURE,
            samesite="Lax",
        )
    if is_new and has_devices:
        _mail(request, user=user)


def _mail(request: HttpRequest, *, user: User) -> None:
    context = {"user": user, "sessions_url": request.build_absolute_uri(reverse("accounts:sessions"))}
    try:
        get_adapter(request).send_notification_mail("accounts/email/new_device", user, context)
    except (OSError, SMTPException):
        # A mail server that is down must keep nobody out.
        logger.exception("The notice of a new device of %s could not be mailed.", user.pk)
