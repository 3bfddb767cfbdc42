"""``manage.py promote VERSION``: let a registered version answer."""

from argparse import ArgumentParser
from typing import Any

from ml import registry
from ml.management.deploying import DeployingCommand


class Command(DeployingCommand):
    help = (
        "Let a version answer from the next analysis on. Refused where its leak-free figures are worse than the "
        "champion's by more than IRA_PROMOTION_MARGIN, or missing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("version", metavar="VERSION")
        parser.add_argument("--force", action="store_true", help="overrule the figures; needs --reason")
        parser.add_argument("--reason", default="", help="why; it is recorded")

    def handle(self, *args: Any, **options: Any) -> None:
        by = self.person(options["by"])
        done = self.act(
            lambda: registry.promote(options["version"], by=by, reason=options["reason"], is_forced=options["force"])
        )
        instead = f" instead of {done.replaced.version}" if done.replaced is not None else ""
        self.stdout.write(f"The model {done.version.version} answers{instead}{', forced' if done.is_forced else ''}.")
