"""The queue in the database, for any number of workers: first come, first served, and what recovers goes first."""

from datetime import datetime, timedelta
from time import sleep
from typing import Any, Final

from django.conf import settings
from django.db import connections, transaction
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signing import SignedPackage

# A sweeper that waited behind ten thousand slices would recover nothing until they are done.
AHEAD_OF_ALL: Final = timedelta(days=1)


class FairBroker(ORM):
    """django-q2's broker in the database, with an order, and without workers that fight over the same message.

    django-q2 asks for any message and tries to take it; of many clusters that find the same one, all but one have asked
    in vain. Here each one passes over what another is just taking (``SKIP LOCKED``; SQLite lets one write at a time).
    A message that was handed out and never acknowledged comes back after ``retry`` seconds, as before.
    """

    def enqueue(self, task: Any) -> Any:
        """Store a message. Those of the sweepers are handed out before all others."""
        now = timezone.now()
        is_sweeper = SignedPackage.loads(task)["func"] in settings.SWEEPERS
        message = self.get_connection().create(
            key=self.list_key or Conf.CLUSTER_NAME, payload=task, lock=now - AHEAD_OF_ALL if is_sweeper else now
        )
        return message.pk

    def dequeue(self) -> list[tuple[int, str]]:
        """Take the messages that wait longest, at most ``bulk``; wait a moment and return none where there is none."""
        queue = self.get_connection()
        waiting = queue.filter(key=self.list_key, lock__lte=timezone.now()).order_by("lock", "id")
        taken: list[OrmQ] = []
        if waiting.exists():
            can_skip = connections[Conf.ORM].features.has_select_for_update_skip_locked
            with transaction.atomic(using=Conf.ORM):
                taken = list(waiting.select_for_update(skip_locked=can_skip)[: Conf.BULK])
                queue.filter(pk__in=[message.pk for message in taken]).update(lock=self.timeout(None))
        if not taken:
            sleep(Conf.POLL)
        return [(message.pk, message.payload) for message in taken]


def oldest_message_sent_at() -> datetime | None:
    """Return when the oldest message that is still in the queue was sent, handed out or not; None for an empty queue.

    Whatever was sent before that has no message any more.
    """
    oldest = OrmQ.objects.using(Conf.ORM).order_by("id").first()
    if oldest is None:
        return None
    started: datetime = oldest.task.get("started", timezone.now() - AHEAD_OF_ALL)
    return started
