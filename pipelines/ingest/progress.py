"""How far a slow step has come: one line that counts up on a terminal, nothing in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

# What is being done, how many of how many.
Progress = Callable[[str, int, int], None]
BAR_LETTERS = 20


def silent(name: str, done: int, total: int) -> None:
    """Show nothing."""


class TerminalProgress:
    """Draws a bar with the time left on standard error, at most ten times a second."""

    def __init__(self) -> None:
        self._name, self._started_at, self._drawn_at = "", 0.0, 0.0

    def __call__(self, name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if name != self._name:
            self._name, self._started_at, self._drawn_at = name, now, 0.0
        if done < total and now - self._drawn_at < 0.1:
            return
        self._drawn_at = now
        left = (now - self._started_at) / max(1, done) * (total - done)
        filled = BAR_LETTERS * done // max(1, total)
        bar = "█" * filled + "░" * (BAR_LETTERS - filled)
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\r{name} {bar} {done}/{total} ETA {int(left // 60)}:{int(left % 60):02d} {end}")
        sys.stderr.flush()


def progress_for_terminal() -> Progress:
    """Return a bar where a person looks on, otherwise silence."""
    return TerminalProgress() if sys.stderr.isatty() else silent
