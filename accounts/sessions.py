"""How long a log-in lasts, and which ones somebody has open.

A session ends after an idle time that depends on the role, at the latest after ``SESSION_ABSOLUTE_HOURS``, and at once
when its owner changes the password (Django) or ends it from another device. Whoever comes back is led to the log-in
with the way back to the page that was open.
"""

import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from allauth.account.adapter import get_adapter
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.middleware import LoginRequiredMiddleware as DjangoLoginRequiredMiddleware
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import User

BEGAN_KEY: Final = "began_at"
SEEN_KEY: Final = "seen_at"
PRECISION_S: Final = 30  # a session that was seen so recently is not written again
# In this order: Edge and Opera call themselves Chrome too, and Chrome calls itself Safari.
BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
SYSTEMS: Final = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
View = Callable[[HttpRequest], HttpResponseBase]


def start_clock(sender: type[User], *, request: HttpRequest, **kwargs: object) -> None:
    """Note when a session began; called at every log-in."""
    request.session[BEGAN_KEY] = request.session[SEEN_KEY] = time.time()


def idle_limit_s(user: User) -> int:
    """Return after how many seconds without a click this person's session ends."""
    return int(settings.SESSION_IDLE_MINUTES[user.role]) * 60


def end_sessions(user: User, *, keep: str | None = None) -> int:
    """End this person's sessions on all devices but the one whose session key is ``keep``. Returns how many."""
    sessions = [one for one in UserSession.objects.filter(user=user) if one.session_key != keep]
    for session in sessions:
        session.end()
    return len(sessions)


def end_other_sessions(request: HttpRequest, *, user: User, **kwargs: object) -> None:
    """End all sessions of a person but the one of this request."""
    end_sessions(user, keep=request.session.session_key)


def browser_name(user_agent: str) -> str:
    """Return browser and system in a few plain words, good enough to recognise one's own device."""
    browser = next((name for mark, name in BROWSERS if mark in user_agent), "")
    system = next((name for mark, name in SYSTEMS if mark in user_agent), "")
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or _("Unknown browser")


class SessionLifetimeMiddleware:
    """Ends sessions that nobody has used for too long or that began too long ago.

    Stands behind authentication and in front of the log-in wall, which then leads to the log-in and back.
    """

    def __init__(self, get_response: View) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """End the session where its time is up; note the visit otherwise."""
        if settings.SESSION_COOKIE_NAME in request.COOKIES and isinstance(request.user, User):
            if sentence := _why_over(request, user=request.user):
                logout(request)
                messages.info(request, sentence)
        response = self.get_response(request)
        self._note_visit(request)
        return response

    def _note_visit(self, request: HttpRequest) -> None:
        if BEGAN_KEY not in request.session or not isinstance(request.user, User):
            return
        match = request.resolver_match
        is_part = request.headers.get("HX-Request") == "true"
        if is_part and match is not None and match.view_name in settings.SESSION_PASSIVE_VIEWS:
            return
        now = time.time()
        if now - request.session[SEEN_KEY] < PRECISION_S:
            return
        request.session[SEEN_KEY] = now
        UserSession.objects.filter(session_key=request.session.session_key).update(
            last_seen_at=timezone.now(), ip=get_adapter().get_client_ip(request)
        )


def _why_over(request: HttpRequest, *, user: User) -> str:
    """Return why this session is over, as a sentence; empty while it goes on."""
    now = time.time()
    began = request.session.setdefault(BEGAN_KEY, now)
    seen = request.session.setdefault(SEEN_KEY, now)
    if now - began >= settings.SESSION_ABSOLUTE_HOURS * 3600:
        return _("You were logged out, as everybody is once a day. Log in to go on where you were.")
    if now - seen >= idle_limit_s(user):
        minutes = idle_limit_s(user) // 60
        return ngettext(
            "You were logged out because nothing happened for a minute. Log in to go on where you were.",
            "You were logged out because nothing happened for %(minutes)d minutes. Log in to go on where you were.",
            minutes,
        ) % {"minutes": minutes}
    return ""


class LoginRequiredMiddleware(DjangoLoginRequiredMiddleware):
    """Django's wall; whoever sent a form in vain comes back to the page with the form, not to a dead end."""

    def handle_no_permission(  # type: ignore[override] # a form sent in vain is answered by a page
        self, request: HttpRequest, view_func: Callable[..., HttpResponseBase]
    ) -> HttpResponseBase:
        """Lead to the log-in, with the way back."""
        if request.method in ("GET", "HEAD"):
            return super().handle_no_permission(request, view_func)
        return redirect_to_login(_page_before(request), self.get_login_url(view_func))


def _page_before(request: HttpRequest) -> str:
    came_from = request.headers.get("Referer", "")
    is_ours = url_has_allowed_host_and_scheme(came_from, {request.get_host()}, require_https=request.is_secure())
    parts = urlsplit(came_from)
    if not is_ours or not parts.path:
        return reverse("home")
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
