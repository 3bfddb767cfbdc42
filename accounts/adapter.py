"""How allauth behaves here: our words, our mails, and who is let in."""

import time
from typing import Any, Final

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import ValidationError
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from accounts.demo import is_demo_email
from accounts.forms import SignupForm
from accounts.limits import Wait, too_many_tries, wait_for
from accounts.models import User
from accounts.second_factor import has_second_factor, is_proven, is_required_of

FRESH_LOG_IN_S: Final = 300  # for so long a log-in stands for the password that is asked again
TOO_MANY: Final = ("too_many_login_attempts", "rate_limited")
REAUTHENTICATION_WORDS: Final = {
    "reauthenticate": _("Use the password"),
    "mfa_reauthenticate": _("Use a code"),
    "mfa_reauthenticate:webauthn": _("Use a passkey"),
}


class AccountAdapter(DefaultAccountAdapter):
    """Sign-up, log-in and mail of the portal."""

    error_messages = DefaultAccountAdapter.error_messages | {
        "email_password_mismatch": _(
            "The e-mail address or the password is not right. Check both, or ask for a new password below."
        ),
        "enter_current_password": _("This is not your current password. Please type it again."),
        "incorrect_password": _("This is not your password. Please type it again."),
        "email_taken": _("This e-mail address is already in use. Please log in with it, or choose another one."),
        "duplicate_email": _("This already is your e-mail address. Please type the new one."),
        "invalid_password_reset": _("This link has been used or is too old. Please ask for a new one."),
    }

    def validation_error(self, code: str, *args: Any) -> ValidationError:
        """Return the error of a code; the one for too many tries says how long to wait."""
        if code not in TOO_MANY:
            return super().validation_error(code, *args)
        return ValidationError(too_many_tries(self._wait()), code=code)

    def _wait(self) -> Wait:
        request = self.request
        stage = getattr(request, "_login_stage", None)
        user = stage.login.user if stage else request.user
        keys = [f"mfa-auth-user-{user.pk}"]
        if login := request.POST.get("login"):
            keys.append(self._get_login_attempts_cache_key(request, email=login))
        return wait_for(request, action="login_failed", keys=keys)

    def save_user(
        self, request: HttpRequest, user: AbstractBaseUser, form: BaseForm, commit: bool = True
    ) -> AbstractBaseUser:
        """Store who signed up, with the names and the role that the form (never the request) gives them."""
        if isinstance(form, SignupForm) and isinstance(user, User):
            form.fill(user)
        return super().save_user(request, user, form, commit=commit)

    def pre_login(self, request: HttpRequest, user: AbstractBaseUser, **kwargs: Any) -> HttpResponse | None:
        """Turn the demo's public accounts away outside the demo, as if they were deactivated."""
        if not settings.IS_DEMO and is_demo_email(getattr(user, "email", "")):
            return self.respond_user_inactive(request, user)
        return super().pre_login(request, user, **kwargs)

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Ask again before something important, but not right after a log-in, which was the same question."""
        if not super().is_reauthentication_required(app=app, **kwargs):
            return False
        request = self.request
        records = get_authentication_records(request, request.user) if request.user.is_authenticated else []
        return not records or time.time() - records[-1]["at"] > FRESH_LOG_IN_S

    def get_reauthentication_methods(self, user: AbstractBaseUser | AnonymousUser) -> list[dict[str, Any]]:
        """Offer the password only where the second step is not what is being asked for."""
        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        is_asked = isinstance(user, User) and is_required_of(user) and has_second_factor(user)
        if is_asked and not is_proven(self.request, user=user):
            methods = [method for method in methods if method["id"] != "reauthenticate"]
        return [method | {"description": REAUTHENTICATION_WORDS[method["id"]]} for method in methods]

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        """Go back to the profile after a new password."""
        return reverse("accounts:profile")
