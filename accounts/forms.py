"""Forms of the people who log in: allauth's flows with our words, names and roles.

What a form does not declare, nobody can send: role, hospital and rights of a person who signs up come from here and
never from the request.
"""

from typing import Any

from allauth.account import forms as allauth_forms
from django import forms
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.models import Hospital, Role, User

PASSWORD_HELP = _("At least 10 characters. A few words in a row are easy to remember and hard to guess.")
LABELS = {
    "login": _("E-mail address"),
    "email": _("E-mail address"),
    "password": _("Password"),
    "oldpassword": _("Current password"),
    "password1": _("New password"),
    "password2": _("New password again"),
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
