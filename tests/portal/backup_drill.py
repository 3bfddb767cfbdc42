"""Plays a portal for tests/portal/test_backup.py, in a process of its own: ``python -m … FOLDER``.

Fills it, is interrupted while it makes a backup, makes one, destroys everything, restores, and compares. The backups
stay in ``FOLDER/backups`` (plain) and ``FOLDER/locked`` (encrypted). Ends with a traceback where something is wrong.
"""

import hashlib
import io
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import django
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

PASSPHRASE = "a passphrase of the drill"
MODEL = "2026-03-09/model.json"
SECRETS = (b"\x89PNG", b"%PDF", b"PGDMP", b"SQLite format", b"of the drill", b"example.org")


def said(command: str, *arguments: str) -> str:
    """Run a command and return what it said."""
    output = io.StringIO()
    call_command(command, *arguments, stdout=output)
    return output.getvalue()


def refused(command: str, *arguments: str) -> str:
    """Run a command that refuses, and return its sentence."""
    try:
        call_command(command, *arguments, stdout=io.StringIO())
    except CommandError as error:
        return str(error)
    raise AssertionError(f"{command} {arguments} was not refused")


def fill() -> None:
    """One patient's way to a released report, a slice that is not analysed, and a log of accesses."""
    from accounts.models import AccessEvent
    from tests.factories import AnalysisFactory, ReportFactory

    report = ReportFactory(is_released=True)
    AnalysisFactory()
    for _ in range(3):
        AccessEvent.note_of(action=AccessEvent.Action.VIEWED, target=report, actor=report.created_by)


def tell() -> dict[str, Any]:
    """Everything that must be the same afterwards."""
    from django.apps import apps
    from django.core.files.storage import default_storage

    from studies.models import Image

    ours = [model for model in apps.get_models() if model._meta.app_label in ("accounts", "studies", "reports")]
    found: dict[str, Any] = {
        model.__name__: sorted(map(repr, model._base_manager.values_list())) for model in ours if model._meta.managed
    }
    for image in Image.objects.all():
        with image.file.open() as file:
            found[str(image.pk)] = hashlib.sha256(file.read()).hexdigest()
    found["files"] = sorted(default_storage.names())
    return found


def interrupt(target: Path) -> None:
    """Kill a backup while it copies; nothing is left that looks like one."""
    connection.close()
    child = os.fork()
    if child == 0:
        from portal import storage

        as_it_lies = storage.PrivateStorage.raw

        def slowly(self: storage.PrivateStorage, name: str) -> Any:
            time.sleep(0.5)
            return as_it_lies(self, name)

        storage.PrivateStorage.raw = slowly
        call_command("backup", str(target), stdout=io.StringIO())
        os._exit(0)
    end = time.monotonic() + 60
    while not list(target.glob("*.unfinished/files/*")):
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    (left_over,) = (path for path in target.iterdir() if path.is_dir())
    assert "never finished" in refused("restore", str(left_over), "--verify")
    renamed = left_over.rename(target / "looks-whole")
    assert "no complete backup" in refused("restore", str(renamed), "--verify")
    renamed.rename(left_over)


def backup(target: Path, *, passphrase: str = "") -> Path:
    """Make a backup and return its folder, the only one there."""
    settings.BACKUP_PASSPHRASE = passphrase
    sentence = said("backup", str(target))
    assert ("not encrypted" in sentence) == (not passphrase)
    (folder,) = (path for path in target.iterdir() if path.is_dir())
    return folder


def destroy() -> None:
    """The fire."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("DROP SCHEMA public CASCADE")
            cursor.execute("CREATE SCHEMA public")
    connection.close()
    if connection.vendor == "sqlite":
        live = Path(settings.DATABASES["default"]["NAME"])
        for path in live.parent.glob(f"{live.name}*"):
            path.unlink()
    shutil.rmtree(settings.MEDIA_ROOT)
    shutil.rmtree(settings.MODELS_DIR)


def drill(folder: Path) -> None:
    """Everything, in order."""
    call_command("migrate", verbosity=0)
    call_command("create_roles", verbosity=0)
    fill()
    model = Path(settings.MODELS_DIR) / MODEL
    model.parent.mkdir(parents=True)
    model.write_text('{"version": "of the drill"}')
    said("verify_audit")
    before = tell()

    (folder / "backups").mkdir()
    interrupt(folder / "backups")
    plain = backup(folder / "backups")
    assert "is sound" in said("restore", str(plain), "--verify")
    settings.BACKUP_PASSPHRASE = "short"
    assert "too short" in refused("backup", str(folder / "other"))
    locked = backup(folder / "locked", passphrase=PASSPHRASE)
    for path in locked.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [secret for secret in SECRETS if secret in content], path
    settings.BACKUP_PASSPHRASE = PASSPHRASE + "!"
    assert "is not the passphrase of this backup" in refused("restore", str(locked))
    settings.BACKUP_PASSPHRASE = ""
    assert "Please set IRA_BACKUP_PASSPHRASE" in refused("restore", str(locked))
    settings.BACKUP_PASSPHRASE = PASSPHRASE
    assert "people or records" in refused("restore", str(locked))
    assert tell() == before, "nothing was touched"
    if connection.vendor == "postgresql":
        with patch.dict(os.environ, PATH="/nowhere"):
            assert "pg_dump is not on this machine" in refused("backup", str(folder / "other"))

    destroy()
    assert "is sound" in said("restore", str(locked), "--verify")
    assert not Path(settings.MEDIA_ROOT).exists()
    assert "Restored" in said("restore", str(locked))
    assert "[ ]" not in said("showmigrations"), "a restored database has had all its migrations"
    assert tell() == before
    assert model.read_text() == '{"version": "of the drill"}'
    assert "The log is sound" in said("verify_audit")
    assert "All 1 signed reports are as they were signed" in said("verify_reports")

    # And over what is there, after somebody has gone on working.
    fill()
    model.with_name("later.json").write_text("{}")
    assert tell() != before
    if connection.vendor == "postgresql":
        refuse_while_somebody_reads(locked)
    said("restore", str(locked), "--replace")
    assert tell() == before
    assert [path.name for path in model.parent.iterdir()] == ["model.json"]
    fill()  # the numbers of new rows go on behind the restored ones


def refuse_while_somebody_reads(folder: Path) -> None:
    """A portal that still runs is not waited for, and its database stays as it is."""
    import psycopg

    from portal.backups import database

    before = tell()["Study"]
    database._LOCK_WAIT_S = 1
    with psycopg.connect(os.environ["DATABASE_URL"]) as somebody:
        somebody.execute("LOCK TABLE studies_image IN ACCESS SHARE MODE")
        assert "stop web and workers" in refused("restore", str(folder), "--replace")
    assert tell()["Study"] == before


if __name__ == "__main__":
    django.setup()
    settings.MEDIA_ROOT = settings.VAR_DIR / "media"
    drill(Path(sys.argv[1]))
