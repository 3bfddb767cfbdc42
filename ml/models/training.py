"""One training: asked for or started by hand, how far it is, what came of it."""

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from ml.errors import TrainingRunError


class TrainingRunQuerySet(models.QuerySet["TrainingRun"]):
    """Trainings: what waits, what is under way, what has ended."""

    def active(self) -> "TrainingRunQuerySet":
        """Return those that wait or are under way."""
        return self.filter(state__in=TrainingRun.ACTIVE)

    def ask(self, *, by: Any, options: Mapping[str, Any], source: str = "portal") -> "TrainingRun":
        """Put a training into the queue. Raises ``TrainingRunError`` while another one from the portal is active."""
        with transaction.atomic():
            # One after the other: two would teach the same thing twice.
            waiting = self.select_for_update().active().exclude(source=TrainingRun.Source.COMMAND)
            if waiting.exists():
                raise TrainingRunError(
                    _("A training waits or is under way already. Wait until it has ended, or stop it.")
                )
            return self.create(name="retraining", source=source, requested_by=by, options=dict(options))

    def begin(self, *, name: str) -> "TrainingRun":
        """Return a new row that is under way, of a training that was started by hand."""
        now = timezone.now()
        return self.create(
            name=name, source=TrainingRun.Source.COMMAND, state=TrainingRun.State.RUNNING, started_at=now, seen_at=now
        )

    def claim(self) -> "TrainingRun | None":
        """Take the training that has waited longest; None where none waits. Of two trainers only one gets it."""
        for waiting in self.filter(state=TrainingRun.State.QUEUED).order_by("requested_at", "id"):
            now = timezone.now()
            if self.filter(id=waiting.id, state=TrainingRun.State.QUEUED).update(
                state=TrainingRun.State.RUNNING, started_at=now, seen_at=now
            ):
                return self.get(id=waiting.id)
        return None

    def sweep(self) -> int:
        """End as failed what no trainer has been seen at for ``TrainingRun.LOST_AFTER``; return how many."""
        now = timezone.now()
        lost = models.Q(seen_at__lt=now - TrainingRun.LOST_AFTER) & ~models.Q(source=TrainingRun.Source.COMMAND)
        # By hand there is no trainer beside it, and between two of its epochs lie minutes.
        lost |= models.Q(seen_at__lt=now - TrainingRun.LOST_BY_HAND_AFTER)
        return self.filter(lost, state=TrainingRun.State.RUNNING).update(
            state=TrainingRun.State.FAILED, finished_at=now, error=TrainingRun.LOST
        )


class TrainingRun(models.Model):
    """One training, from the wish to the model.

    ::

        QUEUED ──claim()──▶ RUNNING ──finish()──▶ FINISHED
          │                    ├──fail(), sweep()──▶ FAILED
          └──────cancel()──────┴─────────────────▶ CANCELLED

    Whoever trains says every few seconds that it lives (``beat``); a trainer that died is noticed by ``sweep``.
    Stopping a running one is a wish (``is_cancel_wished``) that its trainer fulfils. ``curves`` holds the epochs of
    each stage: stage → list of {"step": …, figure: …}.
    """

    class State(models.TextChoices):
        """Where the training stands."""

        QUEUED = "queued", gettext_lazy("waiting for a trainer")
        RUNNING = "running", gettext_lazy("training")
        FINISHED = "finished", gettext_lazy("finished")
        FAILED = "failed", gettext_lazy("failed")
        CANCELLED = "cancelled", gettext_lazy("stopped")

    class Source(models.TextChoices):
        """Who wanted it."""

        COMMAND = "command", gettext_lazy("command line")
        PORTAL = "portal", gettext_lazy("this page")
        SCHEDULE = "schedule", gettext_lazy("schedule")

    ACTIVE = (State.QUEUED, State.RUNNING)
    ASKED = "retraining"
    LOST_AFTER = timedelta(minutes=2)
    LOST_BY_HAND_AFTER = timedelta(hours=12)
    LOST = gettext_noop("The trainer was lost: nothing was heard of it any more. Look at its log and ask again.")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=40)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED, editable=False)
    source = models.CharField(max_length=10, choices=Source, default=Source.PORTAL, editable=False)
    options = models.JSONField(default=dict)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    requested_at = models.DateTimeField(default=timezone.now, db_index=True)
    started_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    is_cancel_wished = models.BooleanField(default=False)
    progress = models.CharField(max_length=200, blank=True)
    error = models.TextField(blank=True)
    parameters = models.JSONField(default=dict)
    figures = models.JSONField(default=dict)
    curves = models.JSONField(default=dict)
    data_fingerprint = models.CharField(max_length=64, blank=True)
    labels_version = models.CharField(max_length=40, blank=True)
    git_commit = models.CharField(max_length=40, blank=True)
    model_version = models.CharField(max_length=60, blank=True, db_index=True)
    mlflow_run_id = models.CharField(max_length=64, blank=True)
    mlflow_url = models.CharField(max_length=300, blank=True)

    objects = TrainingRunQuerySet.as_manager()

    class Meta:
        verbose_name = gettext_lazy("training")
        verbose_name_plural = gettext_lazy("trainings")
        ordering = ["-requested_at", "id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state__in=["queued", "running", "finished", "failed", "cancelled"]),
                name="a_training_has_a_known_state",
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=["queued", "running"], finished_at__isnull=True)
                | (~models.Q(state__in=["queued", "running"]) & models.Q(finished_at__isnull=False)),
                name="a_training_that_has_ended_says_when",
            ),
            models.UniqueConstraint(
                fields=["name"],
                condition=models.Q(state__in=["queued", "running"]) & ~models.Q(source="command"),
                name="one_training_at_a_time_is_asked_for",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="failed") | ~models.Q(error=""), name="a_failed_training_says_why"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.requested_at:%Y-%m-%d %H:%M}"

    @property
    def is_active(self) -> bool:
        """Whether it waits or is under way."""
        return self.state in self.ACTIVE

    def beat(self, *, progress: str | None = None) -> bool:
        """Say that the trainer lives, and what it is at. Return False where it is to stop."""
        changes: dict[str, Any] = {"seen_at": timezone.now()}
        if progress is not None:
            changes["progress"] = progress[:200]
        row = TrainingRun.objects.filter(id=self.id, state=self.State.RUNNING, is_cancel_wished=False)
        return bool(row.update(**changes))

    def note(self, **facts: Any) -> None:
        """Keep facts about it (fields of the row) as they become known."""
        TrainingRun.objects.filter(id=self.id).update(**facts)
        for name, value in facts.items():
            setattr(self, name, value)

    def finish(self) -> None:
        """End a running one well."""
        self._end(self.State.FINISHED)

    def fail(self, error: str) -> None:
        """End a running one with a sentence that says why."""
        self._end(self.State.FAILED, error=error)

    def stopped(self) -> None:
        """End a running one whose trainer has stopped at somebody's wish."""
        self._end(self.State.CANCELLED)

    def cancel(self) -> None:
        """Stop it: at once where it waits, within seconds where it runs. Raises ``TrainingRunError`` where it ended."""
        rows = TrainingRun.objects.filter(id=self.id)
        now = timezone.now()
        if rows.filter(state=self.State.QUEUED).update(state=self.State.CANCELLED, finished_at=now):
            return
        if not rows.filter(state=self.State.RUNNING).update(is_cancel_wished=True):
            raise TrainingRunError(_("This training has ended already."))

    def _end(self, state: str, **changes: Any) -> None:
        # One that was swept meanwhile stays as it is.
        TrainingRun.objects.filter(id=self.id, state=self.State.RUNNING).update(
            state=state, finished_at=timezone.now(), **changes
        )
        self.refresh_from_db()
