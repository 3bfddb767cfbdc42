"""Pages about the person who is logged in, and a doctor's request for access."""

from allauth.account.views import SignupView
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.forms import DoctorSignupForm


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
