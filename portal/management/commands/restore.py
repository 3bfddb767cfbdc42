"""``manage.py restore FOLDER``: the way back from a backup, or only the question whether there is one."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from portal.backups.restoring import problems_of, read_backup, refuse_target, restore
from portal.backups.sealing import BackupError


class Command(BaseCommand):
    """Verifies every byte of a backup before it touches anything."""

    help = "Restore a backup into an empty portal. Stop web and workers first; run migrate and the checks afterwards."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the backup, and what is meant to happen."""
        parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder of one backup, DIR/2026-03-09T…")
        parser.add_argument("--verify", action="store_true", help="only read and check every byte of the backup")
        parser.add_argument(
            "--replace", action="store_true", help="throw away what is in database, store and model folders"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Verify, then restore. Raises ``CommandError`` with a sentence; then the database is as it was."""
        try:
            content = read_backup(options["folder"], passphrase=settings.BACKUP_PASSPHRASE)
            problems = problems_of(content)
            if problems:
                raise CommandError(" ".join(["The backup is not as it was made; nothing was touched.", *problems]))
            self.stdout.write(
                f"The backup of {content.head['made_at']} is sound: {len(content.parts)} files, "
                f"{content.bytes / 1024**2:.1f} MB."
            )
            if options["verify"]:
                return
            refuse_target(content, is_replacing=options["replace"])
            restore(content)
        except BackupError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"The backup could not be restored; the database is as it was. {error}") from error
        self.stdout.write("Restored. Now run: migrate, verify_audit, verify_reports; then start web and workers.")
