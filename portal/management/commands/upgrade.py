"""``manage.py upgrade``: bring the database to the state that this version needs, one process at a time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

# Any number that nobody else locks in this database; processes of all versions have to agree on it.
LOCK: Final = 7_236_001
ASK_AGAIN_AFTER_S: Final = 0.5


class Command(BaseCommand):
    """Runs ``migrate``, ``create_roles``, ``ensure_schedules`` and ``models --ensure-starter``, again at any time."""

    help = "Bring the database to the state that this version needs; several machines may start it at once."

    def handle(self, *args: Any, **options: Any) -> None:
        """Wait for whoever is at it already, then do what is left to do."""
        verbosity = options["verbosity"]
        with one_at_a_time():
            # Of checks, migrate runs those of the database too: what it would write to must be able to hold it.
            call_command("migrate", interactive=False, skip_checks=False, verbosity=max(0, verbosity - 1))
            call_command("create_roles", verbosity=max(0, verbosity - 1))
            call_command("ensure_schedules", verbosity=max(0, verbosity - 1))
            try:
                call_command("models", ensure_starter=True, verbosity=max(0, verbosity - 1))
            except CommandError as error:
                # The database is up to date all the same; without a model /readyz says that no slice is analysed.
                self.stderr.write(f"No model was registered: {error}")
        if verbosity:
            self.stdout.write(self.style.SUCCESS("The database is up to date."))


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold PostgreSQL's lock for upgrades; SQLite serves one machine, on which nobody starts two."""
    if connection.vendor != "postgresql":
        yield
        return
    # Asked again and again, because a statement that waits would hold up the making of indexes in the background.
    while not _locks("SELECT pg_try_advisory_lock(%s)"):
        time.sleep(ASK_AGAIN_AFTER_S)
    try:
        yield
    finally:
        _locks("SELECT pg_advisory_unlock(%s)")


def _locks(sql: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(sql, [LOCK])
        (is_done,) = cursor.fetchone()
    return bool(is_done)
