"""``manage.py verify_audit``: is the record of who looked at what still the one that was written?"""

import json
from argparse import ArgumentParser
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.utils import timezone

from accounts import audit_triggers
from accounts.audit import Checkpoint, verify_chain


class Command(BaseCommand):
    """Reads the whole chain of events, compares it with the checkpoints of earlier runs, and adds a checkpoint."""

    help = "Check that no access event was changed, taken out or cut off; ends with status 1 where one was."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the file of checkpoints, and that none be added."""
        parser.add_argument(
            "--checkpoints",
            type=Path,
            default=settings.AUDIT_CHECKPOINTS,
            help="file with the ends of the chain at earlier runs; keep it, or a copy, on another machine",
        )
        parser.add_argument("--no-checkpoint", action="store_true", help="check only, add no checkpoint")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check; raise ``CommandError`` with one sentence for each problem."""
        path: Path = options["checkpoints"]
        known = read_checkpoints(path)
        report = verify_chain(checkpoints=known)
        problems = list(report.problems)
        if absent := audit_triggers.missing(connection):
            problems.append(f"The database does not refuse changes any more. Missing: {', '.join(absent)}.")
        if problems:
            raise CommandError(" ".join([*problems, f"Events before it that are sound: {report.count}."]))
        if report.head is not None and not options["no_checkpoint"]:
            add_checkpoint(path, report.head)
        self.stdout.write(f"The log is sound: {report.count} events, {len(known)} checkpoints compared.")
        if report.head is not None:
            self.stdout.write(f"Its end: event {report.head.sequence}, {report.head.sha256}")


def read_checkpoints(path: Path) -> list[Checkpoint]:
    """Return the checkpoints of a file, none where there is no file. Raises ``CommandError`` for a damaged one."""
    if not path.exists():
        return []
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        return [
            Checkpoint(sequence=int(row["sequence"]), sha256=str(row["sha256"]), at=datetime.fromisoformat(row["at"]))
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(
            "The file of checkpoints cannot be read. Please fetch the copy from the other machine."
        ) from (error)


def add_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Append one line to the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {
        "sequence": checkpoint.sequence,
        "sha256": checkpoint.sha256,
        "at": timezone.localtime(checkpoint.at).isoformat(),
    }
    with path.open("a") as stream:
        stream.write(json.dumps(line) + "\n")
