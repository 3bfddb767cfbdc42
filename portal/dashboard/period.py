"""The stretch of time that figures are counted over, cut into days, weeks or months."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import Any, Final

from django.db import models
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

CHOICES: Final = (7, 30, 90, 365)
DEFAULT: Final = 30


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """One day, week or month of local time: from ``start`` (included) to ``end`` (not)."""

    start: datetime
    end: datetime
    label: str


@dataclass(frozen=True, kw_only=True)
class Period:
    """The last ``days`` days, today included, in local time."""

    days: int
    buckets: tuple[Bucket, ...]

    @classmethod
    def last(cls, days: int, *, today: date | None = None) -> "Period":
        """Return the period that ends with today: days up to 30, weeks up to 90, else months of the calendar."""
        end = (today or timezone.localdate()) + timedelta(days=1)
        start = end - timedelta(days=days)
        if days <= 30:
            cuts = [start + timedelta(days=number) for number in range(days)]
            style = "j M"
        elif days <= 90:
            cuts = [start + timedelta(days=number) for number in range(0, days, 7)]
            style = "j M"
        else:
            cuts, style = [start], "M Y"
            month = start.replace(day=1)
            while (month := _next_month(month)) < end:
                cuts.append(month)
        moments = [_midnight(day) for day in [*cuts, end]]
        return cls(
            days=days,
            buckets=tuple(
                Bucket(start=first, end=last, label=date_format(timezone.localtime(first), style))
                for first, last in pairwise(moments)
            ),
        )

    @classmethod
    def of(cls, query: Mapping[str, Any]) -> "Period":
        """Return what an address asks for; the default where it asks for nothing that is offered."""
        asked = str(query.get("days", ""))
        return cls.last(int(asked) if asked in {str(days) for days in CHOICES} else DEFAULT)

    @property
    def start(self) -> datetime:
        """The first moment."""
        return self.buckets[0].start

    @property
    def end(self) -> datetime:
        """The first moment that does not belong to it any more."""
        return self.buckets[-1].end

    @property
    def labels(self) -> tuple[str, ...]:
        """What its buckets are called."""
        return tuple(bucket.label for bucket in self.buckets)

    @property
    def step(self) -> str:
        """What one of its buckets is, as a heading."""
        if self.days <= 30:
            return _("Day")
        return _("Week from") if self.days <= 90 else _("Month")

    def within(self, field: str) -> models.Q:
        """Return the condition that a moment lies in the period."""
        return models.Q(**{f"{field}__gte": self.start, f"{field}__lt": self.end})

    def bucket_of(self, field: str) -> models.Case:
        """Return the number of the bucket that a moment of the period lies in.

        Comparisons with the ends, not functions of dates: those are the database's own on PostgreSQL, and Python's,
        called for every row, on SQLite.
        """
        whens = [
            models.When(**{f"{field}__lt": bucket.end}, then=models.Value(number))
            for number, bucket in enumerate(self.buckets[:-1])
        ]
        last = models.Value(len(self.buckets) - 1)
        return models.Case(*whens, default=last, output_field=models.IntegerField())

    def place_of(self, moment: datetime) -> int:
        """Return the number of the bucket that a moment of the period lies in."""
        return next(number for number, bucket in enumerate(self.buckets) if moment < bucket.end)


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))


def _next_month(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)
