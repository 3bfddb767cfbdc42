"""``manage.py analyse FILE…``: the serving path on files, without database or queue."""

import json
import logging
import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
from django.core.management.base import BaseCommand, CommandError
from numpy.typing import NDArray
from PIL import Image

from ml.errors import MlError, ModelFileError
from ml.inference import AnalysisResult, analyse
from ml.runtime import load_model

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Analyse CT slices (PNG, JPEG or DICOM) exactly as the portal's worker does, without the database."
    # No database, no URLs: nothing that the system checks look at is used here, and they take longer than the analysis.
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a slice as PNG, JPEG or DICOM")
        parser.add_argument("--json", action="store_true", help="print one JSON object a line instead of a table")
        parser.add_argument(
            "--masks",
            type=Path,
            metavar="DIR",
            help="write each outline as an 8-bit PNG (0 or 255) of the file's own size, under the file's stem",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._analyse_all(**options)
        except BrokenPipeError:
            # The reader has gone, as `head` does; what is left to say goes nowhere, and quietly.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None

    def _analyse_all(self, **options: Any) -> None:
        files: list[Path] = options["files"]
        masks = MaskFolder(options["masks"], inputs=files) if options["masks"] else None
        try:
            model = load_model()
        except ModelFileError as error:
            raise CommandError(str(error)) from error
        failed = 0
        for path in files:
            try:
                result = analyse(path, model=model)
                mask_path = masks.write(result.mask, path=path) if masks else None
            except MlError as error:
                failed += 1
                self._report_error(path, message=str(error), is_json=options["json"])
            except Exception:
                # The edge of one file's work: a surprise here must not stop the others.
                logger.exception("Analysis of a file failed unexpectedly")
                failed += 1
                message = "The file could not be analysed because of a fault in this program. Please report it."
                self._report_error(path, message=message, is_json=options["json"])
            else:
                if options["json"]:
                    self._print_json({"file": printable(path), **result.to_json()})
                else:
                    self.stdout.write(as_table(result, path=path, mask_path=mask_path))
        if failed:
            count = f"{failed} of {len(files)} files" if len(files) > 1 else "The file"
            raise CommandError(f"{count} could not be analysed; the reason is given with each.")

    def _report_error(self, path: Path, *, message: str, is_json: bool) -> None:
        if is_json:
            self._print_json({"file": printable(path), "error": message})
        else:
            self.stdout.write(f"{printable(path)}\n  {message}\n")

    def _print_json(self, line: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(line, allow_nan=False))
        self.stdout.flush()


class MaskFolder:
    """Writes outlines under the stem of their file, each to a name of its own, and never over one of the inputs."""

    def __init__(self, folder: Path, *, inputs: list[Path]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(
                f"The folder {printable(folder)} cannot be made: {error.strerror}. Please name another one."
            ) from error
        self._folder = folder
        self._taken = {path.resolve() for path in inputs}

    def write(self, mask: NDArray[np.uint8], *, path: Path) -> Path:
        """Write to a temporary name, then rename: a half-written outline never stands under its final name."""
        target = self._free_name(path.stem)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            Image.fromarray(mask).save(temporary, format="PNG")
            temporary.replace(target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise MaskWriteError(
                f"The outline cannot be written to {printable(target)}: {error.strerror}. "
                "Please free some space or name another folder."
            ) from error
        return target

    def _free_name(self, stem: str) -> Path:
        number = 1
        while True:
            target = self._folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
            if target.resolve() not in self._taken:
                self._taken.add(target.resolve())
                return target
            number += 1


class MaskWriteError(MlError):
    """An outline could not be written to the folder given with ``--masks``."""


def printable(path: Path) -> str:
    """The path as text that any terminal and JSON can take, also where its bytes are no valid UTF-8."""
    return os.fsencode(path).decode("utf-8", errors="replace")


def as_table(result: AnalysisResult, *, path: Path, mask_path: Path | None) -> str:
    """What a person reads: classes from most to least probable, then the findings."""
    lines = [f"{printable(path)}  ({result.width} x {result.height} px, model {result.model_version})"]
    ranked = sorted(result.probabilities.items(), key=lambda item: -item[1])
    lines += [f"  {name.replace('_', ' '):<26}{share:7.1%}" for name, share in ranked]
    lines.append(f"  {'malignant':<26}{result.malignant_probability:7.1%}   {result.malignant_basis}")
    if result.findings:
        lines.append("  finding   box x,y w x h           area px   long x short            malignancy")
    else:
        lines.append("  nothing was outlined")
    for number, finding in enumerate(result.findings, start=1):
        x, y, width, height = finding.box
        size = f"{finding.long_axis_px:.1f} x {finding.short_axis_px:.1f} px"
        if finding.long_axis_mm is not None and finding.short_axis_mm is not None:
            size = f"{finding.long_axis_mm:.1f} x {finding.short_axis_mm:.1f} mm"
        place = f"{x},{y} {width} x {height}"
        lines.append(f"  {number:<10}{place:<24}{finding.area_px:7d}   {size:<24}{finding.malignancy:7.1%}")
    if mask_path:
        lines.append(f"  outline written to {printable(mask_path)}")
    lines.append(f"  {result.duration_ms} ms; decision support, not a diagnosis\n")
    return "\n".join(lines)
