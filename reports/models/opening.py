"""Which doctor has which text of a report on the screen: the ground of a signature, and of "somebody else is here"."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User

if TYPE_CHECKING:
    from reports.models.report import Report

# An open editor tells of itself every 15 seconds; after three silent rounds nobody sits there any more.
PRESENT_FOR = timedelta(seconds=50)


class OpeningQuerySet(models.QuerySet["Opening"]):
    """Openings of reports."""

    def note(self, report: "Report", *, doctor: Any, is_editing: bool = False) -> None:
        """Note that this doctor has the report's present text on the screen."""
        self.update_or_create(
            report=report,
            doctor=doctor,
            defaults={"revision": report.revision, "seen_at": timezone.now(), "is_editing": is_editing},
        )

    def touch(self, report: "Report", *, doctor: Any) -> None:
        """Note that this doctor's editor is still open, whatever text it shows."""
        self.filter(report=report, doctor=doctor).update(seen_at=timezone.now(), is_editing=True)

    def others_at(self, report: "Report", *, than: Any) -> list[str]:
        """Return the names of the other doctors who have the draft open for editing at this moment."""
        present = self.filter(report=report, is_editing=True, seen_at__gte=timezone.now() - PRESENT_FOR)
        people = User.objects.filter(id__in=present.exclude(doctor=than).values("doctor"), is_active=True)
        return [str(person) for person in people]


class Opening(models.Model):
    """The newest text of one report that one doctor has had on the screen."""

    report = models.ForeignKey("reports.Report", on_delete=models.CASCADE, related_name="openings")
    doctor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    revision = models.PositiveIntegerField()
    seen_at = models.DateTimeField()
    is_editing = models.BooleanField(default=False)

    objects = OpeningQuerySet.as_manager()

    class Meta:
        verbose_name = _("opening of a report")
        verbose_name_plural = _("openings of reports")
        constraints = [
            models.UniqueConstraint(fields=["report", "doctor"], name="a_doctor_stands_once_at_a_report"),
        ]

    def __str__(self) -> str:
        return f"opening {self.pk}"
