"""What the commands that change the model in use have in common: who does it, and how a refusal looks."""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.core.management.base import BaseCommand, CommandError

from ml.errors import MlError
from ml.models import Deployment


class DeployingCommand(BaseCommand):
    """A command whose act is recorded under a person, or under the account of the command line."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take who does it."""
        parser.add_argument(
            "--by",
            metavar="EMAIL",
            help="who does it: the log-in of somebody who may (default: the account of this command line)",
        )

    def person(self, email: str | None) -> Any:
        """Return the person of an address, None without one. Raises ``CommandError`` for an unknown one."""
        if not email:
            return None
        try:
            return get_user_model()._default_manager.get_by_natural_key(email)
        except ObjectDoesNotExist as error:
            raise CommandError(f"Nobody logs in with {email}. Please check the address.") from error

    def act(self, what: Callable[[], Deployment]) -> Deployment:
        """Do it. Raises ``CommandError`` with the sentence of a refusal."""
        try:
            return what()
        except MlError as error:
            raise CommandError(str(error)) from error
        except PermissionDenied as error:
            raise CommandError(
                "This person may not change which model answers. A superuser can allow it in the administration."
            ) from error
