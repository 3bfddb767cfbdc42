"""``manage.py evaluate``: the exported model, measured through the serving code on a folder of labelled pictures."""

import csv
import json
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ml import events
from ml.bands import Bands
from ml.errors import MlError
from ml.evaluation import LAYOUTS, evaluate, read_manifest
from ml.runtime import load_model, model_directory

HIDDEN_IN_TABLE = frozenset({"confusion_matrix", "per_class", "unreadable"})


class Command(BaseCommand):
    help = "Measure the exported model on a folder in one of the three layouts; every figure with its 95 % interval."
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--layout", required=True, choices=LAYOUTS, help="how the folder is laid out")
        parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="the folder to measure on")
        parser.add_argument("--json", action="store_true", help="print the report as JSON instead of a table")
        parser.add_argument("--out", type=Path, metavar="DIR", help="write report.json and the figures as PNG there")
        parser.add_argument(
            "--bands", type=Path, metavar="FILE", help="fail where a figure lies outside its expected band (bands.yaml)"
        )
        parser.add_argument(
            "--mlflow", action="store_true", help="with --out: add report and figures to the run that made the model"
        )
        parser.add_argument("--seed", type=int, default=0, help="of the bootstrap and the baselines (default 0)")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["mlflow"] and not options["out"]:
            raise CommandError("--mlflow goes with --out: what is written there is added to the run.")
        try:
            with events.watched("evaluation", what="The evaluation", layout=options["layout"]) as run_id:
                report = self._evaluate(options, run_id=run_id)
        except MlError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"A file or folder cannot be used: {error}. Please check the paths.") from error
        if options["json"]:
            self.stdout.write(json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False))
        else:
            self.stdout.write("\n".join(as_table(report)))

    def _evaluate(self, options: Mapping[str, Any], *, run_id: str) -> dict[str, Any]:
        """Measure, write what is to be written, and then hold the figures to their bands."""
        # Read first: hours of measuring may follow.
        bands = Bands.read(options["bands"]) if options["bands"] else None
        model = load_model()
        evaluation = evaluate(
            options["layout"],
            data=options["data"],
            model=model,
            manifest=read_manifest(model_directory()),
            seed=options["seed"],
            progress=self._progress,
        )
        report = evaluation.report
        if options["out"]:
            report = report | self._write(evaluation, folder=options["out"], model=model)
            if options["mlflow"]:
                self._add_to_run(options["out"], model=model)
        events.record(
            "evaluation",
            message="A model was measured.",
            run_id=run_id,
            layout=options["layout"],
            model_version=model.version,
            figures=headline(report),
        )
        if bands is not None:
            bands.check(report)
        return report

    def _write(self, evaluation: Any, *, folder: Path, model: Any) -> dict[str, Any]:
        """report.json always; figures where Matplotlib is installed."""
        folder.mkdir(parents=True, exist_ok=True)
        try:
            from ml.plots import draw_figures
        except ImportError:
            figures: tuple[str, ...] = ()
            self.stderr.write("Figures need the training packages (requirements/ml.txt); only report.json is written.")
        else:
            figures = draw_figures(evaluation, folder=folder, model=model)
        added = {"figures": list(figures)}
        text = json.dumps(evaluation.report | added, indent=1, allow_nan=False, ensure_ascii=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        for name, block in evaluation.blocks.items():
            write_guesses(block, classes=model.classes, path=folder / f"{name}_guesses.csv")
        return added

    def _add_to_run(self, folder: Path, *, model: Any) -> None:
        # Imported here: measuring needs no MLflow.
        from ml.tracking import add_evaluation

        if add_evaluation(folder, model_version=model.version) is None:
            self.stderr.write(f"MLflow knows no run that made model {model.version}; nothing was added to one.")

    def _progress(self, done: int, total: int) -> None:
        """One line that counts up, on a terminal only: a log keeps the report and nothing else."""
        if sys.stderr.isatty():
            self.stderr.write(f"\r{done} of {total} pictures", ending="\n" if done == total else "")
            self.stderr.flush()


def headline(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the plain figures of a report, those of its blocks under both names, for the event log."""
    found = {}
    for name, value in report.items():
        inner = value.items() if isinstance(value, Mapping) and "value" not in value else ()
        for label, figure in ((name, value), *((f"{name} {part}", figure) for part, figure in inner)):
            if isinstance(figure, Mapping) and isinstance(figure.get("value"), float):
                found[label.replace("_", " ")] = figure["value"]
    return found


def write_guesses(block: Any, *, classes: Sequence[str], path: Path) -> None:
    """Write truth and guess of every picture of a block as CSV: what a confusion matrix is drawn from."""
    guesses = block.probabilities.argmax(axis=1)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("truth", "guess"))
        writer.writerows((classes[truth], classes[guess]) for truth, guess in zip(block.labels, guesses, strict=True))


def as_table(report: dict[str, Any], *, indent: int = 0) -> list[str]:
    """Name, value and interval, one a line; nested blocks are indented."""
    lines = []
    for name, value in report.items():
        label = f"{'  ' * indent}{name.replace('_', ' ')}"
        if name in HIDDEN_IN_TABLE and not (name == "unreadable" and value):
            continue
        if isinstance(value, dict) and "value" in value:
            lines.append(f"{label:<48}{_number(value['value'])}{_interval(value)}")
        elif isinstance(value, dict):
            lines += [label, *as_table(value, indent=indent + 1)]
        elif name == "unreadable":
            lines += [label, *(f"  {entry['file']}: {entry['error']}" for entry in value)]
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            lines.append(f"{label:<48}{'-' if shown is None else shown}")
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(figure: dict[str, float | None]) -> str:
    return "" if figure["low"] is None else f"  ({_number(figure['low'])} to {_number(figure['high'])})"
