"""``manage.py register DIR``: take an exported model into the registry."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from ml import registry
from ml.errors import MlError
from ml.management.deploying import DeployingCommand


class Command(DeployingCommand):
    help = "Copy a model folder into IRA_MODELS_DIR, check it and register its version. It does not answer yet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("folder", type=Path, metavar="DIR", help="a folder with model.json and the networks")
        parser.add_argument("--note", default="", help="what is special about it, for the list of versions")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            row = registry.register(options["folder"], by=self.person(options["by"]), note=options["note"])
        except MlError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"The model cannot be copied: {error}. Please check space and rights.") from error
        self.stdout.write(f"The version {row.version} is registered ({row.state}), in {row.folder}.")
