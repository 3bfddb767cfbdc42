"""App configuration of the project package."""

import os

from django.apps import AppConfig


class PortalConfig(AppConfig):
    """The project package is also an app, so that its checks, commands and static files are found."""

    name = "portal"
    verbose_name = "Portal"

    def ready(self) -> None:
        """Register the system checks, and what a forked process does first."""
        from portal import (
            checks,  # noqa: F401 - importing registers the checks
            logs,
        )
        from portal.databases import forget_inherited_connections

        os.register_at_fork(after_in_child=forget_inherited_connections)
        logs.connect()
