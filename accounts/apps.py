"""App configuration."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Names the app for Django and for the admin."""

    name = "accounts"
    verbose_name = "People"

    def ready(self) -> None:
        """Register the check for demo accounts what follows a used password link, and the log of log-ins."""
        from allauth.account.signals import password_reset

        from accounts import audit_signals, demo  # noqa: F401 - importing demo registers its check
        from accounts.invitations import confirm_email_after_reset

        audit_signals.connect()
        password_reset.connect(confirm_email_after_reset, dispatch_uid="accounts.confirm_email_after_reset")
