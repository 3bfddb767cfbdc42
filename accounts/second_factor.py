"""The second step of a log-in: who needs one, which session has passed it, and the wall in front of everybody else.

Steps themselves (app with codes, passkeys, recovery codes) are allauth's. This module decides when one is demanded::

    logged in, none set up ──▶ the page that sets one up; every other address leads there
    logged in, set up, this session has not used it ──▶ asked for it once, then on to the page that was wanted
    logged in, this session has used it ──▶ everything that the role may see
"""

import base64
import hashlib
from collections.abc import Callable
from typing import Any, Final

from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.api.problems import problem
from accounts.models import ApiToken, User
from accounts.sessions import end_sessions

SESSION_KEY: Final = "second_factor_of"
FACTORS: Final = [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]
# What somebody without a second step may open: setting one up, proving who they are, their address, and the way out.
SETUP_VIEWS: Final = frozenset(
    {
        "mfa_index",
        "mfa_activate_totp",
        "mfa_add_webauthn",
        "account_reauthenticate",
        "account_email",
        "account_confirm_email",
        "account_email_verification_sent",
        "account_logout",
        "healthz",
        "api:health",
    }
)
# What somebody may open who has set one up and has not used it in this session.
PROOF_VIEWS: Final = frozenset(
    {"mfa_reauthenticate", "mfa_reauthenticate_webauthn", "account_logout", "healthz", "api:health"}
)


def is_required_of(user: AbstractBaseUser | AnonymousUser) -> bool:
    """Return whether this person's role works with a second step only."""
    return isinstance(user, User) and user.role in settings.SECOND_FACTOR_ROLES


def has_second_factor(user: User) -> bool:
    """Return whether this person has set up an app or a passkey (recovery codes alone do not count)."""
    return bool(is_mfa_enabled(user, FACTORS))


def remove_second_factor(user: User) -> bool:
    """Remove all of a person's second steps, end all their sessions and tokens. Returns whether there were any.

    For somebody who has lost phone and recovery codes, at the word of an administrator who knows them.
    """
    removed, _kinds = Authenticator.objects.filter(user=user).delete()
    end_sessions(user)
    ApiToken.objects.of(user).revoke()
    return bool(removed)


def is_proven(request: HttpRequest, *, user: AbstractBaseUser | AnonymousUser) -> bool:
    """Return whether this person has used or set up a second step in this session."""
    return bool(request.session.get(SESSION_KEY) == str(user.pk))


class SecondFactorMiddleware:
    """Lets people whose role needs a second step do nothing before they have one and have used it in this session.

    It stands in front of every address, the administration and files included. Those who have none are led to the page
    that sets one up.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on; the decision needs to know the view."""
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponseBase | None:
        """Return a way to the second step, or None where there is nothing to ask for."""
        user = request.user
        if not isinstance(user, User) or not is_required_of(user) or is_proven(request, user=user):
            return None
        # Templates and menu ask for this: nothing is offered that would only lead back here.
        request.is_second_factor_missing = True  # type: ignore[attr-defined]
        name = request.resolver_match.view_name if request.resolver_match else ""
        if is_api_view(view):
            # A script follows no way to a page; it is told in a sentence.
            return None if name in SETUP_VIEWS else problem(request, status=403, detail=second_step_sentence(user))
        if has_second_factor(user):
            return None if name in PROOF_VIEWS else _lead(request, to=_proof_address(user, wanted=_wanted(request)))
        return None if name in SETUP_VIEWS else _lead(request, to=reverse("mfa_index"))


def is_api_view(view: Any) -> bool:
    """Return whether an address is asked by scripts: it answers in JSON, and refuses with a problem."""
    return hasattr(view, "cls")


def second_step_sentence(user: User) -> str:
    """Tell somebody whose role needs a second step how to get on."""
    if has_second_factor(user):
        return gettext("Your role needs a second step, which this session has not used yet. Please log in again.")
    return gettext("Your role needs a second step. Please log in to the portal and set one up, then try again.")


def _wanted(request: HttpRequest) -> str:
    return request.get_full_path() if request.method in ("GET", "HEAD") and not _is_part(request) else reverse("home")


def _is_part(request: HttpRequest) -> bool:
    return bool(getattr(request, "htmx", False)) or request.headers.get("HX-Request") == "true"


def _proof_address(user: User, *, wanted: str) -> str:
    has_code = is_mfa_enabled(user, [Authenticator.Type.TOTP])
    page = reverse("mfa_reauthenticate" if has_code else "mfa_reauthenticate_webauthn")
    return f"{page}?{urlencode({'next': wanted})}"


def _lead(request: HttpRequest, *, to: str) -> HttpResponseBase:
    if _is_part(request):
        # A part of a page asked: the whole page has to go there, not the part.
        return HttpResponse(status=204, headers={"HX-Redirect": to})
    return redirect(to)


def remember_proof(request: HttpRequest, *, user: AbstractBaseUser, **kwargs: Any) -> None:
    """Note in the session that this person has just used or set up a second step in it."""
    request.session[SESSION_KEY] = str(user.pk)


def forget_proof(request: HttpRequest, *, user: AbstractBaseUser, **kwargs: Any) -> None:
    """Ask for a new second step once the last one is removed."""
    if isinstance(user, User) and not has_second_factor(user):
        request.session.pop(SESSION_KEY, None)


class SecondFactorAdapter(DefaultMFAAdapter):
    """allauth's second step in our words, with secrets that are unreadable in a copy of the database."""

    error_messages = DefaultMFAAdapter.error_messages | {
        "incorrect_code": _(
            "This code is not right or has been used already. Wait for the next one, or check the clock of your phone."
        ),
        "unverified_email": _("Please confirm your e-mail address first, with the link that we mailed to it."),
        "cannot_delete_authenticator": _(
            "Your role needs a second step. Please add another one first, then you can remove this one."
        ),
        "cannot_generate_recovery_codes": _("Please set up an app or a passkey first; recovery codes come with it."),
    }

    def encrypt(self, text: str) -> str:
        """Return the secret as it is stored."""
        return _keys().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Return a stored secret. Raises ``InvalidToken`` if the installation's secret key is another one."""
        return _keys().decrypt(encrypted_text.encode()).decode()

    def get_totp_issuer(self) -> str:
        """Return the name under which an app lists the account."""
        return gettext("Radiology portal")

    def can_delete_authenticator(self, authenticator: Authenticator) -> bool:
        """Return whether enough is left for the person's role without this one."""
        others = Authenticator.objects.filter(user_id=authenticator.user_id, type__in=FACTORS)
        return not is_required_of(authenticator.user) or others.exclude(pk=authenticator.pk).exists()

    def generate_authenticator_name(self, user: AbstractBaseUser, type: Authenticator.Type) -> str:
        """Propose a name for a new passkey."""
        count = Authenticator.objects.filter(user_id=user.pk, type=type).count()
        return gettext("Passkey %(number)d") % {"number": count + 1}

    def build_totp_svg(self, url: str) -> str:
        """Return the QR code as a picture without styles or scripts, dark on light in every colour scheme."""
        from qrcode.main import QRCode

        code: QRCode = QRCode(border=4)
        code.add_data(url)
        rows = code.get_matrix()
        dots = "".join(f"M{x} {y}h1v1h-1z" for y, row in enumerate(rows) for x, is_dark in enumerate(row) if is_dark)
        side = len(rows)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" aria-hidden="true" focusable="false">'
            f'<path fill="#fff" d="M0 0h{side}v{side}H0z"/><path fill="#000" d="{dots}"/></svg>'
        )


def _keys() -> MultiFernet:
    """Return the keys: the newest first, older ones (``SECRET_KEY_FALLBACKS``) to read what they once wrote."""
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet([Fernet(_derived(str(secret))) for secret in secrets])


def _derived(secret: str) -> bytes:
    return base64.urlsafe_b64encode(hashlib.sha256(b"accounts.second_factor:" + secret.encode()).digest())
