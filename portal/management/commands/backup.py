"""``manage.py backup DIR``: database, pictures and models as one folder that is complete or not there."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from portal.backups.making import make_backup
from portal.backups.sealing import BackupError


class Command(BaseCommand):
    """Copies a portal that goes on working; ends with status 1 where files were lost before."""

    help = "Copy database, pictures and models into a new folder below DIR; encrypted if IRA_BACKUP_PASSPHRASE is set."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare where the backup goes."""
        parser.add_argument("folder", metavar="DIR", type=Path, help="folder in which each backup gets its own")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make a backup. Raises ``CommandError`` with a sentence; then nothing is left that looks like one."""
        try:
            made = make_backup(options["folder"], passphrase=settings.BACKUP_PASSPHRASE)
        except BackupError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"The backup could not be written, and nothing of it is left. {error}") from error
        self.stdout.write(f"{made.folder}: {made.files} stored files, {made.bytes / 1024**2:.1f} MB.")
        if not made.is_encrypted:
            self.stdout.write("It is not encrypted: whoever has it reads everything. See IRA_BACKUP_PASSPHRASE.")
        if made.lost:
            raise CommandError(
                f"The backup is complete, but {len(made.lost)} files that rows name were not in the store any more: "
                f"{', '.join(made.lost[:20])}"
            )
