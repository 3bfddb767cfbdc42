"""Log-ins, wrong passwords and codes, and log-outs on record.

What was typed is not: it may be a password in the wrong field.
"""

from typing import Any

from allauth.account import signals as allauth_signals
from allauth.mfa import signals as mfa_signals
from allauth.mfa.models import Authenticator
from django.contrib.auth import signals as auth_signals
from django.http import HttpRequest

from accounts.audit import AccessEvent, client_address
from accounts.models import User


def connect() -> None:
    """Listen to allauth and Django; called once, when the app is ready."""
    allauth_signals.user_logged_in.connect(note_log_in, dispatch_uid="accounts.audit.log_in")
    auth_signals.user_logged_out.connect(note_log_out, dispatch_uid="accounts.audit.log_out")
    auth_signals.user_login_failed.connect(note_failure, dispatch_uid="accounts.audit.failure")
    mfa_signals.authentication_failed.connect(note_wrong_code, dispatch_uid="accounts.audit.wrong_code")


def note_log_in(sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
    """Somebody has proven who they are."""
    address = client_address(request)
    AccessEvent.note_of(action=AccessEvent.Action.LOGGED_IN, target=user, actor=user, address=address)


def note_log_out(sender: Any, request: HttpRequest, user: User | None, **kwargs: Any) -> None:
    """Somebody has ended their session."""
    if user is not None:
        address = client_address(request)
        AccessEvent.note_of(action=AccessEvent.Action.LOGGED_OUT, target=user, actor=user, address=address)


def note_failure(sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any) -> None:
    """Somebody unknown has tried to log in: noted under the account that was tried, where there is one."""
    email = str(credentials.get("email") or credentials.get("username") or "")
    user = User.objects.filter(email__iexact=email).first() if email else None
    address = client_address(request) if request is not None else None
    AccessEvent.note_of(action=AccessEvent.Action.LOGIN_FAILED, target=user, actor=None, address=address)


def note_wrong_code(sender: Any, request: HttpRequest, user: User, authenticator: Authenticator, **kwargs: Any) -> None:
    """Somebody who knows the password has failed at the second step: noted under the account, with the kind of step.

    Nobody is named as the one who did it: whoever holds the password only may be anybody.
    """
    AccessEvent.note_of(
        action=AccessEvent.Action.LOGIN_FAILED,
        target=user,
        actor=None,
        address=client_address(request),
        note=f"second step: {authenticator.type}",
    )


def note_refused_passkey(request: HttpRequest, *, user: User | None) -> None:
    """A passkey's answer was not right: noted under the account whose password was given before, else under none.

    In place of a password the answer itself names an account, and whoever made it up may name anybody's.
    """
    AccessEvent.note_of(
        action=AccessEvent.Action.LOGIN_FAILED,
        target=user,
        actor=None,
        address=client_address(request),
        note="second step: webauthn" if user is not None else "passkey",
    )
