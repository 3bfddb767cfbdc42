"""``manage.py rotate_picture_keys``: encrypt every stored file with the first of ``IRA_PICTURE_KEYS``."""

from argparse import ArgumentParser
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.core.management.base import BaseCommand, CommandError

from portal.storage import (
    EncryptedContent,
    EncryptedReader,
    PrivateFiles,
    StoredFileError,
    is_encrypted,
    key_ring,
    private_files,
)


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
        store = private_files()
        for name in store.names():
            try:
                if has_key(store, name, key=newest):
                    current += 1
                    continue
                if not options["dry_run"]:
                    encrypt_again(store, name, key=newest)
                done += 1
            except FileNotFoundError:
                continue  # deleted meanwhile
            except StoredFileError:
                unreadable.append(name)
        verb = "to rewrite" if options["dry_run"] else "rewritten"
        self.stdout.write(f"{current} files have the newest key, {done} {verb}, {len(unreadable)} cannot be read.")
        if unreadable:
            raise CommandError(f"No key reads these files; keep the old keys. {', '.join(unreadable[:20])}")


def has_key(store: PrivateFiles, name: str, *, key: Fernet) -> bool:
    """Whether a file is encrypted with this key; all pieces of a file have the same one."""
    with store.raw(name) as stream:
        if not is_encrypted(stream):
            return False
        try:
            EncryptedReader(stream, ring=key)
        except StoredFileError:
            return False
        return True


def encrypt_again(store: PrivateFiles, name: str, *, key: Fernet) -> None:
    """Replace a file by the same one under this key, at once; one that was deleted meanwhile stays deleted.

    Raises ``StoredFileError`` if no key reads it; then it stays as it is.
    """
    with default_storage.open(name) as plain:
        store.write_raw(name, EncryptedContent(File(plain.file), ring=key).chunks(), only_replace=True)
