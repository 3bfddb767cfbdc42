"""What the software says about a patient's own upload: a text that no doctor has read, frozen when it is made."""

import uuid
from functools import cached_property
from typing import Any

from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from reports.content import ReportContent, content_sha256
from studies.models import Study


class AutomaticReportQuerySet(models.QuerySet["AutomaticReport"]):
    """Automatic reports, restricted to what somebody may see."""

    def visible_to(self, user: Any) -> "AutomaticReportQuerySet":
        """Return those on what this patient uploaded; nothing for anyone else, doctors among them."""
        return self.filter(study__in=Study.objects.uploaded_by(user))


class AutomaticReport(models.Model):
    """The automatic report on one upload. Its content stays what the patient was told, whatever model comes later."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    study = models.OneToOneField(Study, on_delete=models.PROTECT, related_name="automatic_report")
    made_at = models.DateTimeField(default=timezone.now, editable=False)
    frozen = models.JSONField(editable=False)
    content_sha256 = models.CharField(max_length=64, editable=False)

    objects = AutomaticReportQuerySet.as_manager()

    class Meta:
        verbose_name = _("automatic report")
        verbose_name_plural = _("automatic reports")
        ordering = ["-made_at", "id"]

    def __str__(self) -> str:
        return f"automatic report {self.pk}"

    @cached_property
    def content(self) -> ReportContent:
        """What it says."""
        return ReportContent.from_json(self.frozen)

    @property
    def is_intact(self) -> bool:
        """Whether the content is still the one whose hash was recorded."""
        return content_sha256(self.frozen) == self.content_sha256

    @classmethod
    def freeze(cls, study: Study, *, content: ReportContent) -> "AutomaticReport":
        """Store the content, or return what was stored first: of two requests at once, both get the same."""
        frozen = content.to_json()
        try:
            with transaction.atomic():
                return cls.objects.create(study=study, frozen=frozen, content_sha256=content_sha256(frozen))
        except IntegrityError:
            return cls.objects.get(study=study)
