"""``manage.py trainer``: the process on a training machine that works off what the portal asks for."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import close_old_connections

from ml import events, registry
from ml.errors import MlError
from ml.management.commands.train import LABELS
from ml.models import TrainingRun

BEAT_S = 2.0
PATIENCE_S = 15.0


class Command(BaseCommand):
    help = (
        "Train what was asked for in the portal, one after the other, until stopped. Needs requirements/ml.txt, the "
        "portal's database (DATABASE_URL) and the training sets (IRA_DATA_DIR)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="end when nothing waits any more")

    def handle(self, *args: Any, once: bool, **options: Any) -> None:
        self._is_stopping = False
        signal.signal(signal.SIGTERM, self._stop)
        while not self._is_stopping:
            close_old_connections()
            TrainingRun.objects.sweep()
            row = TrainingRun.objects.claim()
            if row is not None:
                self._train(row)
            elif once:
                return
            else:
                time.sleep(BEAT_S)

    def _stop(self, number: int, frame: Any) -> None:
        self._is_stopping = True

    def _train(self, row: TrainingRun) -> None:
        folder = Path(settings.VAR_DIR) / "trainings" / str(row.id)
        folder.mkdir(parents=True, exist_ok=True)
        self.stdout.write(f"Training {row.id} begins in {folder}.")
        with (folder / "log").open("w+", encoding="utf-8") as log:
            process = subprocess.Popen(  # noqa: S603 - our own command
                command_of(row, folder=folder),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                # A group of its own: what it starts ends with it.
                start_new_session=True,
            )
            reader = Reader(process, log=log)
            is_wanted = self._watch(row, process=process, reader=reader)
        # Of a training that was killed: pictures of patients stay no longer than they are needed.
        shutil.rmtree(folder / LABELS, ignore_errors=True)
        if not is_wanted:
            row.stopped()
            self.stdout.write(f"Training {row.id} was stopped.")
        elif process.returncode:
            # A command's error is its last line, a sentence.
            row.fail(
                reader.last.removeprefix("CommandError: ") or f"The training ended with status {process.returncode}."
            )
            self.stderr.write(f"Training {row.id} failed: {row.error}")
        else:
            self._register(row, model=folder / "model")

    def _watch(self, row: TrainingRun, *, process: "subprocess.Popen[str]", reader: "Reader") -> bool:
        """Wait for the process; return False where it was stopped at somebody's wish."""
        while True:
            close_old_connections()
            try:
                process.wait(BEAT_S)
            except subprocess.TimeoutExpired:
                pass
            else:
                reader.join()
                return True
            if self._is_stopping:
                end(process)
                reader.join()
                row.fail("The trainer was stopped. Ask for the training again.")
                return True
            if not row.beat(progress=reader.last):
                end(process)
                reader.join()
                return False

    def _register(self, row: TrainingRun, *, model: Path) -> None:
        row.beat(progress="The model is registered.")
        try:
            version = registry.register(model, by=row.requested_by, note=f"retraining {row.id}")
        except MlError as error:
            row.fail(str(error))
            return
        row.note(model_version=version.version)
        row.finish()
        events.record("training", message="A retraining has ended.", run_id=row.id, model_version=version.version)
        self.stdout.write(f"Training {row.id} has made the version {version.version}.")


class Reader(threading.Thread):
    """Keeps what a process says in a file, and its last line at hand."""

    def __init__(self, process: "subprocess.Popen[str]", *, log: Any) -> None:
        super().__init__(daemon=True)
        self.last = ""
        self._lines, self._log = process.stdout, log
        self.start()

    def run(self) -> None:
        assert self._lines is not None  # noqa: S101 - it was opened as a pipe
        with self._lines as lines:
            for line in lines:
                self._log.write(line)
                self._log.flush()
                self.last = line.strip() or self.last


def command_of(row: TrainingRun, *, folder: Path) -> list[str]:
    """Return the command line that a row's options ask for."""
    options = row.options
    command = [sys.executable, sys.argv[0] if sys.argv[0].endswith("manage.py") else "manage.py", "train"]
    command += ["--out", str(folder), "--run", str(row.id)]
    if options.get("from_portal"):
        command.append("--from-portal")
    if parameters := os.environ.get("IRA_TRAINING_PARAMS"):
        command += ["--params", parameters]
    return command


def end(process: "subprocess.Popen[str]") -> None:
    """End a process and what it started, first in kindness."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            process.wait(PATIENCE_S)
            return
        except subprocess.TimeoutExpired:
            continue
