"""The demo's public log-ins, and the wall that keeps them out of every installation for real people.

``portal.settings.demo`` is the only place where they work. Everywhere else these addresses cannot log in, their
sessions end, the demo's password cannot be chosen, and ``manage.py check --deploy --database default`` fails while such
an account exists.
"""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ValidationError
from django.db import connections
from django.utils.translation import gettext as _

DEMO_EMAILS = frozenset({"doctor@example.org", "patient@example.org", "admin@example.org"})
DEMO_PASSWORD = "radiology-demo"  # noqa: S105 - public by design, refused outside the demo


def is_demo_email(email: str | None) -> bool:
    """Return whether this is one of the demo's public addresses, whatever its case."""
    return bool(email) and str(email).strip().casefold() in DEMO_EMAILS


class NoDemoPasswordValidator:
    """Refuses the demo's public password outside the demo."""

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ``ValidationError`` for the password that everybody can read in the README."""
        if not settings.IS_DEMO and password.strip().casefold() == DEMO_PASSWORD:
            raise ValidationError(
                _("This password is printed in public documentation. Please choose another one."), code="demo_password"
            )

    def get_help_text(self) -> str:
        """Say what is asked."""
        return _("The password must not be the one of the public demonstration.")


@register(Tags.database, deploy=True)
def check_no_demo_accounts(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: object
) -> list[CheckMessage]:
    """Fail while a demo account that may log in is stored in the database of a real installation."""
    if settings.IS_DEMO or not databases:
        return []
    errors: list[CheckMessage] = []
    people = get_user_model()
    for alias in databases:
        if people._meta.db_table not in connections[alias].introspection.table_names():
            continue
        stored = people.objects.using(alias).filter(email__in=DEMO_EMAILS, is_active=True)
        errors += [
            Error(
                f"The demo account {email} exists in the database of a real installation.",
                hint="Deactivate it in the administration, or start with an empty database.",
                id="accounts.E001",
            )
            for email in stored.values_list("email", flat=True)
        ]
    return errors
