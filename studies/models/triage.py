"""What the worklist orders and filters by: a study's state and suspicion, kept in the study's own row.

The analyses hold the truth; these columns repeat what they come to, so that a list of 100,000 studies is read from an
index instead of being worked out anew for each page. They are written with each transition, in its transaction.
"""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import models
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, kw_only=True)
class SliceAnswer:
    """The newest answer about one slice; ``malignant_probability`` lies in [0, 1], ``top_class`` may be empty."""

    malignant_probability: float
    top_class: str
    finished_at: datetime.datetime


@dataclass(frozen=True, kw_only=True)
class Triage:
    """What the newest answers of a study's slices come to: those of the most suspicious slice."""

    malignancy: float | None
    top_class: str
    answered_at: datetime.datetime | None

    @classmethod
    def of(cls, answers: Iterable[SliceAnswer]) -> "Triage":
        """Return the triage of a study: the highest probability, the class of that slice, the time of the newest."""
        found = list(answers)
        if not found:
            return cls(malignancy=None, top_class="", answered_at=None)
        worst = max(found, key=lambda answer: answer.malignant_probability)
        return cls(
            malignancy=worst.malignant_probability,
            top_class=worst.top_class,
            answered_at=max(answer.finished_at for answer in found),
        )


class TriagedModel(models.Model):
    """The columns of a study that the worklist is ordered and filtered by. ``Study.refresh_triage`` writes them."""

    state = models.CharField(_("state"), max_length=12, blank=True, default="", editable=False)
    triage_malignancy = models.FloatField(_("malignancy"), null=True, editable=False)
    triage_class = models.CharField(_("class"), max_length=40, blank=True, default="", editable=False)
    # What has no answer stands behind everything that has one; a column without NULL can be paged through by key.
    triage_rank = models.GeneratedField(
        expression=Coalesce(models.F("triage_malignancy"), -1.0), output_field=models.FloatField(), db_persist=True
    )
    answered_at = models.DateTimeField(_("answered at"), null=True, editable=False)
    received_on = models.DateField(_("received on"), default=timezone.localdate, editable=False)

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(
                condition=models.Q(triage_malignancy__isnull=True)
                | models.Q(triage_malignancy__gte=0, triage_malignancy__lte=1),
                name="triage_malignancy_is_a_probability",
            ),
            models.CheckConstraint(
                condition=models.Q(answered_at__isnull=True, triage_malignancy__isnull=True, triage_class="")
                | models.Q(answered_at__isnull=False, triage_malignancy__isnull=False),
                name="a_study_is_triaged_once_it_has_an_answer",
            ),
        ]
        indexes = [
            models.Index(fields=["-received_on", "-triage_rank", "-created_at", "-id"], name="study_by_day_and_triage"),
            models.Index(fields=["-triage_rank", "-created_at", "-id"], name="study_by_triage"),
            models.Index(fields=["-created_at", "-id"], name="study_by_time"),
            models.Index(fields=["state"], name="study_by_state"),
            models.Index(fields=["triage_class"], name="study_by_class"),
            models.Index(fields=["study_date"], name="study_by_date"),
        ]
