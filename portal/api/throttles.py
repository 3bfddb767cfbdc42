"""How often somebody may ask: per token, per person in all, and per address where nobody is known.

The counters are rows that all processes and machines share (``accounts.scripts.RequestCount``).
"""

from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.audit import client_address
from accounts.models import ApiToken, RequestCount

WINDOW_S = 60


class WindowThrottle(BaseThrottle):
    """So many requests a minute of the clock; the name of the setting says how many (0: no limit)."""

    setting = ""

    def __init__(self) -> None:
        self.left_s: float | None = None

    def key(self, request: Request) -> str | None:
        """Return whose requests are counted; None where this limit does not concern the request."""
        raise NotImplementedError

    def allow_request(self, request: Request, view: Any) -> bool:
        """Count the request; return whether it is one too many."""
        limit = int(getattr(settings, self.setting))
        key = self.key(request) if limit else None
        if key is None:
            return True
        number, self.left_s = RequestCount.objects.count(key, window_s=WINDOW_S)
        return number <= limit

    def wait(self) -> float | None:
        """Return the seconds until the window ends."""
        return self.left_s


class TokenThrottle(WindowThrottle):
    """Requests with one token."""

    setting = "API_TOKEN_REQUESTS_PER_MINUTE"

    def key(self, request: Request) -> str | None:
        """Return the token."""
        return f"token:{request.auth.pk}" if isinstance(request.auth, ApiToken) else None


class PersonThrottle(WindowThrottle):
    """Requests of one person, whatever they come with."""

    setting = "API_USER_REQUESTS_PER_MINUTE"

    def key(self, request: Request) -> str | None:
        """Return the person."""
        return f"person:{request.user.pk}" if request.user.is_authenticated else None


class AnonymousThrottle(WindowThrottle):
    """Requests of nobody in particular from one address, guesses of tokens included."""

    setting = "API_ANONYMOUS_REQUESTS_PER_MINUTE"

    def key(self, request: Request) -> str | None:
        """Return the address."""
        if request.user.is_authenticated:
            return None
        return f"address:{client_address(request._request) or 'unknown'}"
