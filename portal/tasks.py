"""What the portal as a whole does by itself, every minute (``settings.SWEEPERS``)."""

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from ml.models import Event
from portal.problems import tell_administrators


def sweep() -> dict[str, int]:
    """Tell administrators of problems, and shorten the event log to ``settings.EVENT_DAYS``; return counts.

    Safe to run twice and at the same time.
    """
    mails = tell_administrators()
    deleted = 0
    if settings.EVENT_DAYS:
        deleted = Event.objects.delete_older_than(timezone.now() - timedelta(days=settings.EVENT_DAYS))
    return {"mails": mails, "deleted": deleted}
