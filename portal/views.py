"""The door to the portal: sends everybody to the page where their work begins."""

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from accounts.models import User


def home(request: HttpRequest) -> HttpResponse:
    """Send a doctor to the studies, a patient to the reports, an administrator to the administration."""
    user = request.user
    assert isinstance(user, User)
    if user.is_approved_doctor:
        return redirect("studies:study_list")
    if user.is_patient:
        return redirect("reports:my_reports")
    if user.is_administrator and user.is_staff:
        return redirect("admin:index")
    return render(request, "portal/waiting.html")


@login_not_required
def healthz(request: HttpRequest) -> HttpResponse:
    """Say that the process answers; nothing more is checked or told here."""
    return HttpResponse("ok\n", content_type="text/plain")
