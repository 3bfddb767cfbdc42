"""``manage.py create_roles``: the administrators' group and its members."""

from typing import Any

from django.core.management.base import BaseCommand

from accounts.roles import ADMINISTRATORS, create_roles


class Command(BaseCommand):
    """Create or repair the administrators' group; run it as often as you like."""

    help = "Create or repair the group that lets administrators of a hospital work in the administration."

    def handle(self, *args: Any, **options: Any) -> None:
        """Bring group, permissions and members in line with the code and with everybody's role."""
        count = create_roles()
        if options["verbosity"]:
            self.stdout.write(f"Group “{ADMINISTRATORS}” is up to date, members: {count}.")
