"""``manage.py rollback``: let the version answer again that answered before."""

from argparse import ArgumentParser
from typing import Any

from ml import registry
from ml.management.deploying import DeployingCommand


class Command(DeployingCommand):
    help = "Let the version answer again that answered before the present one; twice goes back two steps."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--reason", default="", help="why; it is recorded")

    def handle(self, *args: Any, **options: Any) -> None:
        by = self.person(options["by"])
        done = self.act(lambda: registry.rollback(by=by, reason=options["reason"]))
        instead = f" instead of {done.replaced.version}" if done.replaced is not None else ""
        self.stdout.write(f"The model {done.version.version} answers again{instead}.")
