"""What every page's template may read."""

from django.conf import settings
from django.http import HttpRequest


def portal(request: HttpRequest) -> dict[str, object]:
    """Tell templates whether this is the demo, so that the pages can say so."""
    return {"is_demo": settings.IS_DEMO}
