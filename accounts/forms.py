"""Forms of the people who log in."""

from django import forms
from django.http import HttpRequest

from accounts.models import User


class SignupForm(forms.Form):
    """What we ask of somebody who signs up, besides e-mail and password (allauth adds those)."""

    given_name = forms.CharField(max_length=80)
    family_name = forms.CharField(max_length=80)

    def signup(self, request: HttpRequest, user: User) -> None:
        """Store the names; everybody who signs up is a patient."""
        user.given_name = self.cleaned_data["given_name"]
        user.family_name = self.cleaned_data["family_name"]
        user.save()
