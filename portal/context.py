"""What every page's template may read."""

from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest

from accounts.models import Role
from portal.navigation import navigation_for


@dataclass(frozen=True, kw_only=True)
class DemoLogin:
    """One of the demo's public log-ins."""

    label: str
    email: str


def portal(request: HttpRequest) -> dict[str, object]:
    """Tell templates which menu to show, and whether this is the demo with its public log-ins."""
    context: dict[str, object] = {"is_demo": settings.IS_DEMO, "navigation": navigation_for(request)}
    if settings.IS_DEMO:
        context["demo_password"] = settings.DEMO_PASSWORD
        context["demo_logins"] = [
            DemoLogin(label=str(Role(role).label), email=email) for role, email in settings.DEMO_LOGINS.items()
        ]
    return context
