"""``manage.py clean_store``: delete stored files that no row names, as a killed process leaves them behind."""

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from portal.backups.database import names_now
from portal.storage import private_files

# A file is written before the row that names it is committed.
YOUNG_S = 24 * 60 * 60


class Command(BaseCommand):
    """Files come before their rows; whoever dies in between leaves a file of somebody that nobody would ever delete."""

    help = "Delete stored files that no row names and that are older than a day. Safe while the portal runs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the dry run."""
        parser.add_argument("--dry-run", action="store_true", help="count only, delete nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Compare the store with the database. The store is listed first: what comes later is not looked at."""
        store = private_files()
        stored = list(store.names())
        named = names_now()
        removed = 0
        for name in stored:
            if name in named:
                continue
            try:
                if store.changed_at(name) > time.time() - YOUNG_S:
                    continue
            except FileNotFoundError:
                continue  # deleted meanwhile
            removed += 1
            if not options["dry_run"]:
                store.delete(name)
        verb = "would be deleted" if options["dry_run"] else "deleted"
        self.stdout.write(f"{len(stored)} stored files; {removed} that no row names {verb}.")
