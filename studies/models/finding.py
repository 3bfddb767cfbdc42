"""One outlined region of one analysis."""

import uuid
from typing import TYPE_CHECKING

from django.db import models
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from ml.inference import FindingResult
    from studies.models.study import Analysis


class Finding(models.Model):
    """One outlined region of one analysis. Boxes and axes are in pixels of the stored slice."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    analysis = models.ForeignKey("studies.Analysis", on_delete=models.PROTECT, related_name="findings")
    number = models.PositiveSmallIntegerField()
    box_x = models.PositiveIntegerField()
    box_y = models.PositiveIntegerField()
    box_width = models.PositiveIntegerField()
    box_height = models.PositiveIntegerField()
    area_px = models.PositiveIntegerField()
    long_axis_px = models.FloatField()
    short_axis_px = models.FloatField()
    area_mm2 = models.FloatField(null=True, blank=True)
    long_axis_mm = models.FloatField(null=True, blank=True)
    short_axis_mm = models.FloatField(null=True, blank=True)
    malignancy = models.FloatField(_("probability of malignancy"))

    class Meta:
        verbose_name = _("finding")
        verbose_name_plural = _("findings")
        ordering = ["analysis", "number"]
        constraints = [
            models.UniqueConstraint(fields=["analysis", "number"], name="a_finding_number_stands_once_in_an_analysis"),
            models.CheckConstraint(
                condition=models.Q(malignancy__gte=0, malignancy__lte=1), name="malignancy_is_a_probability"
            ),
        ]

    def __str__(self) -> str:
        return f"finding {self.number}"

    @classmethod
    def from_result(cls, analysis: "Analysis", *, number: int, finding: "FindingResult") -> "Finding":
        """Build the row for one finding of the model's answer."""
        x, y, width, height = finding.box
        return cls(
            analysis=analysis,
            number=number,
            box_x=x,
            box_y=y,
            box_width=width,
            box_height=height,
            area_px=finding.area_px,
            long_axis_px=finding.long_axis_px,
            short_axis_px=finding.short_axis_px,
            area_mm2=finding.area_mm2,
            long_axis_mm=finding.long_axis_mm,
            short_axis_mm=finding.short_axis_mm,
            malignancy=finding.malignancy,
        )
