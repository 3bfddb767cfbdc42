"""Which doctor has opened which study since its newest answer."""

import uuid
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class StudyReadQuerySet(models.QuerySet["StudyRead"]):
    """Read marks."""

    def mark(self, study_ids: Iterable[uuid.UUID], *, by: Any) -> None:
        """Note that this doctor has opened these studies just now; one statement, safe to repeat."""
        now = timezone.now()
        self.bulk_create(
            [self.model(study_id=study_id, doctor=by, read_at=now) for study_id in study_ids],
            update_conflicts=True,
            unique_fields=["doctor", "study"],
            update_fields=["read_at"],
        )

    def unmark(self, study_ids: Iterable[uuid.UUID], *, by: Any) -> None:
        """Forget that this doctor has opened these studies, so that their answers count as unread again."""
        self.filter(doctor=by, study__in=list(study_ids)).delete()


class StudyRead(models.Model):
    """The last time a doctor opened a study. An answer that came later, or before any mark, is unread.

    A mark of one's own work, not a record: what was looked at and when is in the access events.
    """

    study = models.ForeignKey("studies.Study", on_delete=models.CASCADE, related_name="read_marks")
    doctor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    read_at = models.DateTimeField()

    objects = StudyReadQuerySet.as_manager()

    class Meta:
        verbose_name = _("read mark")
        verbose_name_plural = _("read marks")
        constraints = [
            models.UniqueConstraint(fields=["doctor", "study"], name="a_doctor_has_one_mark_on_a_study"),
        ]

    def __str__(self) -> str:
        return f"read mark {self.pk}"
