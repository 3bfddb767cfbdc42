"""``manage.py make_reference``: what the model was taught on, as the sample that monitoring compares with."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ml.errors import MlError
from ml.reference import make_reference, write_reference
from ml.runtime import load_model, model_directory


class Command(BaseCommand):
    help = "Take held-out pictures of the training data through the serving code and keep the figures beside the model."
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--data", required=True, type=Path, metavar="DIR", help="the folder that the model was trained from"
        )
        parser.add_argument(
            "--model", type=Path, metavar="DIR", help="the model's folder (default: IRA_MODEL_DIR, else the starter)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        directory = options["model"] or model_directory()
        if directory.resolve().is_relative_to(Path(settings.MODELS_DIR).resolve()):
            raise CommandError(
                f"The folder {directory} is that of a registered version, which is never changed. Make the reference "
                "in the folder that the model was exported to, before registering it; for a version that is "
                "registered already, export and register it anew."
            )
        try:
            reference = make_reference(directory, data=options["data"], model=load_model(directory))
            path = write_reference(reference, directory=directory)
        except MlError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"A file or folder cannot be used: {error}. Please check the paths.") from error
        size_kb = path.stat().st_size / 1024
        self.stdout.write(f"{path.name} of {reference.model_version}: {reference.taken_from} ({size_kb:.0f} KB).")
