"""How long somebody has to wait who tried too often.

allauth counts (in the cache that all processes share) and refuses; this module reads its counters to say until when.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from allauth.account import app_settings as account_settings
from allauth.core.internal.ratelimit import Rate, get_cache_key, parse_rates
from allauth.mfa import app_settings as mfa_settings
from django.core.cache import cache
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

SHORTEST_WAIT_S: Final = 60


@dataclass(frozen=True, kw_only=True)
class Wait:
    """How long until the next try may succeed."""

    seconds: int

    @property
    def sentence(self) -> str:
        """When to try again, rounded up to minutes."""
        minutes = math.ceil(self.seconds / 60)
        return ngettext(
            "Please wait a minute, then try again.", "Please wait %(minutes)d minutes, then try again.", minutes
        ) % {"minutes": minutes}


def wait_for(request: HttpRequest, *, action: str, keys: Sequence[str]) -> Wait:
    """Return the wait after a refusal of ``action`` (see ``ACCOUNT_RATE_LIMITS``) for these keys and this address."""
    return _longest(request, [("allauth.account", action, account_settings.RATE_LIMITS.get(action))], keys=keys)


def wait_for_page(request: HttpRequest) -> Wait:
    """Return the wait of a page that was refused as a whole: the longest of all limits that were reached."""
    limits: list[tuple[str, str, Any]] = [
        ("allauth.account", action, rates) for action, rates in account_settings.RATE_LIMITS.items()
    ]
    limits += [("allauth.mfa", action, rates) for action, rates in mfa_settings.RATE_LIMITS.items()]
    email = str(request.POST.get("email", "")).strip().lower()
    return _longest(request, limits, keys=[email] if email else [])


def too_many_tries(wait: Wait) -> str:
    """Return the sentence for a form."""
    return f"{_('There were too many tries.')} {wait.sentence}"


def _longest(request: HttpRequest, limits: list[tuple[str, str, Any]], *, keys: Sequence[str]) -> Wait:
    now = time.time()
    waits = [
        _remaining_s(request, app=app, action=action, rate=rate, key=key, now=now)
        for app, action, rates in limits
        for rate in parse_rates(rates)
        if rate.per != "user" or request.user.is_authenticated
        for key in (keys if rate.per == "key" else [None])
    ]
    return Wait(seconds=math.ceil(max([SHORTEST_WAIT_S, *waits])))


def _remaining_s(request: HttpRequest, *, app: str, action: str, rate: Rate, key: str | None, now: float) -> float:
    """Return for how many seconds this one limit still refuses: until the oldest of its full count is too old."""
    history = cache.get(get_cache_key(request, app=app, action=action, rate=rate, key=key), [])
    recent = [at for at in history if at > now - rate.duration]
    return recent[rate.amount - 1] + rate.duration - now if len(recent) >= rate.amount else 0
