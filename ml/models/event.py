"""The event log's table: what happened in the model's life, one row each."""

from typing import Any, Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Stage(models.TextChoices):
    """Where in the model's life something happened; the ``kind`` of an event."""

    INGESTION = "ingestion", _("ingestion")
    BASE_MODEL = "base_model", _("base model")
    TRAINING = "training", _("training")
    EVALUATION = "evaluation", _("evaluation")
    INFERENCE = "inference", _("inference")
    DEPLOYMENT = "deployment", _("deployment")
    MONITORING = "monitoring", _("monitoring")


class Level(models.TextChoices):
    """How much it matters."""

    INFO = "info", _("information")
    WARNING = "warning", _("warning")
    ERROR = "error", _("error")


class EventQuerySet(models.QuerySet["Event"]):
    """Events: added, read, and deleted when their time is over."""

    def of_hospital(self, hospital_id: Any) -> Self:
        """Return what concerns one hospital's studies, and what concerns no study at all (training, deployment …)."""
        nobodys = models.Q(hospital_id__isnull=True, study_id__isnull=True)
        if hospital_id is None:
            return self.none()
        return self.filter(nobodys | models.Q(hospital_id=hospital_id))

    def delete_older_than(self, moment: Any, *, at_most: int = 10_000) -> int:
        """Delete the oldest events before that moment, so many at most; return how many went."""
        oldest = list(self.filter(at__lt=moment).order_by("at").values_list("id", flat=True)[:at_most])
        return self.filter(id__in=oldest).delete()[0] if oldest else 0


class Event(models.Model):
    """One thing that happened. Written by ``ml.events.record`` only, never changed.

    ``study_id`` and ``hospital_id`` are bare identifiers: this room knows neither studies nor hospitals, and an event
    outlives what it names. ``problem`` is the name of an error's class, empty where nothing went wrong.
    """

    kind = models.CharField(_("stage"), max_length=20, choices=Stage)
    level = models.CharField(_("level"), max_length=10, choices=Level, default=Level.INFO)
    message = models.CharField(_("what happened"), max_length=500)
    problem = models.CharField(_("problem"), max_length=60, blank=True)
    run_id = models.CharField(_("run"), max_length=80, blank=True)
    study_id = models.UUIDField(_("study"), null=True, blank=True)
    hospital_id = models.UUIDField(_("hospital"), null=True, blank=True)
    details = models.JSONField(_("details"), default=dict, blank=True)
    at = models.DateTimeField(_("time"), default=timezone.now)

    objects = EventQuerySet.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("event log")
        ordering = ["-at", "-id"]
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["-at", "-id"], name="event_by_time"),
            models.Index(fields=["kind", "-at"], name="event_by_kind"),
            models.Index(fields=["hospital_id", "-at"], name="event_by_hospital"),
            models.Index(fields=["study_id"], name="event_by_study", condition=models.Q(study_id__isnull=False)),
            models.Index(fields=["run_id"], name="event_by_run", condition=~models.Q(run_id="")),
            models.Index(fields=["-at"], name="event_with_problem", condition=~models.Q(problem="")),
        ]
        constraints = [
            models.CheckConstraint(condition=models.Q(kind__in=Stage.values), name="an_event_belongs_to_a_known_stage"),
            models.CheckConstraint(condition=models.Q(level__in=Level.values), name="an_event_has_a_known_level"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} event {self.pk}"
