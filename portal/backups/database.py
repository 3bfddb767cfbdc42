"""A picture of the database at one moment, the names of files in it, and the way back; SQLite and PostgreSQL."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.db import connection, models, transaction

from portal.backups.sealing import BackupError
from portal.storage import PIECE

# What Django calls the options of a connection, and where PostgreSQL's programs look for them.
_OPTIONS: Final = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "connect_timeout": "PGCONNECT_TIMEOUT",
}
# A portal that still runs holds its tables; the way back does not wait for it for ever.
_LOCK_WAIT_S: Final = 10


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The database at one moment: the stored files that its rows name, and its bytes, to be asked for once."""

    names: frozenset[str]
    dump: Callable[[], Iterator[bytes]]


@contextmanager
def snapshot() -> Iterator[Snapshot]:
    """Hold the database still for one reader; everybody else goes on. Raises ``BackupError``."""
    with _of_postgres() if connection.vendor == "postgresql" else _of_sqlite() as found:
        yield found


def names_now() -> frozenset[str]:
    """Return the stored files that rows name at this moment."""
    with connection.cursor() as cursor:
        return _names(lambda sql: _rows(cursor, sql))


def migrations_applied() -> list[str]:
    """Return the migrations that the database has had, as ``app.name``."""
    with connection.cursor() as cursor:
        return [f"{app}.{name}" for app, name in _rows(cursor, "SELECT app, name FROM django_migrations ORDER BY id")]


def is_in_use() -> bool:
    """Whether somebody's data is in the database: people, records, or a log of accesses."""
    present = set(connection.introspection.table_names())
    for model in (apps.get_model(name) for name in ("accounts.User", "accounts.AccessEvent", "studies.Patient")):
        if model._meta.db_table in present and model._base_manager.exists():
            return True
    return False


def put_back(chunks: Iterable[bytes]) -> None:
    """Replace the whole database at once, or leave it as it is. Raises ``BackupError``."""
    if connection.vendor == "postgresql":
        _put_back_postgres(chunks)
    else:
        _put_back_sqlite(chunks)


def _names(execute: Callable[[str], Iterable[tuple[Any, ...]]]) -> frozenset[str]:
    found: set[str] = set()
    for model in apps.get_models():
        for field in model._meta.local_concrete_fields:
            if isinstance(field, models.FileField) and not model._meta.proxy:
                column, table = map(connection.ops.quote_name, (str(field.column), model._meta.db_table))
                # Names of our own tables, nothing that anybody typed.
                sql = f"SELECT {column} FROM {table} WHERE {column} <> ''"  # nosec B608 # noqa: S608
                found.update(row[0] for row in execute(sql))
    return frozenset(found)


def _rows(cursor: Any, sql: str) -> Iterator[tuple[Any, ...]]:
    cursor.execute(sql)
    return iter(cursor.fetchone, None)


# --- SQLite -----------------------------------------------------------------------------------------------------------


@contextmanager
def _of_sqlite() -> Iterator[Snapshot]:
    live = Path(connection.settings_dict["NAME"])
    with tempfile.TemporaryDirectory(dir=live.parent, prefix=".backup-") as folder:
        copy = Path(folder) / "database"
        with closing(sqlite3.connect(live, timeout=20)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            # One file without a journal beside it.
            target.execute("PRAGMA journal_mode=DELETE")
            names = _names(lambda sql: target.execute(sql))
        yield Snapshot(names=names, dump=lambda: _file_chunks(copy))


def _put_back_sqlite(chunks: Iterable[bytes]) -> None:
    live = Path(connection.settings_dict["NAME"])
    connection.close()
    with tempfile.TemporaryDirectory(dir=live.parent, prefix=".restore-") as folder:
        copy = Path(folder) / "database"
        with copy.open("wb") as stream:
            stream.writelines(chunks)
        try:
            with (
                closing(sqlite3.connect(copy)) as source,
                closing(sqlite3.connect(live, timeout=_LOCK_WAIT_S)) as target,
            ):
                if source.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                    raise BackupError("The database in the backup is damaged. The portal's own is as it was.")
                source.backup(target)
        except sqlite3.Error as error:
            raise BackupError(_not_replaced(str(error))) from error


def _file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        yield from iter(lambda: stream.read(PIECE), b"")


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@contextmanager
def _of_postgres() -> Iterator[Snapshot]:
    program = _program("pg_dump")
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute("SELECT pg_export_snapshot()")
        (identifier,) = cursor.fetchone()
        names = _names(lambda sql: _rows(cursor, sql))
        command = [program, "--format=custom", "--no-owner", "--no-privileges", f"--snapshot={identifier}"]
        yield Snapshot(names=names, dump=lambda: _output_of(command))


def _output_of(command: list[str]) -> Iterator[bytes]:
    with tempfile.TemporaryFile() as errors:
        # The programs are PostgreSQL's own, and what they are given is ours.
        with subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.PIPE, stderr=errors, env=_environment()
        ) as process:
            assert process.stdout is not None  # noqa: S101 - narrows the type: a pipe was asked for
            yield from iter(lambda: process.stdout.read(PIECE), b"")  # type: ignore[union-attr] # as above
        if process.returncode:
            raise BackupError(f"The database could not be copied. pg_dump says: {_last_words(errors)}")


def _put_back_postgres(chunks: Iterable[bytes]) -> None:
    """Feed psql one transaction: away with our tables, then what pg_restore makes of the dump."""
    programs = [_program(name) for name in ("psql", "pg_restore")]
    begin = f"SET lock_timeout = '{_LOCK_WAIT_S}s';\n" + "".join(
        f"DROP TABLE IF EXISTS {connection.ops.quote_name(name)} CASCADE;\n" for name in _our_tables()
    )
    connection.close()
    psql = [programs[0], "-X", "-q", "--single-transaction", "-v", "ON_ERROR_STOP=1", "-f", "-"]
    restore = [programs[1], "--no-owner", "--no-privileges", "--clean", "--if-exists", "-f", "-"]
    with tempfile.TemporaryFile() as errors:
        writer = subprocess.Popen(  # noqa: S603 - as above
            psql, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, env=_environment()
        )
        assert writer.stdin is not None  # noqa: S101 - narrows the type: a pipe was asked for
        try:
            writer.stdin.write(begin.encode())
            writer.stdin.flush()
            reader = subprocess.Popen(  # noqa: S603 - as above
                restore, stdin=subprocess.PIPE, stdout=writer.stdin, stderr=errors
            )
            assert reader.stdin is not None  # noqa: S101 - as above
            with reader.stdin:
                for chunk in chunks:
                    reader.stdin.write(chunk)
            if reader.wait():
                # Half a script must not be taken for a whole one.
                writer.stdin.write(b"\nSELECT 1/0;\n")
        except BrokenPipeError:
            pass  # one of the programs has stopped; its words are told below
        except BaseException:
            writer.kill()
            raise
        finally:
            try:
                writer.stdin.close()
            except BrokenPipeError:
                pass
            writer.wait()
        if writer.returncode:
            raise BackupError(_not_replaced(_last_words(errors)))


def _our_tables() -> list[str]:
    caches = {str(cache.get("LOCATION")) for cache in settings.CACHES.values()}
    ours = {*connection.introspection.django_table_names(include_views=False), "django_migrations", *caches}
    return sorted(ours & set(connection.introspection.table_names()))


def _program(name: str) -> str:
    if path := shutil.which(name):
        return path
    raise BackupError(
        f"The program {name} is not on this machine. Please install PostgreSQL's client programs, in the "
        "server's version or newer (Debian: apt-get install postgresql-client)."
    )


def _environment() -> dict[str, str]:
    """Return the environment in which PostgreSQL's programs find our database; nothing secret stands in a command."""
    known = connection.settings_dict
    values = {
        "PGHOST": known["HOST"],
        "PGPORT": str(known["PORT"] or ""),
        "PGUSER": known["USER"],
        "PGPASSWORD": known["PASSWORD"],
        "PGDATABASE": known["NAME"],
        **{name: str(known["OPTIONS"].get(option, "")) for option, name in _OPTIONS.items()},
    }
    return os.environ | {name: value for name, value in values.items() if value}


def _last_words(errors: Any) -> str:
    errors.seek(0)
    return " ".join(errors.read().decode(errors="replace").split())[-500:]


def _not_replaced(reason: str) -> str:
    return (
        "The database could not be replaced and is as it was. Please stop web and workers, and try again. "
        f"The database says: {reason}"
    )
