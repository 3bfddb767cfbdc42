"""What the portal as a whole does by itself, every minute (``settings.SWEEPERS``)."""

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from ml.models import Event


def sweep() -> dict[str, int]:
    """Shorten the event log to ``settings.EVENT_DAYS``, a portion at a time; return counts. Safe to run twice."""
    deleted = 0
    if settings.EVENT_DAYS:
        deleted = Event.objects.delete_older_than(timezone.now() - timedelta(days=settings.EVENT_DAYS))
    return {"deleted": deleted}
