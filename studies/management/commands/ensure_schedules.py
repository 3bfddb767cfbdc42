"""Puts the sweeper on the queue's schedule."""

from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction
from django_q.models import Schedule

SWEEPER = "sweep analyses"


class Command(BaseCommand):
    """``manage.py ensure_schedules``: run it after every migrate, as often as you like."""

    help = "Make sure that the one sweeper runs every minute. Safe to run again: there is never a second one."

    def handle(self, *args: Any, **options: Any) -> None:
        """Create or repair the schedule, and remove copies of it."""
        with transaction.atomic():
            schedules = Schedule.objects.select_for_update().filter(func="studies.tasks.sweep").order_by("id")
            schedule = schedules.first() or Schedule(func="studies.tasks.sweep")
            schedules.exclude(id=schedule.id).delete()
            schedule.name = SWEEPER
            schedule.schedule_type = Schedule.MINUTES
            schedule.minutes = 1
            schedule.repeats = -1
            schedule.save()
        if options["verbosity"]:
            self.stdout.write("The sweeper runs every minute.")
