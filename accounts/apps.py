"""App configuration."""

from typing import Any

from django.apps import AppConfig
from django.core.management import call_command
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class AccountsConfig(AppConfig):
    """Names the app for Django and for the admin."""

    name = "accounts"
    verbose_name = _("People")

    def ready(self) -> None:
        """Register the checks, what follows a used password link or second step, and the table of the counters."""
        from allauth.account.signals import password_reset, user_logged_in
        from allauth.mfa.signals import authenticator_added, authenticator_removed, authenticator_used
        from django.contrib.auth.signals import user_logged_in as django_user_logged_in

        from accounts import audit_signals, checks, demo  # noqa: F401 - importing registers their checks
        from accounts.devices import notice_device
        from accounts.invitations import confirm_email_after_reset
        from accounts.second_factor import forget_proof, remember_proof
        from accounts.sessions import end_other_sessions, start_clock

        audit_signals.connect()
        password_reset.connect(confirm_email_after_reset, dispatch_uid="accounts.confirm_email_after_reset")
        authenticator_added.connect(remember_proof, dispatch_uid="accounts.second_factor_added")
        authenticator_used.connect(remember_proof, dispatch_uid="accounts.second_factor_used")
        authenticator_removed.connect(forget_proof, dispatch_uid="accounts.second_factor_removed")
        authenticator_added.connect(end_other_sessions, dispatch_uid="accounts.end_other_sessions")
        django_user_logged_in.connect(start_clock, dispatch_uid="accounts.start_clock")
        user_logged_in.connect(notice_device, dispatch_uid="accounts.notice_device")
        post_migrate.connect(_create_cache_table, sender=self, dispatch_uid="accounts.create_cache_table")


def _create_cache_table(*, using: str, **kwargs: Any) -> None:
    """Make the table of a database cache where there is none, so that ``migrate`` is all that an installation needs."""
    call_command("createcachetable", database=using, verbosity=0)
