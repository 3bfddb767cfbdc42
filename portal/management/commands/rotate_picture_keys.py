"""``manage.py rotate_picture_keys``: encrypt every stored file with the first of ``IRA_PICTURE_KEYS``."""

import os
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.core.management.base import BaseCommand, CommandError

from portal.storage import EncryptedContent, EncryptedReader, StoredFileError, is_encrypted, key_ring

UNFINISHED = ".rotating"


class Command(BaseCommand):
    """Rewrites what is plain or encrypted with an older key; may be stopped and run again at any time."""

    help = "Encrypt every stored file with the first key; plain files and older keys are read."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the dry run."""
        parser.add_argument("--dry-run", action="store_true", help="count only, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Rewrite file by file. Raises ``CommandError`` without keys, and at the end if files could not be read."""
        if key_ring() is None:
            raise CommandError("There are no keys. Please set IRA_PICTURE_KEYS, the new key first.")
        newest = Fernet(settings.PICTURE_KEYS[0])
        current, done, unreadable = 0, 0, []
        for path in stored_files(Path(default_storage.location)):  # type: ignore[attr-defined] # a store in a folder
            try:
                if has_key(path, key=newest):
                    current += 1
                    continue
                if not options["dry_run"]:
                    encrypt_again(path, key=newest)
                done += 1
            except FileNotFoundError:
                continue  # deleted meanwhile
            except StoredFileError:
                unreadable.append(path.name)
        verb = "to rewrite" if options["dry_run"] else "rewritten"
        self.stdout.write(f"{current} files have the newest key, {done} {verb}, {len(unreadable)} cannot be read.")
        if unreadable:
            raise CommandError(f"No key reads these files; keep the old keys. {', '.join(unreadable[:20])}")


def stored_files(folder: Path) -> Iterator[Path]:
    """Yield the files of the store; remove what a run that was stopped has left half written."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        if path.name.endswith(UNFINISHED):
            path.unlink(missing_ok=True)
        else:
            yield path


def has_key(path: Path, *, key: Fernet) -> bool:
    """Whether a file is encrypted with this key; all pieces of a file have the same one."""
    with path.open("rb") as stream:
        if not is_encrypted(stream):
            return False
        try:
            EncryptedReader(stream, ring=key)
        except StoredFileError:
            return False
        return True


def encrypt_again(path: Path, *, key: Fernet) -> None:
    """Replace a file by the same one under this key: written beside it, then put in its place at once.

    Raises ``StoredFileError`` if no key reads it; then it stays as it is.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    location = str(default_storage.location)  # type: ignore[attr-defined] # a store on disk has one
    with default_storage.open(os.path.relpath(str(path), location)) as plain:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, path.stat().st_mode & 0o777)
        try:
            with os.fdopen(descriptor, "wb") as target:
                for chunk in EncryptedContent(File(plain.file), ring=key).chunks():
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            if path.exists():
                unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
