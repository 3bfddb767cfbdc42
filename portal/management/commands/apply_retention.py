"""``manage.py apply_retention``: delete what the hospital need not keep any longer."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from portal.retention import apply_retention


class Command(BaseCommand):
    """Deletes studies and records whose retention time is over; counts only with ``--dry-run``."""

    help = "Delete studies and records older than IRA_RETENTION_YEARS, with their pictures and reports."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the dry run."""
        parser.add_argument("--dry-run", action="store_true", help="count only, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete, and say how much."""
        if not settings.RETENTION_YEARS:
            self.stdout.write("Nothing is ever deleted here: IRA_RETENTION_YEARS is 0.")
            return
        done = apply_retention(now=timezone.now(), is_dry_run=options["dry_run"])
        verb = "would be deleted" if options["dry_run"] else "deleted"
        self.stdout.write(f"{done.studies} studies with {done.files} files and {done.patients} records {verb}.")
