"""The way back: everything is verified before anything is touched, and the database comes last, at once."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from portal.backups import database
from portal.backups.making import FORMAT, UNFINISHED
from portal.backups.sealing import BackupError, Part, Seal, is_sound, read_part
from portal.storage import private_files

_FILES: Final = "files/"
_MODELS: Final = "models/"
_KEPT_PROBLEMS: Final = 20


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a backup says it holds: the head of its manifest and its parts."""

    folder: Path
    seal: Seal
    head: dict[str, Any]
    parts: tuple[Part, ...]

    @property
    def bytes(self) -> int:
        """How many bytes were copied."""
        return sum(part.bytes for part in self.parts)

    def of(self, kind: str) -> Iterator[Part]:
        """Yield the parts below a folder of the backup."""
        return (part for part in self.parts if part.path.startswith(kind))


def read_backup(folder: Path, *, passphrase: str) -> Content:
    """Read what a backup holds. Raises ``BackupError`` where it is none, unfinished, damaged, or locked."""
    if folder.name.endswith(UNFINISHED):
        raise BackupError("This backup was never finished. Please choose another one.")
    try:
        cover = json.loads((folder / "backup.json").read_text())
        if cover["format"] != FORMAT:
            raise BackupError("This backup was made by a newer version of the portal. Please install that first.")
        is_encrypted, expected, count = cover["is_encrypted"], cover["manifest_sha256"], cover["lines"]
        salt, check = str(cover["salt"]), str(cover["check"])
    except FileNotFoundError as error:
        raise BackupError(
            "This is no complete backup: it has no backup.json. Please name the folder of one backup, such as "
            "DIR/2026-03-09T02-00-00Z."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError("backup.json is damaged. Please choose another backup.") from error
    seal = Seal.known(passphrase, salt=salt, check=check) if is_encrypted else Seal(ring=None)
    text = b"".join(read_part(folder, "manifest.jsonl", seal=seal))
    lines = text.splitlines()
    if hashlib.sha256(text).hexdigest() != expected or len(lines) != count:
        raise BackupError("The manifest of the backup is damaged. Please choose another backup.")
    head, *found = (json.loads(line) for line in lines)
    parts = tuple(Part(**part) for part in found)
    if any(".." in Path(part.path).parts or Path(part.path).is_absolute() for part in parts):
        raise BackupError("The manifest of the backup names files outside of it. Please choose another backup.")
    return Content(folder=folder, seal=seal, head=head, parts=parts)


def problems_of(content: Content) -> list[str]:
    """Read every byte of a backup; return what is missing, damaged or too much, in sentences."""
    found = [
        f"{part.path} is missing or damaged."
        for part in content.parts
        if not is_sound(content.folder, part, seal=content.seal)
    ]
    known = {part.path for part in content.parts} | {"manifest.jsonl", "backup.json", "backup.json.sha256"}
    present = {path.relative_to(content.folder).as_posix() for path in content.folder.rglob("*") if path.is_file()}
    found += [f"{path} does not belong to the backup." for path in sorted(present - known)]
    if len(found) > _KEPT_PROBLEMS:
        found = [*found[:_KEPT_PROBLEMS], f"And {len(found) - _KEPT_PROBLEMS} more."]
    return found


def refuse_target(content: Content, *, is_replacing: bool) -> None:
    """Raise ``BackupError`` where the backup does not fit this portal, or where there is something to lose."""
    if content.head["engine"] != connection.vendor:
        raise BackupError(
            f"The backup is of {content.head['engine']}, and DATABASE_URL names {connection.vendor}. Please name a "
            "database of the same kind."
        )
    known = {f"{app}.{name}" for app, name in MigrationLoader(None, ignore_no_migrations=True).disk_migrations}
    if newer := [name for name in content.head["migrations"] if name not in known]:
        raise BackupError(
            "The backup was made by a newer version of the portal. Please install that version first. Unknown here: "
            f"{', '.join(newer[:5])}."
        )
    if is_replacing:
        return
    if database.is_in_use():
        raise BackupError("The database holds people or records. To throw them away, say --replace.")
    if next(iter(private_files().names()), None) is not None:
        raise BackupError("The store holds files. To throw them away, say --replace.")
    if any(path.is_file() for path in Path(settings.MODELS_DIR).rglob("*")):
        raise BackupError("IRA_MODELS_DIR holds files. To throw them away, say --replace.")


def restore(content: Content) -> None:
    """Put everything back: files, models, the database at once; then away with files that no backup knows.

    The caller has verified the backup and the target. Raises ``BackupError``; then the database is as it was.
    """
    store = private_files()
    names = set()
    for part in content.of(_FILES):
        names.add(part.path.removeprefix(_FILES))
        store.write_raw(part.path.removeprefix(_FILES), read_part(content.folder, part.path, seal=content.seal))
    kept = _restore_models(content)
    database.put_back(read_part(content.folder, "database", seal=content.seal))
    for name in list(store.names()):
        if name not in names:
            store.delete(name)
    for path in Path(settings.MODELS_DIR).rglob("*"):
        if path.is_file() and path not in kept:
            path.unlink()


def _restore_models(content: Content) -> set[Path]:
    kept = set()
    for part in content.of(_MODELS):
        path = Path(settings.MODELS_DIR) / part.path.removeprefix(_MODELS)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}{UNFINISHED}")
        with unfinished.open("wb") as stream:
            stream.writelines(read_part(content.folder, part.path, seal=content.seal))
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
        kept.add(path)
    return kept
