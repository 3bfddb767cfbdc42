"""Pages about the person who is logged in."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe


@require_safe
def profile(request: HttpRequest) -> HttpResponse:
    """Show who the portal takes this person for, and where to change it."""
    return render(request, "accounts/profile.html")
