"""Puts the sweepers on the queue's schedule."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import transaction
from django_q.models import Schedule


class Command(BaseCommand):
    """``manage.py ensure_schedules``: run it after every migrate, as often as you like."""

    help = "Make sure that each sweeper runs every minute. Safe to run again: there is never a second one of a kind."

    def handle(self, *args: Any, **options: Any) -> None:
        """Create or repair the schedules, and remove copies of them."""
        for func, name in settings.SWEEPERS.items():
            with transaction.atomic():
                schedules = Schedule.objects.select_for_update().filter(func=func).order_by("id")
                schedule = schedules.first() or Schedule(func=func)
                schedules.exclude(id=schedule.id).delete()
                schedule.name = name
                schedule.schedule_type = Schedule.MINUTES
                schedule.minutes = 1
                schedule.repeats = -1
                schedule.save()
        if options["verbosity"]:
            self.stdout.write("The sweepers run every minute.")
