"""Who may log in."""

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from django.conf import settings

from accounts.demo import is_demo_email


class EmailBackend(AuthenticationBackend):
    """Log-in by e-mail for active people; the demo's public accounts are no people outside the demo.

    Django asks ``user_can_authenticate`` at log-in and again at every request, so a session of such an account ends
    the moment the same database is served with other settings.
    """

    def user_can_authenticate(self, user: Any) -> bool:
        """Return whether this account may log in under these settings."""
        if not settings.IS_DEMO and is_demo_email(user.email):
            return False
        return super().user_can_authenticate(user)
