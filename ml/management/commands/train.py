"""`manage.py train`: from data folders to an exported model, or grouped cross-validation of the slice class."""

from __future__ import annotations

import json
import os
import shutil
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from ml import events
from ml.data import fingerprint
from ml.errors import MissingDependencyError, MlError
from ml.history import put_into_card

LABELS = "labels"
STAGES = ("outline", "classifier", "all")


class Command(BaseCommand):
    help = "Trains the outline, malignancy and slice-class networks and exports them for serving."
    # Training needs no database and must run on a machine without one.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--data",
            type=Path,
            default=os.environ.get("IRA_DATA_DIR"),
            help="folder that holds chest-ctscan-images, lidc-nodules, msd-lung-slices (default: IRA_DATA_DIR)",
        )
        parser.add_argument("--stage", choices=STAGES, default="all", help="what to train (default: all)")
        parser.add_argument("--limit", type=int, help="a quick look: so many rows of each set, so many steps a phase")
        parser.add_argument("--out", type=Path, default=Path("var/train"), help="checkpoints, caches and the model")
        parser.add_argument("--params", type=Path, help="another params.yaml")
        parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in --out")
        parser.add_argument(
            "--cross-validate",
            action="store_true",
            help="grouped 5-fold of the slice class on the trunk in --out; recorded for the next export",
        )
        parser.add_argument(
            "--keep-classifier",
            type=Path,
            metavar="MODEL",
            help="with --stage outline: export the outline beside the class network of this model folder",
        )
        parser.add_argument(
            "--measure-anew",
            type=Path,
            metavar="MODEL",
            help="train nothing: export the networks of this model folder with thresholds and figures measured anew, "
            "after a change of how serving uses them",
        )
        parser.add_argument(
            "--no-mlflow",
            action="store_true",
            help="do not record the run (otherwise in MLFLOW_TRACKING_URI, by default mlflow.db in IRA_VAR_DIR)",
        )
        parser.add_argument(
            "--from-portal",
            action="store_true",
            help="first export what doctors judged (export_labels), and teach that beside the sets in --data",
        )
        parser.add_argument(
            "--run", metavar="ID", help="the portal's row of this training (manage.py trainer gives it)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["data"]:
            raise CommandError("No data folder was named. Give one with --data or in the environment as IRA_DATA_DIR.")
        if options["limit"] is not None and options["limit"] < 1:
            raise CommandError("--limit must be at least 1.")
        if options["keep_classifier"] and options["stage"] != "outline":
            raise CommandError("--keep-classifier goes with --stage outline: the other stages train the class anew.")
        if options["measure_anew"] and (options["keep_classifier"] or options["cross_validate"]):
            raise CommandError("--measure-anew trains nothing: leave --keep-classifier and --cross-validate out.")
        is_base = options["stage"] == "outline" and not options["cross_validate"]
        try:
            with events.watched(
                "base_model" if is_base else "training",
                what="The cross-validation" if options["cross_validate"] else "The training",
                stage=options["stage"],
                is_resumed=options["resume"],
            ):
                self._train(**options)
        except MlError as error:
            raise CommandError(str(error)) from error
        finally:
            # Pictures of patients stay no longer than they are needed: an erasure does not reach them here.
            if options["from_portal"]:
                shutil.rmtree(options["out"] / LABELS, ignore_errors=True)

    def _train(self, *, data: Path, stage: str, limit: int | None, out: Path, resume: bool, **options: Any) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        try:
            # Imported here: TensorFlow takes seconds and is absent where the model is only served.
            from ml.recording import Recorder
            from ml.training import renewal, run
            from ml.training.cross_validation import cross_validate
            from ml.training.parameters import DEFAULT_PATH, limited, load_parameters
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"Training needs the package {error.name}. Install requirements/ml.txt and try again."
            ) from error
        parameters = load_parameters(options["params"] or DEFAULT_PATH)
        labels_version = ""
        if options["from_portal"]:
            data, labels_version = self._with_labels(Path(data), out=out)
        if limit is not None:
            parameters = limited(parameters, limit=limit)
        sets = run.read_sets(Path(data), parameters=parameters, limit=limit)
        if options["keep_classifier"]:
            # Before the hours of training, not after them.
            renewal.check_same_data(sets, former=options["keep_classifier"])
        out.mkdir(parents=True, exist_ok=True)
        if options["measure_anew"]:
            directory = renewal.measure_anew(
                sets,
                parameters=parameters,
                former=options["measure_anew"],
                out=out,
                report=self._report,
                limit=limit,
            )
            self._report(f"Serve it with IRA_MODEL_DIR={directory}, or register it.")
            return
        name = "cross-validate" if options["cross_validate"] else stage
        followers = [] if options["no_mlflow"] else _followers(name, parameters=parameters, run_id=options["run"])
        with Recorder(out, is_resumed=resume, followers=followers) as recorder:
            data_fingerprint = fingerprint(run.manifest_of(sets))
            recorder.data(fingerprint=data_fingerprint, labels_version=labels_version)
            if options["cross_validate"]:
                trunk = run.load_trunk(out, parameters=parameters)
                measured = cross_validate(
                    sets.chest,
                    parameters=parameters,
                    trunk=trunk,
                    out=out,
                    data_fingerprint=data_fingerprint,
                    report=self._report,
                )
                recorder.figures({name: figure.value for name, figure in measured.items()})
                return
            if stage in ("outline", "all"):
                outline = run.run_outline(
                    sets,
                    parameters=parameters,
                    out=out,
                    report=self._report,
                    limit=limit,
                    is_resumed=resume,
                    on_epoch=recorder.epochs("outline"),
                )
            else:
                outline = run.load_outline(out, parameters=parameters)
            if stage == "outline":
                if options["keep_classifier"]:
                    directory = renewal.renew_outline(
                        sets,
                        parameters=parameters,
                        outline=outline,
                        former=options["keep_classifier"],
                        out=out,
                        report=self._report,
                        limit=limit,
                    )
                    put_into_card(directory, folder=out)
                    recorder.model(directory)
                return
            classifier = run.run_classifier(
                sets,
                parameters=parameters,
                trunk=run.load_trunk(out, parameters=parameters) if parameters.classifier.trunk == "outline" else None,
                out=out,
                report=self._report,
                is_resumed=resume,
                on_epoch=recorder.epochs("classifier"),
            )
            directory = run.finish(
                sets,
                parameters=parameters,
                outline=outline,
                classifier=classifier,
                out=out,
                report=self._report,
                limit=limit,
            )
            put_into_card(directory, folder=out)
            recorder.model(directory)
            self._report(f"Serve it with IRA_MODEL_DIR={directory}, or copy the folder to ml/starter.")

    def _with_labels(self, data: Path, *, out: Path) -> tuple[Path, str]:
        """Export what doctors judged beside the sets in `data`; return the folder that holds both, and the version."""
        labels = out / LABELS
        # By name: the portal's rooms know the model, and not the other way round.
        call_command("export_labels", "--out", str(labels), "--with", str(data), stdout=self.stdout)
        record = json.loads((labels / "export.json").read_text(encoding="utf-8"))
        return labels / "data", record["version"]

    def _report(self, line: str) -> None:
        self.stdout.write(f"{time.strftime('%H:%M:%S')} {line}")
        self.stdout.flush()


def _followers(name: str, *, parameters: object, run_id: str | None) -> list[Any]:
    # Imported here: a training that is not recorded needs none of it.
    from ml import run_rows, tracking

    run = tracking.Run(name=name, parameters=parameters)
    row = run_rows.row_of(run_id, name=name)
    if row is None:
        return [run]
    return [run, run_rows.RowFollower(row, parameters=parameters, mlflow_run=run, is_ended_here=run_id is None)]
