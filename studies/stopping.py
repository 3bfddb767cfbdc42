"""How a worker stops: it finishes what it has in hand, and what takes too long it hands back at once.

``manage.py qcluster`` is told to stop by SIGTERM (``docker stop``, a deployment) or SIGINT. It takes no new messages,
lets the workers finish, and after ``IRA_STOP_GRACE_S`` seconds calls ``give_up``: each worker then leaves the slice in
hand, which is QUEUED again with the same attempt (nothing has failed) and has a new message, so that another machine
takes it in the next second instead of when the lease ends.

Workers are told through a pipe that every process of the cluster inherits; a semaphore would block for ever once a
worker was killed while it waited. In the worker a thread waits for the pipe and raises ``WorkIsOver`` in the main
thread by a signal of its own: SIGTERM stays the broker's, which kills with it what hangs.
"""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

HAND_BACK: Final = signal.SIGUSR1


class WorkIsOver(SystemExit):
    """The worker stops: what it has claimed goes back. A ``SystemExit``, so that no ``except Exception`` takes it."""


class Stop:
    """Whether the workers of this cluster are to give up what they have in hand; shared by all its processes."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        self._is_interruptible = False

    def give_up(self) -> None:
        """Tell all processes that were forked from this one."""
        os.write(self._writer, b"!")

    @property
    def has_come(self) -> bool:
        """Whether ``give_up`` was called, in whichever process."""
        return bool(select.select([self._reader], [], [], 0)[0])

    def listen(self) -> None:
        """Be told in this process; called in the main thread of each worker when it starts."""
        signal.signal(HAND_BACK, self._interrupt)
        threading.Thread(target=self._wait, name="stop", daemon=True).start()

    @contextlib.contextmanager
    def interrupts(self) -> Iterator[None]:
        """Let the work inside be left by ``WorkIsOver``, from its first line on if the end has come already."""
        self._is_interruptible = True
        try:
            if self.has_come:
                raise WorkIsOver
            yield
        finally:
            self._is_interruptible = False

    def _wait(self) -> None:
        select.select([self._reader], [], [])
        os.kill(os.getpid(), HAND_BACK)

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._is_interruptible:
            self._is_interruptible = False
            raise WorkIsOver


_stop: Stop | None = None


def prepare() -> Stop:
    """Return what the processes forked from this one share from now on."""
    global _stop  # one cluster a process: what it forks inherits exactly this
    _stop = Stop()
    return _stop


def listen(**kwargs: Any) -> None:
    """Receive django-q2's ``post_spawn``, which a worker sends when it starts."""
    if _stop is not None:
        _stop.listen()


def is_over() -> bool:
    """Whether this worker is to begin nothing new."""
    return _stop is not None and _stop.has_come


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Mark work that is left when the cluster stops; outside a cluster nothing interrupts it."""
    if _stop is None:
        yield
        return
    with _stop.interrupts():
        yield
