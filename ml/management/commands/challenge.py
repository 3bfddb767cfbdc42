"""``manage.py challenge VERSION``: let a version answer in shadow beside the champion."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ml import registry
from ml.management.deploying import DeployingCommand


class Command(DeployingCommand):
    help = "Let a version repeat a share of the analyses in shadow; its answers are compared and shown to no clinician."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("version", metavar="VERSION", nargs="?")
        parser.add_argument(
            "--share", type=float, default=0.2, help="of the analyses, more than 0, at most 1 (default 0.2)"
        )
        parser.add_argument("--stop", action="store_true", help="end the challenge; its answers are kept")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["stop"] == bool(options["version"]):
            raise CommandError("Please name the version that challenges, or end the challenge with --stop.")
        by = self.person(options["by"])
        if options["stop"]:
            done = self.act(lambda: registry.stop_challenge(by=by))
            self.stdout.write(f"The version {done.version.version} challenges no more.")
            return
        done = self.act(lambda: registry.challenge(options["version"], share=options["share"], by=by))
        self.stdout.write(
            f"The version {done.version.version} challenges for {done.challenge_share:.0%} of the analyses."
        )
