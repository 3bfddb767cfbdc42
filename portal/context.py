"""What every page's template may read."""

from django.conf import settings
from django.http import HttpRequest

from portal.navigation import navigation_for


def portal(request: HttpRequest) -> dict[str, object]:
    """Tell templates whether this is the demo, so that the pages can say so, and which menu to show."""
    return {"is_demo": settings.IS_DEMO, "navigation": navigation_for(request)}
