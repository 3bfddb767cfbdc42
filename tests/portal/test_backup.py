"""The restore drill: everything is destroyed and put back, on SQLite and on PostgreSQL; and backups that are none."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command

from accounts.models import User
from portal.backups import making
from portal.backups.sealing import BackupError
from tests.factories import DoctorFactory
from tests.portal.backup_drill import PASSPHRASE
from tests.postgres_server import running_server
from tests.tools import ROOT, postgres_bin


def drill(folder: Path, *, database_url: str) -> None:
    """Let a portal of its own go through the drill."""
    (folder / "var").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.portal.backup_drill", str(folder)],
        cwd=ROOT,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "portal.settings.test",
            "DATABASE_URL": database_url,
            "IRA_VAR_DIR": str(folder / "var"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a portal on SQLite has gone through the drill; its backups are there."""
    folder = tmp_path_factory.mktemp("drill")
    drill(folder, database_url=f"sqlite:///{folder / 'var' / 'portal.sqlite3'}")
    return folder


@pytest.fixture
def plain(drilled: Path, tmp_path: Path) -> Path:
    """A copy of its backup that is not encrypted."""
    (folder,) = (path for path in (drilled / "backups").iterdir() if path.is_dir())
    return Path(shutil.copytree(folder, tmp_path / "plain"))


@pytest.fixture
def locked(drilled: Path, tmp_path: Path, settings) -> Path:
    """A copy of its encrypted backup, and the passphrase."""
    (folder,) = (path for path in (drilled / "locked").iterdir() if path.is_dir())
    settings.BACKUP_PASSPHRASE = PASSPHRASE
    return Path(shutil.copytree(folder, tmp_path / "locked"))


def refusal(*arguments: str) -> str:
    with pytest.raises(CommandError) as refused:
        call_command("restore", *arguments, stdout=io.StringIO())
    return str(refused.value)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_everything_is_destroyed_and_put_back_on_sqlite(drilled: Path) -> None:
    assert drilled.exists()


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(900)
def test_everything_is_destroyed_and_put_back_on_postgresql(tmp_path: Path) -> None:
    with running_server(postgres_bin(), "fsync=off") as server:
        drill(tmp_path, database_url=server.make_database("drill"))


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "exchanged", "added", "manifest", "cover"])
def test_a_damaged_backup_touches_nothing(plain: Path, damage: str) -> None:
    first, second, *_ = sorted((plain / "files").rglob("*.png"))
    content = first.read_bytes()
    match damage:
        case "cut":
            (plain / "database").write_bytes((plain / "database").read_bytes()[:-1])
        case "flipped":
            first.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "missing":
            first.unlink()
        case "exchanged":
            first.write_bytes(second.read_bytes())
            second.write_bytes(content)
        case "added":
            (plain / "files" / "more.png").write_bytes(content)
        case "manifest":
            lines = (plain / "manifest.jsonl").read_text().splitlines(keepends=True)
            (plain / "manifest.jsonl").write_text("".join(lines[:-1]))
        case "cover":
            (plain / "backup.json").write_text("{")
    for option in ("--verify", "--replace"):
        sentence = refusal(str(plain), option)
        assert "damaged" in sentence or "does not belong" in sentence
    assert list(default_storage.names()) == []
    assert not User.objects.exists()


@pytest.mark.slow
@pytest.mark.django_db
def test_a_changed_part_of_an_encrypted_backup_is_found(locked: Path) -> None:
    path = next((locked / "files").rglob("*.png"))
    raw = bytearray(path.read_bytes())
    raw[-40] ^= 1
    path.write_bytes(bytes(raw))
    assert "missing or damaged" in refusal(str(locked), "--replace")
    assert list(default_storage.names()) == []


@pytest.mark.slow
@pytest.mark.django_db
def test_what_would_be_lost_is_not_overwritten_unasked(plain: Path) -> None:
    if settings.DATABASES["default"]["ENGINE"] != "django.db.backends.sqlite3":
        assert "is of sqlite" in refusal(str(plain))
        return
    default_storage.save("images/a.png", ContentFile(b"somebody's"))
    assert "The store holds files" in refusal(str(plain))
    DoctorFactory()
    assert "people or records" in refusal(str(plain))


@pytest.mark.slow
@pytest.mark.django_db
def test_a_backup_of_a_newer_version_is_refused(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from portal.backups import restoring

    known = restoring.MigrationLoader(None, ignore_no_migrations=True).disk_migrations
    older = {key: value for key, value in known.items() if key != ("studies", "0009_erasure_requests")}
    monkeypatch.setattr(restoring, "MigrationLoader", lambda *_, **__: type("Loader", (), {"disk_migrations": older}))
    if settings.DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
        assert "made by a newer version" in refusal(str(plain), "--replace")


def test_what_is_deleted_while_it_is_copied_is_in_no_row_of_the_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each moment names another file; the one of the first moment is gone before it is copied."""
    for name in ("b.png", "c.png"):
        default_storage.save(name, ContentFile(name.encode()))
    moments = [frozenset({"a.png", "b.png"}), frozenset({"b.png", "c.png"})]
    portal_of(moments, monkeypatch)
    made = making.make_backup(tmp_path / "backups", passphrase="")
    copied = sorted(path.name for path in (made.folder / "files").iterdir())
    assert (copied, made.lost) == (["b.png", "c.png"], ())


def test_what_was_lost_before_is_named_and_the_rest_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default_storage.save("b.png", ContentFile(b"b"))
    portal_of([frozenset({"a.png", "b.png"})] * 2, monkeypatch)
    made = making.make_backup(tmp_path / "backups", passphrase="")
    assert (made.files, made.lost) == (1, ("a.png",))


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    default_storage.save("b.png", ContentFile(b"b"))
    portal_of([frozenset({"b.png"})], monkeypatch)
    monkeypatch.setattr(making, "write_part", full)
    with pytest.raises(CommandError, match="nothing of it is left"):
        call_command("backup", str(tmp_path / "backups"))
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [".lock"]


def test_two_backups_at_once_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    portal_of([frozenset()], monkeypatch)
    with making._alone_in(tmp_path), pytest.raises(BackupError, match="Another backup"):
        making.make_backup(tmp_path, passphrase="")


def portal_of(moments: list[frozenset[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the database name other files at each moment that it is asked for."""
    from contextlib import contextmanager

    from portal.backups import database

    left = list(moments)

    @contextmanager
    def snapshot():
        yield database.Snapshot(names=left.pop(0), dump=lambda: iter([b"rows"]))

    monkeypatch.setattr(database, "names_now", frozenset)
    monkeypatch.setattr(database, "migrations_applied", list)
    monkeypatch.setattr(database, "snapshot", snapshot)
