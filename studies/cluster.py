"""The queue's cluster as ``manage.py qcluster`` runs it: django-q2's, which stops gently and shows that it lives."""

import contextlib
import logging
import time
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.cache import cache
from django.utils import timezone
from django_q import cluster
from django_q.signals import post_spawn

from studies import stopping
from studies.sentinel import ResilientSentinel

logger = logging.getLogger(__name__)

HEARTBEAT_KEY: Final = "studies:worker-heartbeat"
HEARTBEAT_EVERY_S: Final = 5
HEARTBEAT_KEPT_S: Final = 24 * 60 * 60


class GentleCluster(cluster.Cluster):
    """Finishes what is in hand when it is told to stop, and hands back what takes longer than the grace."""

    def __init__(self, broker: Any = None) -> None:
        super().__init__(broker)
        self._stop = stopping.prepare()
        post_spawn.connect(stopping.listen, dispatch_uid="studies.stopping")

    def stop(self) -> bool:
        """Stop; return False where nothing runs any more. Called by the signal handler."""
        if not self.sentinel.is_alive():
            return False
        self.stop_event.set()
        self.sentinel.join(settings.STOP_GRACE_S)
        if self.sentinel.is_alive():
            logger.warning("The workers were not done after %d s: what is in hand goes back.", settings.STOP_GRACE_S)
            self._stop.give_up()
        return bool(super().stop())


class BeatingSentinel(ResilientSentinel):
    """Notes every few seconds that the process that watches over the workers is alive."""

    _beaten_at = 0.0

    def status(self) -> Any:
        """Return django-q2's word for what the cluster does; asked twice a second, so it is where the heart beats."""
        if time.monotonic() - self._beaten_at >= HEARTBEAT_EVERY_S:
            self._beaten_at = time.monotonic()
            beat()
        return super().status()


def touch() -> None:
    """Note the time for the container's health check, in the file that ``IRA_HEARTBEAT_FILE`` names, if it does."""
    if settings.HEARTBEAT_FILE:
        with contextlib.suppress(OSError):  # a full disk ends no process; the health check then says so
            Path(settings.HEARTBEAT_FILE).touch()


def beat() -> None:
    """Note the time for ``/readyz``, in the cache, and for the container's health check."""
    touch()
    try:
        cache.set(HEARTBEAT_KEY, timezone.now(), HEARTBEAT_KEPT_S)
    except Exception:  # whatever the cache stands on is away for a while: the cluster outlives that
        logger.warning("The worker's heartbeat could not be noted.", exc_info=True)


def run(*, is_once: bool = False) -> None:
    """Start a cluster; returns when it runs. ``is_once`` stops it again as soon as it does."""
    cluster.Sentinel = BeatingSentinel  # Cluster.start() names its class by this name only
    gentle = GentleCluster()
    gentle.start()
    if is_once:
        gentle.stop()
