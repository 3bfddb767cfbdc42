"""``manage.py migrate``: Django's, which on PostgreSQL gives up rather than make everybody wait."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as DjangoCommand
from django.db import OperationalError, connections


class Command(DjangoCommand):
    """A change of a table waits for whoever uses it, and everybody who comes later waits behind the change."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate with limits on locks and statements. Raises ``CommandError`` with a sentence where one is reached."""
        connection = connections[options["database"]]
        if connection.vendor != "postgresql":
            super().handle(*args, **options)
            return
        limits = {
            "lock_timeout": settings.MIGRATE_LOCK_TIMEOUT_S,
            "statement_timeout": settings.MIGRATE_STATEMENT_TIMEOUT_S,
        }
        with connection.cursor() as cursor:
            for name, seconds in limits.items():
                cursor.execute(f"SET {name} = '{int(seconds)}s'")
        try:
            super().handle(*args, **options)
        except OperationalError as error:
            raise CommandError(_sentence(error)) from error
        finally:
            if connection.is_usable():
                with connection.cursor() as cursor:
                    for name in limits:
                        cursor.execute(f"RESET {name}")


def _sentence(error: OperationalError) -> str:
    """Say what happened and what to do. Raises the error again where it is about something else."""
    match getattr(error.__cause__, "sqlstate", None):
        case "55P03":
            return (
                "A table is in use for longer than this may wait (IRA_MIGRATE_LOCK_TIMEOUT_S), so this migration was "
                "undone as a whole; those before it stay. Please run migrate again, at a quieter time if need be."
            )
        case "57014":
            return (
                "A statement took longer than it may (IRA_MIGRATE_STATEMENT_TIMEOUT_S), so this migration was undone "
                "as a whole; those before it stay. Please allow more, or choose a quieter time."
            )
    raise error
