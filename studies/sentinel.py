"""Watches over the workers of one cluster so that a process that is killed takes nobody along.

The processes of a cluster talk through two queues, each with a lock. Whoever is killed while it holds one (a worker
that waits for work always holds one) never gives it back, and django-q2 then puts new workers before a door that stays
locked: the cluster looks alive and does nothing any more. So after such a death everything that the dead may have held
is replaced: the others finish what they have in hand, and begin again with new queues.
"""

import logging
import multiprocessing
import time
from contextlib import suppress
from typing import Any, Final

from django_q import cluster
from django_q.conf import Conf
from django_q.queues import Queue
from django_q.worker import worker

logger = logging.getLogger(__name__)

# A lock of the dead is waited for no longer than this; the living hold one for milliseconds.
LOCK_WAIT_S: Final = 2.0
# So long the others may go on after their own time-out, and the results may take to be written down.
GRACE_S: Final = 5.0


class PatientLock:
    """A lock that is given up on after a while, because its holder may be dead."""

    def __init__(self) -> None:
        self._lock = multiprocessing.RLock()

    def acquire(self, block: bool = True, timeout: float | None = LOCK_WAIT_S) -> bool:
        """Take the lock; return whether it was to be had."""
        return self._lock.acquire(block, timeout)

    def release(self) -> None:
        """Give it back, if it is ours."""
        with suppress(AssertionError):
            self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class ResilientSentinel(cluster.Sentinel):
    """django-q2's sentinel, which starts over after a process was killed instead of replacing only that one."""

    event_out: Any
    task_queue: Any
    result_queue: Any

    def spawn_worker(self) -> None:
        """Start a worker whose clock can be read even if it dies while it sets it."""
        timer = multiprocessing.Value("f", -1, lock=PatientLock())  # type: ignore[call-overload] # any lock will do
        self.spawn_process(worker, self.task_queue, self.result_queue, timer, self.timeout)

    def reincarnate(self, process: Any) -> None:
        """Replace a process that has ended; where it was killed, everything that it may have held."""
        is_worker = process not in (self.monitor, self.pusher)
        if is_worker and process not in self.pool:
            return  # replaced already, together with another one
        has_timed_out = is_worker and process.timer.value == 0
        if process.exitcode is not None and process.exitcode < 0 and not has_timed_out:
            self._start_over()
        else:
            super().reincarnate(process)

    def _start_over(self) -> None:
        logger.warning("A process of the cluster was killed; the others finish what they have, and all begin anew.")
        self.event_out.set()
        self.pusher.join(Conf.POLL + 1)
        _end(self.pusher)
        self._wait_for_work_in_hand()
        self.result_queue.put("STOP")
        self.monitor.join(GRACE_S)
        for process in [self.monitor, *self.pool]:
            _end(process)
        for queue in (self.task_queue, self.result_queue):
            queue.close()
            queue.cancel_join_thread()
        self.task_queue = Queue(maxsize=Conf.QUEUE_LIMIT) if Conf.QUEUE_LIMIT else Queue()
        self.result_queue = Queue()
        self.event_out = cluster.Event()
        self.spawn_cluster()
        self.reincarnations += 1

    def _wait_for_work_in_hand(self) -> None:
        """Return when no worker has been busy for a moment, or when those that are have had all their time."""
        end = time.monotonic() + (self.timeout or 0) + GRACE_S
        calm = 0
        while calm < 2 and time.monotonic() < end:
            cluster.Stat(self).save()
            is_busy = any(process.is_alive() and process.timer.value > 0 for process in self.pool)
            calm = 0 if is_busy else calm + 1
            time.sleep(0.2)


def _end(process: Any) -> None:
    if process.is_alive():
        process.kill()
    process.join(GRACE_S)
