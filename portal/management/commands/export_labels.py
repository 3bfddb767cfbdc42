"""``manage.py export_labels``: what doctors judged, as a versioned data set that training reads."""

import os
import shutil
import subprocess
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ml import events
from portal.learning.export import DATA, Export, ExportError, export_labels
from portal.learning.labels import collect_labels


class Command(BaseCommand):
    help = (
        "Write the classes and outlines of signed reports, without names, dates and numbers, into the layouts that "
        "manage.py train reads. Only of hospitals that teach the model, and of patients who do not refuse."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where data/ and manifest.csv go")
        parser.add_argument(
            "--with",
            dest="base",
            type=Path,
            metavar="DIR",
            help="the training sets to put beside them, so that DIR/data is all that training needs",
        )
        parser.add_argument("--dvc", action="store_true", help="have DVC keep this version of DIR/data (dvc add)")

    def handle(self, *args: Any, out: Path, base: Path | None, dvc: bool, **options: Any) -> None:
        if base is not None and not base.is_dir():
            raise CommandError(f"There is no folder {base}. Please name the one that holds the training sets.")
        if dvc and shutil.which("dvc") is None:
            raise CommandError("--dvc needs DVC. Install requirements/ml.txt, or leave the option out.")
        try:
            export = export_labels(collect_labels(), out=out, base=base)
        except ExportError as error:
            raise CommandError(str(error)) from error
        self._tell(export)
        events.record(
            "ingestion",
            message="Labels of doctors were exported for training.",
            run_id=export.version,
            slices=export.slices,
            outlines=export.outlines,
            patients=export.patients,
            gone=len(export.gone),
        )
        if dvc:
            self._add_to_dvc(out / DATA, version=export.version)

    def _tell(self, export: Export) -> None:
        classes = ", ".join(f"{name} {count}" for name, count in export.classes.items()) or "none"
        self.stdout.write(f"Version {export.version}: {export.slices} slices of {export.patients} patients.")
        self.stdout.write(f"Outlines: {export.outlines}. Classes: {classes}.")
        for reason, count in export.left_out.items():
            self.stdout.write(f"Left out: {count} slices. {reason}")
        if export.with_text:
            self.stdout.write(
                f"{len(export.with_text)} slices had something bright beside the body, which may be writing. It is "
                "blackened; please look at them before you give the data away: " + ", ".join(export.with_text)
            )
        for one in export.gone:
            self.stdout.write(f"Gone since the last export: {one['slice']}. {one['reason']}")
        if export.gone:
            self.stdout.write(
                "Earlier versions in DVC's cache and remote still hold what is gone: remove them with "
                "dvc gc --workspace --cloud, and train anew what must forget it."
            )

    def _add_to_dvc(self, data: Path, *, version: str) -> None:
        environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(  # noqa: S603 - our own arguments
            ["dvc", "add", data.name],  # noqa: S607 - the virtual environment's DVC
            cwd=data.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CommandError(f"DVC did not take the data: {done.stderr.strip()}")
        pointer = data.with_name(f"{data.name}.dvc")
        self.stdout.write(f"DVC holds version {version}; commit {pointer} with it, then dvc push.")
