"""What is remembered of requests that programs send: how many came, and which were sent twice."""

import datetime
import uuid
from typing import Final

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

# So long a repeated request is known as one that was answered, and nobody waits longer than this for the first one.
KNOWN_FOR: Final = datetime.timedelta(hours=24)
UNDER_WAY_FOR: Final = datetime.timedelta(minutes=5)


class RequestCountQuerySet(models.QuerySet["RequestCount"]):
    """Counters of requests."""

    def count(self, key: str, *, window_s: int) -> tuple[int, float]:  # type: ignore[override] # counts one more
        """Count one more request of ``key``; return how many came in this window, and the seconds until its end.

        One conditional UPDATE, so that no request is lost between two processes or machines.
        """
        now = timezone.now().timestamp()
        began = int(now // window_s) * window_s
        began_at = datetime.datetime.fromtimestamp(began, tz=datetime.UTC)
        mine = self.filter(key=key, began_at=began_at)
        if not mine.update(number=models.F("number") + 1):
            try:
                with transaction.atomic():
                    self.create(key=key, began_at=began_at, number=1)
                # Windows that are over, whosever they are; seldom, and by the index.
                self.filter(began_at__lt=began_at - datetime.timedelta(hours=1)).delete()
            except IntegrityError:
                mine.update(number=models.F("number") + 1)
        number = mine.values_list("number", flat=True).first() or 1
        return number, began + window_s - now


class RequestCount(models.Model):
    """How many requests of one person, token or address came in one window of time."""

    key = models.CharField(max_length=80)
    began_at = models.DateTimeField(db_index=True)
    number = models.PositiveIntegerField(default=0)

    objects = RequestCountQuerySet.as_manager()

    class Meta:
        verbose_name = _("number of requests")
        verbose_name_plural = _("numbers of requests")
        constraints = [models.UniqueConstraint(fields=["key", "began_at"], name="a_window_is_counted_once")]

    def __str__(self) -> str:
        return f"window {self.pk}"


class SentRequestQuerySet(models.QuerySet["SentRequest"]):
    """Requests that carried an idempotency key."""

    def take(self, user: object, *, key: str, fingerprint: str) -> tuple["SentRequest", bool]:
        """Return the row of this person's key, and whether this request is the one that does the work.

        Of two requests at once only one is. A request whose worker died is taken again after ``UNDER_WAY_FOR``.
        """
        now = timezone.now()
        self.filter(user=user, sent_at__lt=now - KNOWN_FOR).delete()
        try:
            with transaction.atomic():
                return self.create(user=user, key=key, fingerprint=fingerprint), True
        except IntegrityError:
            row = self.get(user=user, key=key)
        dead = self.filter(pk=row.pk, result__isnull=True, fingerprint=fingerprint, sent_at__lt=now - UNDER_WAY_FOR)
        return row, bool(dead.update(sent_at=now))


class SentRequest(models.Model):
    """One request with an idempotency key, and the identifiers of what came of it; no content, no names.

    ``id`` is the identifier that what is made gets, where something is made; so a request whose worker died after
    the commit is still recognised. ``result`` is None while the request is under way.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    key = models.CharField(max_length=64)
    fingerprint = models.CharField(max_length=64)
    result = models.JSONField(null=True)
    sent_at = models.DateTimeField(default=timezone.now)

    objects = SentRequestQuerySet.as_manager()

    class Meta:
        verbose_name = _("request with a key")
        verbose_name_plural = _("requests with a key")
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="a_person_uses_an_idempotency_key_once")]

    def __str__(self) -> str:
        return f"request {self.pk}"
