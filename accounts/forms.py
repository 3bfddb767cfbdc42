"""Forms of the people who log in: allauth's flows with our words, names and roles.

What a form does not declare, nobody can send: role, hospital and rights of a person who signs up come from here and
never from the request.
"""

import struct
from typing import Any

from allauth.account import forms as allauth_forms
from allauth.core import context
from allauth.mfa.base import forms as second_step_forms
from allauth.mfa.totp import forms as app_forms
from allauth.mfa.webauthn import forms as passkey_forms
from cryptography.exceptions import InvalidSignature
from django import forms
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts.audit_signals import note_refused_passkey
from accounts.models import Hospital, Role, Scope, User

PASSWORD_HELP = _("At least 10 characters. A few words in a row are easy to remember and hard to guess.")
CODE_HELP = _("Six digits from your app. Without your phone: one of your recovery codes.")
PASSKEY_REFUSED = _("The passkey did not work. Please try again, or choose another way.")
# What the passkey library raises on answers that were made up: it trusts their shape.
NO_PASSKEY_ANSWER = (LookupError, TypeError, AttributeError, ValueError, RecursionError, struct.error, InvalidSignature)
LABELS = {
    "login": _("E-mail address"),
    "email": _("E-mail address"),
    "password": _("Password"),
    "oldpassword": _("Current password"),
    "password1": _("New password"),
    "password2": _("New password again"),
    "code": _("Code"),
    "name": _("Name of this passkey"),
}


class PlainWordsMixin(forms.Form):
    """Labels in plain words, no placeholder (it vanishes while typing), one short sentence about passwords."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            field.widget.attrs.pop("placeholder", None)
            if name in LABELS:
                field.label = LABELS[name]
        for name in ("password", "oldpassword"):
            if name in self.fields:
                self.fields[name].help_text = ""
        if "password1" in self.fields:
            self.fields["password1"].help_text = PASSWORD_HELP


class LoginForm(PlainWordsMixin, allauth_forms.LoginForm):
    """E-mail and password."""


class AddEmailForm(PlainWordsMixin, allauth_forms.AddEmailForm):
    """The new e-mail address of somebody who is logged in."""


class ChangePasswordForm(PlainWordsMixin, allauth_forms.ChangePasswordForm):
    """The old password and the new one, twice."""


class SetPasswordForm(PlainWordsMixin, allauth_forms.SetPasswordForm):
    """A first password for an account that has none."""


class ResetPasswordForm(PlainWordsMixin, allauth_forms.ResetPasswordForm):
    """The address to which a link for a new password goes."""


class ResetPasswordKeyForm(PlainWordsMixin, allauth_forms.ResetPasswordKeyForm):
    """The new password, behind the link that was mailed."""


class ReauthenticateForm(PlainWordsMixin, allauth_forms.ReauthenticateForm):
    """The password once more, before something that matters."""


class SecondStepForm(PlainWordsMixin, second_step_forms.AuthenticateForm):
    """The code from the app, or a recovery code, after the password."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].help_text = CODE_HELP


class SecondStepAgainForm(PlainWordsMixin, second_step_forms.ReauthenticateForm):
    """A code once more, before something that matters."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].help_text = CODE_HELP


class ActivateAppForm(PlainWordsMixin, app_forms.ActivateTOTPForm):
    """The first code that the app shows: proof that it knows the secret."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].label = _("The six digits that the app shows now")
        self.fields["code"].widget.attrs["inputmode"] = "numeric"


class PasskeyAnswerMixin(forms.Form):
    """Says "not right" to an answer that no passkey gives, where the library would stumble over it."""

    def _clean_fields(self) -> None:
        try:
            super()._clean_fields()  # type: ignore[misc]
        except NO_PASSKEY_ANSWER:
            self.add_error("credential", PASSKEY_REFUSED)

    def _clean_form(self) -> None:
        try:
            super()._clean_form()  # type: ignore[misc]
        except NO_PASSKEY_ANSWER:
            self.add_error("credential", PASSKEY_REFUSED)


class PasskeyProofMixin(PasskeyAnswerMixin):
    """Has a passkey that was refused put on record; a form without an answer is one that somebody cancelled."""

    user: User | None

    def full_clean(self) -> None:
        """Judge the answer, once."""
        super().full_clean()
        if self.is_bound and self.data.get("credential") and "credential" in self.errors:
            note_refused_passkey(context.request, user=self.user)


class PasskeyForm(PasskeyProofMixin, passkey_forms.AuthenticateWebAuthnForm):
    """A passkey's answer, after the password."""


class PasskeyAgainForm(PasskeyProofMixin, passkey_forms.ReauthenticateWebAuthnForm):
    """A passkey's answer once more, before something that matters."""


class PasskeyLoginForm(PasskeyProofMixin, passkey_forms.LoginWebAuthnForm):
    """A passkey's answer in place of the password."""


class AddPasskeyForm(PlainWordsMixin, PasskeyAnswerMixin, passkey_forms.AddWebAuthnForm):
    """A name for a new passkey, and whether it replaces the password too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].widget.attrs["maxlength"] = 80
        self.fields["passwordless"].label = _("Log in with this passkey alone, without the password")
        self.fields["passwordless"].help_text = _(
            "Needs a phone, computer or key that asks for your fingerprint, face or PIN."
        )


class RenamePasskeyForm(PlainWordsMixin, passkey_forms.EditWebAuthnForm):
    """Another name for a passkey."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].widget.attrs["maxlength"] = 80


class SignupForm(PlainWordsMixin, allauth_forms.SignupForm):
    """What we ask of a patient who signs up. Whoever fills it in becomes a patient without a hospital."""

    given_name = forms.CharField(
        label=_("Given name"), max_length=80, widget=forms.TextInput(attrs={"autocomplete": "given-name"})
    )
    family_name = forms.CharField(
        label=_("Family name"), max_length=80, widget=forms.TextInput(attrs={"autocomplete": "family-name"})
    )
    field_order = ["given_name", "family_name", "email", "licence_number", "hospital", "password1", "password2"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password1"].label = _("Password")
        self.fields["password2"].label = _("Password again")

    def fill(self, user: User) -> None:
        """Put names and role into the new, unsaved ``user``. The form must be valid."""
        user.given_name = self.cleaned_data["given_name"]
        user.family_name = self.cleaned_data["family_name"]
        user.role = Role.PATIENT

    def save(self, request: HttpRequest) -> AbstractBaseUser:
        """Store the person and the e-mail address together or not at all."""
        with transaction.atomic():
            return super().save(request)


class DoctorSignupForm(SignupForm):
    """A doctor's request for access: nothing is open to them until an administrator of the hospital approves."""

    licence_number = forms.CharField(
        label=_("Licence number"),
        max_length=40,
        help_text=_("Your number in the medical register. The hospital checks it before it lets you in."),
    )
    hospital = forms.ModelChoiceField(
        label=_("Hospital"),
        queryset=Hospital.objects.all(),
        empty_label=_("Choose your hospital"),
        help_text=_("Is yours missing? Ask its administrator to have it added."),
    )

    def fill(self, user: User) -> None:
        """Make the new, unsaved ``user`` a doctor of the chosen hospital whom nobody has approved."""
        super().fill(user)
        user.role = Role.DOCTOR
        user.licence_number = self.cleaned_data["licence_number"].strip()
        user.hospital = self.cleaned_data["hospital"]
        user.approved_at = None
        user.approved_by = None


class TokenForm(forms.Form):
    """What a new API token is called, what it may do, and how long it lasts."""

    use_required_attribute = False
    DAYS = (7, 30, 90, 365)

    name = forms.CharField(
        label=_("Name of the token"),
        max_length=60,
        help_text=_("What you need it for, so that you recognise it later: “import script of the CT”."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": _("Please give the token a name.")},
    )
    scopes = forms.MultipleChoiceField(
        label=_("What it may do"),
        choices=Scope.choices,
        initial=[Scope.READ],
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Never more than you may do yourself. Choose as little as the program needs."),
        error_messages={"required": _("Please choose what the token may do.")},
    )
    days = forms.TypedChoiceField(
        label=_("How long it lasts"),
        coerce=int,
        initial=30,
        error_messages={"required": _("Please choose how long the token lasts.")},
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        longest = settings.API_TOKEN_MAX_DAYS
        offered = [days for days in self.DAYS if days <= longest] or [longest]
        choices = [(days, ngettext("%(days)d day", "%(days)d days", days) % {"days": days}) for days in offered]
        self.fields["days"].choices = choices  # type: ignore[attr-defined]
