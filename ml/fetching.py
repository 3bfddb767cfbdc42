"""Fetches weights to start from: several times, with growing pauses, then a reason."""

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from ml.errors import PreparationError

T = TypeVar("T")
ATTEMPTS: Final = 5
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 60.0


def fetched(load: Callable[[], T], *, what: str, sleep: Callable[[float], None] = time.sleep) -> T:
    """Return what ``load`` returns, trying again where the network may be the cause.

    Pauses double from 2 s to at most a minute, each shortened by up to half at random. A file that was fetched and is
    damaged is fetched again by Keras itself. Raises ``PreparationError`` after the last attempt.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return load()
        except Exception as error:
            # Keras turns every failed request into an error of the most general class; all others speak of our code.
            if not isinstance(error, OSError) and type(error) is not Exception:
                raise
            if attempt == ATTEMPTS:
                raise PreparationError(
                    f"{what} could not be fetched in {ATTEMPTS} attempts. Check the connection and start again, or put "
                    "a weights file on this machine and name it in the parameters."
                ) from error
        sleep(pause_before(attempt))
    raise AssertionError("unreachable: the last attempt returns or raises")


def pause_before(attempt: int) -> float:
    """Return the seconds to wait after attempt 1, 2, …"""
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (attempt - 1))
    return longest * random.uniform(0.5, 1.0)  # nosec B311 # noqa: S311 - spreads load, protects nothing
