"""How allauth behaves here: our words, our mails, and who is let in."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from accounts.demo import is_demo_email
from accounts.forms import SignupForm
from accounts.models import User


class AccountAdapter(DefaultAccountAdapter):
    """Sign-up, log-in and mail of the portal."""

    error_messages = DefaultAccountAdapter.error_messages | {
        "email_password_mismatch": _(
            "The e-mail address or the password is not right. Check both, or ask for a new password below."
        ),
        "too_many_login_attempts": _(
            "There were too many attempts with a wrong password. Please wait five minutes, then try again, or ask for "
            "a new password below."
        ),
        "enter_current_password": _("This is not your current password. Please type it again."),
        "incorrect_password": _("This is not your password. Please type it again."),
        "email_taken": _("This e-mail address is already in use. Please log in with it, or choose another one."),
        "duplicate_email": _("This already is your e-mail address. Please type the new one."),
        "invalid_password_reset": _("This link has been used or is too old. Please ask for a new one."),
        "rate_limited": _("That was too often in a short time. Please wait a minute, then try again."),
    }

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

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        """Go back to the profile after a new password."""
        return reverse("accounts:profile")
