"""Pages about the person who is logged in, and a doctor's request for access."""

from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from allauth.account.internal.flows.reauthentication import is_reauthentication_required
from allauth.account.views import SignupView
from allauth.core.exceptions import ReauthenticationRequired
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ValidationError
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.forms import DoctorSignupForm, TokenForm
from accounts.limits import wait_for_page
from accounts.models import AccessEvent, ApiToken, User
from accounts.sessions import browser_name, end_sessions, idle_limit_s

CLOSED_TOKENS_SHOWN = 10


class DoctorSignupView(SignupView):
    """A doctor's request for access: allauth's sign-up (rate limit, no enumeration, mail) with a doctor's form."""

    template_name = "accounts/doctor_signup.html"

    def get_form_class(self) -> type[Form]:
        """Return the doctor's form instead of the one for patients."""
        return DoctorSignupForm


@require_safe
def profile(request: HttpRequest) -> HttpResponse:
    """Show who the portal takes this person for, and where to change it."""
    return render(request, "accounts/profile.html")


@dataclass(frozen=True, kw_only=True)
class OpenSession:
    """One log-in of somebody, as the page shows it. ``key`` names it to its owner and opens nothing."""

    key: str
    browser: str
    address: str
    began_at: datetime
    seen_at: datetime
    is_current: bool


@require_http_methods(["GET", "HEAD", "POST"])
def sessions(request: HttpRequest) -> HttpResponse:
    """Show where somebody is logged in; end one of these sessions, all others, or all."""
    user = request.user
    assert isinstance(user, User)  # noqa: S101 - narrows the type behind the log-in wall
    stored = sorted(UserSession.objects.purge_and_list(user), key=lambda one: one.last_seen_at, reverse=True)
    chosen = request.POST.get("end", "")
    if chosen in ("all", "others"):
        ended = end_sessions(user, keep=None if chosen == "all" else request.session.session_key)
        if chosen == "all":
            logout(request)
            messages.success(request, _("You are logged out everywhere. Was it not you? Ask for a new password below."))
            return redirect("account_login")
        messages.success(request, _("You are logged out on all other devices (%(count)d).") % {"count": ended})
        return redirect("accounts:sessions")
    if chosen:
        for session in stored:
            if str(session.pk) == chosen and not session.is_current():
                session.end()
                messages.success(request, _("That device is logged out."))
        return redirect("accounts:sessions")
    shown = [
        OpenSession(
            key=str(session.pk),
            browser=browser_name(session.user_agent),
            address=session.ip,
            began_at=session.created_at,
            seen_at=session.last_seen_at,
            is_current=session.is_current(),
        )
        for session in stored
    ]
    context = {
        "sessions": shown,
        "idle_minutes": idle_limit_s(user) // 60,
        "absolute_hours": settings.SESSION_ABSOLUTE_HOURS,
    }
    return render(request, "accounts/sessions.html", context)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def api_tokens(request: HttpRequest) -> HttpResponse:
    """Show somebody's API tokens; make one, which is shown this once, or revoke one."""
    user = request.user
    assert isinstance(user, User)  # noqa: S101 - narrows the type behind the log-in wall
    if chosen := request.POST.get("revoke", ""):
        _revoke_token(request, user=user, chosen=chosen)
        return redirect("accounts:api_tokens")
    form = TokenForm(request.POST if request.method == "POST" else None)
    made, text = None, ""
    if request.method == "POST":
        if is_reauthentication_required(request, app="accounts"):
            # A program acts for its person for weeks: whoever sits at an open screen must not make one.
            raise ReauthenticationRequired
        if form.is_valid():
            try:
                made, text = ApiToken.issue(user, **form.cleaned_data)
            except ValidationError as error:
                form.add_error(None, error)
            else:
                note = f"API token for {', '.join(made.scopes)} until {made.expires_at:%Y-%m-%d}"
                AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=made, note=note)
                form = TokenForm()
    tokens = list(ApiToken.objects.of(user))
    context = {
        "form": form,
        "made": made,
        "text": text,
        "open": [token for token in tokens if token.is_open],
        "closed": [token for token in tokens if not token.is_open][:CLOSED_TOKENS_SHOWN],
    }
    return render(request, "accounts/api_tokens.html", context, status=400 if form.errors else 200)


def _revoke_token(request: HttpRequest, *, user: User, chosen: str) -> None:
    token = next((one for one in ApiToken.objects.of(user).open() if str(one.pk) == chosen), None)
    if token is None or not token.revoke():
        messages.info(request, _("This token opens nothing any more."))
        return
    AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=token, note="API token revoked")
    messages.success(request, _("The token “%(name)s” is revoked and opens nothing any more.") % {"name": token.name})


@login_not_required
def too_many_requests(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Say how long to wait to somebody whose address or account has tried something too often."""
    wait = wait_for_page(request)
    response = render(request, "429.html", {"wait": wait}, status=HTTPStatus.TOO_MANY_REQUESTS)
    response.headers["Retry-After"] = str(wait.seconds)
    return response
