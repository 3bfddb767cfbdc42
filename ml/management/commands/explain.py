"""``manage.py explain``: SHAP pictures of the float slice classifier, on a training machine."""

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ml.data import CLASSES, find_folders, read_chest_ctscan
from ml.errors import MissingDependencyError, MlError, TrainingDataError
from ml.images import read_slice

BACKGROUND_PICTURES = 16


class Command(BaseCommand):
    help = (
        "Draw which pixels spoke for and against the class of slices (SHAP, expected gradients of the float network)."
    )
    # Neither a database nor a web server is needed.
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("pictures", nargs="+", type=Path, metavar="FILE", help="slices as PNG, JPEG or DICOM")
        parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="one PNG a slice is written there")
        parser.add_argument(
            "--data",
            type=Path,
            default=os.environ.get("IRA_DATA_DIR"),
            help="data folder; slices of its training split are what is compared with (default: IRA_DATA_DIR)",
        )
        parser.add_argument("--trained", type=Path, default=Path("var/train"), help="the --out of manage.py train")
        parser.add_argument("--params", type=Path, help="the params.yaml it was trained with")
        parser.add_argument("--samples", type=int, default=200, help="more are slower and less noisy (default 200)")
        parser.add_argument("--seed", type=int, default=0)

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["data"]:
            raise CommandError("No data folder was named. Give one with --data or in the environment as IRA_DATA_DIR.")
        if options["samples"] < 1:
            raise CommandError("--samples must be at least 1.")
        if len({path.stem for path in options["pictures"]}) < len(options["pictures"]):
            raise CommandError("Two of the slices have the same name, and one picture would replace the other.")
        try:
            self._explain(**options)
        except MlError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"A file or folder cannot be used: {error}. Please check the paths.") from error

    def _explain(self, *, pictures: list[Path], out: Path, data: Path, trained: Path, **options: Any) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        slices = [read_slice(path).pixels for path in pictures]
        try:
            # Imported here: TensorFlow takes seconds and is absent where the model is only served.
            from ml.explaining import draw, explain
            from ml.training.datasets import evenly_spread
            from ml.training.parameters import DEFAULT_PATH, load_parameters
            from ml.training.run import load_classifier
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"Explaining needs the package {error.name}. Install requirements/ml.txt and try again."
            ) from error
        parameters = load_parameters(options["params"] or DEFAULT_PATH)
        model = load_classifier(trained, parameters=parameters)
        folder = find_folders(Path(data)).chest_ctscan
        if folder is None:
            raise TrainingDataError(f"There is no chest-ctscan-images set below {data} to compare with.")
        train = [one for one in read_chest_ctscan(folder) if one.split == "train"]
        background = [read_slice(one.image).pixels for one in evenly_spread(train, count=BACKGROUND_PICTURES)]
        explanations = explain(
            model,
            pictures=slices,
            background=background,
            side=parameters.classifier.phases[-1].side,
            samples=options["samples"],
            seed=options["seed"],
        )
        for path, explanation in zip(pictures, explanations, strict=True):
            class_name = CLASSES[explanation.class_index]
            target = out / f"{path.stem}.png"
            draw(explanation, class_name=class_name, path=target)
            self.stdout.write(f"{target}: {class_name.replace('_', ' ')}")
