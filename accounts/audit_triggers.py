"""The database's own refusal to change or delete an access event: triggers for PostgreSQL and SQLite.

A migration installs them. SQLite drops the triggers when a migration rebuilds the table, so a later migration that
alters ``AccessEvent`` ends with ``RunPython(install_triggers, remove_triggers)``; a test notices where it does not.
"""

from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper

TABLE: Final = "accounts_accessevent"
FUNCTION: Final = "refuse_to_change_access_events"
SENTENCE: Final = "Access events are never changed or deleted."
SQLITE: Final = {
    "access_events_are_never_changed": f"BEFORE UPDATE ON {TABLE}",
    "access_events_are_never_deleted": f"BEFORE DELETE ON {TABLE}",
}
POSTGRESQL: Final = {
    "access_events_are_never_changed": f"BEFORE UPDATE OR DELETE ON {TABLE} FOR EACH ROW",
    "access_events_are_never_emptied": f"BEFORE TRUNCATE ON {TABLE} FOR EACH STATEMENT",
}


def install(connection: BaseDatabaseWrapper) -> None:
    """Make the database refuse; safe to run twice. Another kind of database is left as it is."""
    remove(connection)
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            for name, when in SQLITE.items():
                cursor.execute(f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, '{SENTENCE}'); END")
        elif connection.vendor == "postgresql":
            cursor.execute(
                f"CREATE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
                f"'{SENTENCE}' USING ERRCODE = 'integrity_constraint_violation'; END $$"
            )
            for name, when in POSTGRESQL.items():
                cursor.execute(f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION {FUNCTION}()")


def remove(connection: BaseDatabaseWrapper) -> None:
    """Take the refusal away again; safe to run twice."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            for name in SQLITE:
                cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
        elif connection.vendor == "postgresql":
            for name in POSTGRESQL:
                cursor.execute(f"DROP TRIGGER IF EXISTS {name} ON {TABLE}")
            cursor.execute(f"DROP FUNCTION IF EXISTS {FUNCTION}()")


def missing(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the names of the triggers that should be there and are not."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s", [TABLE])
            wanted = set(SQLITE)
        elif connection.vendor == "postgresql":
            # 'D' is a trigger that somebody has switched off.
            cursor.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND tgenabled <> 'D'", [TABLE])
            wanted = set(POSTGRESQL)
        else:
            return []
        return sorted(wanted - {name for (name,) in cursor.fetchall()})


def install_triggers(apps: Any, schema_editor: Any) -> None:
    """Install, as a step of a migration."""
    install(schema_editor.connection)


def remove_triggers(apps: Any, schema_editor: Any) -> None:
    """Remove, as a step of a migration."""
    remove(schema_editor.connection)
