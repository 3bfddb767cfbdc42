"""Making a backup: complete, consistent and checksummed, or not there at all.

No row of a backup points at a file that is missing in it, although the portal goes on working meanwhile. Rows are
committed after their files are written, and files never change; but files are deleted. So the files come first, then a
picture of the database at one moment, then the files that came in between; where one of those was deleted before it was
copied, a new picture is taken, and only what that picture names is kept. Each round is shorter than the one before.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import connection
from django.utils import timezone

from portal.backups import database
from portal.backups.sealing import BackupError, Part, Seal, write_part
from portal.storage import PIECE, private_files

FORMAT: Final = 1
UNFINISHED: Final = ".unfinished"
# Rounds until what is missing is taken for lost, and not for deleted meanwhile.
_ROUNDS: Final = 5


@dataclass(frozen=True, kw_only=True)
class Backup:
    """A backup that was made: where it is, what is in it, and the stored files that were lost before it was made."""

    folder: Path
    files: int
    bytes: int
    is_encrypted: bool
    lost: tuple[str, ...]


def make_backup(target: Path, *, passphrase: str) -> Backup:
    """Copy the portal into a new folder below ``target``, which it is the only one to do at a time.

    An empty ``passphrase`` leaves the copy readable for whoever has it. Raises ``BackupError``; then nothing that looks
    like a backup is left.
    """
    seal = Seal.new(passphrase)
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone_in(target):
        for left_over in target.glob(f"*{UNFINISHED}"):
            shutil.rmtree(left_over)
        stamp = timezone.now().strftime("%Y-%m-%dT%H-%M-%SZ")
        unfinished, folder = target / f"{stamp}{UNFINISHED}", target / stamp
        if folder.exists():
            raise BackupError("There is a backup of this second already. Please try again.")
        try:
            made = _write(unfinished, seal=seal)
            unfinished.rename(folder)
            _sync(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return Backup(folder=folder, is_encrypted=seal.ring is not None, **made)


def _write(folder: Path, *, seal: Seal) -> dict:
    folder.mkdir(mode=0o700)
    copied: dict[str, Part] = {}
    _copy_files(folder, database.names_now(), copied=copied, seal=seal)
    lost: frozenset[str] = frozenset()
    for _ in range(_ROUNDS):
        with database.snapshot() as taken:
            missing = _copy_files(folder, taken.names, copied=copied, seal=seal)
            if missing - lost:
                lost = missing
                continue
            head = {
                "format": FORMAT,
                "engine": connection.vendor,
                "made_at": timezone.now().isoformat(),
                "migrations": database.migrations_applied(),
                "lost": sorted(missing),
            }
            dump = write_part(folder, "database", taken.dump(), seal=seal)
            break
    else:
        raise BackupError("Files are deleted faster than they can be copied. Please make the backup at a quieter time.")
    for name in copied.keys() - taken.names:
        (folder / copied.pop(name).path).unlink()
    parts = [dump, *copied.values(), *_copy_models(folder, seal=seal)]
    _write_manifest(folder, head=head, parts=parts, seal=seal)
    return {"files": len(copied), "bytes": sum(part.bytes for part in parts), "lost": tuple(sorted(missing))}


def _copy_files(folder: Path, names: frozenset[str], *, copied: dict[str, Part], seal: Seal) -> frozenset[str]:
    """Copy what is not copied yet; return the names of what is not there."""
    store, missing = private_files(), set()
    for name in sorted(names - copied.keys()):
        try:
            with store.raw(name) as stream:
                chunks = iter(lambda: stream.read(PIECE), b"")
                copied[name] = write_part(folder, f"files/{name}", chunks, seal=seal)
        except FileNotFoundError:
            missing.add(name)
    return frozenset(missing)


def _copy_models(folder: Path, *, seal: Seal) -> Iterator[Part]:
    source = Path(settings.MODELS_DIR)
    for path in sorted(source.rglob("*")) if source.is_dir() else ():
        if path.is_file() and not path.is_symlink():
            yield write_part(folder, f"models/{path.relative_to(source).as_posix()}", _chunks_of(path), seal=seal)


def _chunks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        yield from iter(lambda: stream.read(PIECE), b"")


def _write_manifest(folder: Path, *, head: dict, parts: Iterable[Part], seal: Seal) -> None:
    lines = [head, *(asdict(part) for part in parts)]
    manifest = write_part(folder, "manifest.jsonl", (json.dumps(line).encode() + b"\n" for line in lines), seal=seal)
    cover = {
        "format": FORMAT,
        "is_encrypted": seal.ring is not None,
        "salt": seal.salt,
        "check": seal.check,
        "manifest_sha256": manifest.sha256,
        "lines": len(lines),
    }
    text = json.dumps(cover, indent=2)
    with (folder / "backup.json").open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    (folder / "backup.json.sha256").write_text(hashlib.sha256(text.encode()).hexdigest() + "\n")
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        _sync(path)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BackupError("Another backup is being written to this folder. Please wait for its end.") from error
        yield


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
