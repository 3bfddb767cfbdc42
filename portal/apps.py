"""App configuration of the project package."""

from django.apps import AppConfig


class PortalConfig(AppConfig):
    """The project package is also an app, so that its checks, commands and static files are found."""

    name = "portal"
    verbose_name = "Portal"

    def ready(self) -> None:
        """Register the system checks."""
        from portal import checks  # noqa: F401 - importing registers the checks
