"""What went wrong, counted by kind: the state by which many processes agree on whom they have told about it."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

# The audience that hears of everything: whoever runs the installation.
EVERYWHERE = ""


@dataclass(frozen=True, kw_only=True)
class News:
    """Problems of one kind that one audience has not been told of: how often since the last word, and in all."""

    pk: int
    name: str
    audience: str
    message: str
    new: int
    count: int
    first_at: datetime
    last_at: datetime
    told_at: datetime | None
    told_count: int


class ProblemQuerySet(models.QuerySet["Problem"]):
    """Problems: counted up, and claimed by whoever tells people of them."""

    def count_up(self, name: str, *, hospital_id: uuid.UUID | None, message: str, at: datetime) -> None:
        """Count one more of a kind, for the whole installation and for the hospital that it happened to."""
        for audience in {EVERYWHERE, str(hospital_id or EVERYWHERE)}:
            mine = self.filter(name=name, audience=audience)
            changes: dict[str, Any] = {"count": models.F("count") + 1, "last_at": at, "message": message}
            if mine.update(**changes):
                continue
            try:
                with transaction.atomic():
                    self.create(name=name, audience=audience, message=message, first_at=at, last_at=at)
            except IntegrityError:  # somebody else was first
                mine.update(**changes)

    def claim_news(self, *, every: timedelta) -> list[News]:
        """Return what is to be told now, and note that it is: of two processes only one gets each of them.

        A kind is told at once when it is new to its audience, and again after ``every`` at the earliest.
        """
        now = timezone.now()
        due = self.filter(count__gt=models.F("told_count")).filter(
            models.Q(told_at__isnull=True) | models.Q(told_at__lte=now - every)
        )
        news = []
        for problem in due.order_by("name", "audience"):
            mine = self.filter(pk=problem.pk, told_at=problem.told_at, told_count=problem.told_count)
            if mine.update(told_at=now, told_count=problem.count):
                news.append(problem.news)
        return news

    def take_back(self, news: News) -> None:
        """Note that nobody could be told after all, so that it is tried again."""
        self.filter(pk=news.pk).update(told_at=news.told_at, told_count=news.told_count)


class Problem(models.Model):
    """How often one kind of error has happened, to one audience: everywhere (empty), or one hospital's identifier."""

    name = models.CharField(_("problem"), max_length=60)
    audience = models.CharField(max_length=36, blank=True)
    message = models.CharField(_("what happened"), max_length=500)
    count = models.PositiveBigIntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    told_at = models.DateTimeField(null=True)
    told_count = models.PositiveBigIntegerField(default=0)

    objects = ProblemQuerySet.as_manager()

    class Meta:
        verbose_name = _("problem")
        verbose_name_plural = _("problems")
        ordering = ["-last_at", "name"]
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["name", "audience"], name="a_kind_of_problem_is_counted_once_an_audience"),
            models.CheckConstraint(
                condition=models.Q(told_count__lte=models.F("count")), name="nobody_is_told_of_more_than_happened"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name}: {self.count}"

    @property
    def news(self) -> News:
        """What the audience does not know yet."""
        return News(
            pk=self.pk,
            name=self.name,
            audience=self.audience,
            message=self.message,
            new=self.count - self.told_count,
            count=self.count,
            first_at=self.first_at,
            last_at=self.last_at,
            told_at=self.told_at,
            told_count=self.told_count,
        )
