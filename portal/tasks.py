"""What the portal as a whole does by itself, every minute (``settings.SWEEPERS``)."""

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from ml.models import Event, TrainingRun
from portal.problems import tell_administrators


def sweep_trainings() -> dict[str, int]:
    """Notice trainers that died, and ask for a training every ``settings.RETRAIN_EVERY_DAYS`` (0: never)."""
    lost, asked = TrainingRun.objects.sweep(), 0
    if settings.RETRAIN_EVERY_DAYS:
        since = timezone.now() - timedelta(days=settings.RETRAIN_EVERY_DAYS)
        asked_lately = TrainingRun.objects.exclude(source=TrainingRun.Source.COMMAND).filter(requested_at__gte=since)
        if not asked_lately.exists() and not TrainingRun.objects.active().exists():
            TrainingRun.objects.ask(by=None, options={"from_portal": True}, source=TrainingRun.Source.SCHEDULE)
            asked = 1
    return {"lost": lost, "asked": asked}


def sweep() -> dict[str, int]:
    """Tell administrators of problems, and shorten the event log to ``settings.EVENT_DAYS``; return counts.

    Safe to run twice and at the same time.
    """
    mails = tell_administrators()
    deleted = 0
    if settings.EVENT_DAYS:
        deleted = Event.objects.delete_older_than(timezone.now() - timedelta(days=settings.EVENT_DAYS))
    return {"mails": mails, "deleted": deleted}
