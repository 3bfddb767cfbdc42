"""What watching the model came to: one run a day and hospital, the episodes in which something had changed."""

import datetime
import uuid
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Hospital
from ml.drift import Comparison


class Compared(models.TextChoices):
    """With what a window is compared."""

    TRAINING = "training", _("the training data")
    BASELINE = "baseline", _("the hospital's own baseline")


class WatchedQuerySet(models.QuerySet[Any]):
    """Rows of a hospital's monitoring, restricted to who looks after it."""

    def visible_to(self, user: Any) -> "WatchedQuerySet":
        """Return those of an administrator's own hospital; a superuser's are all, nobody else has any."""
        return self.filter(hospital__in=hospitals_watched_by(user))


def hospitals_watched_by(user: Any) -> models.QuerySet[Hospital]:
    """Return the hospitals whose monitoring a person sees: an administrator's own one, a superuser's are all."""
    if not (getattr(user, "is_administrator", False) and user.is_staff):
        return Hospital.objects.none()
    return Hospital.objects.all() if user.is_superuser else Hospital.objects.filter(pk=user.hospital_id)


class MonitoringBaseline(models.Model):
    """A person has declared that from this moment on a hospital's answers are normal; the latest one counts.

    Without one the baseline begins with the model version's first answer at the hospital.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    hospital = models.ForeignKey(Hospital, on_delete=models.PROTECT, related_name="monitoring_baselines")
    model_version = models.CharField(max_length=60, editable=False)
    starts_at = models.DateTimeField(default=timezone.now, editable=False)
    reason = models.CharField(_("reason"), max_length=300)
    set_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")

    objects = WatchedQuerySet.as_manager()

    class Meta:
        verbose_name = _("monitoring baseline")
        verbose_name_plural = _("monitoring baselines")
        ordering = ["-starts_at", "id"]
        constraints = [
            models.CheckConstraint(condition=~models.Q(reason=""), name="a_baseline_that_is_set_has_a_reason"),
        ]

    def __str__(self) -> str:
        return f"baseline {self.pk}"


class MonitoringRun(models.Model):
    """One comparison of a hospital's latest answers. It holds counts, shares and sizes of differences, of nobody.

    ``day`` is the local day of the run; the unique pair with the hospital settles two schedulers. ``training`` and
    ``baseline`` are lists of ``ml.drift.Comparison`` as JSON, empty where there was nothing to compare with; ``note``
    says why, or what went wrong. ``answers`` counts slices, ``patients`` those of whom one slice each was compared.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    hospital = models.ForeignKey(Hospital, on_delete=models.PROTECT, related_name="monitoring_runs", editable=False)
    day = models.DateField(_("day"), editable=False)
    ran_at = models.DateTimeField(default=timezone.now, editable=False)
    model_version = models.CharField(_("model version"), max_length=60, blank=True, editable=False)
    window_from = models.DateTimeField(null=True, editable=False)
    window_until = models.DateTimeField(null=True, editable=False)
    answers = models.PositiveIntegerField(default=0, editable=False)
    patients = models.PositiveIntegerField(default=0, editable=False)
    baseline_from = models.DateTimeField(null=True, editable=False)
    baseline_until = models.DateTimeField(null=True, editable=False)
    training = models.JSONField(default=list, editable=False)
    baseline = models.JSONField(default=list, editable=False)
    note = models.TextField(blank=True, editable=False)

    objects = WatchedQuerySet.as_manager()

    class Meta:
        verbose_name = _("monitoring run")
        verbose_name_plural = _("monitoring runs")
        ordering = ["-day", "id"]
        constraints = [
            models.UniqueConstraint(fields=["hospital", "day"], name="a_hospital_is_monitored_once_a_day"),
        ]

    def __str__(self) -> str:
        return f"monitoring run {self.day}"

    def comparisons(self, compared: str) -> tuple[Comparison, ...]:
        """Return what was found against the training data or the baseline; empty where there was nothing to ask."""
        stored: list[dict[str, Any]] = getattr(self, compared)
        return tuple(Comparison.from_json(values) for values in stored)

    @property
    def window_days(self) -> int:
        """How many days the window was long."""
        if self.window_from is None or self.window_until is None:
            return 0
        return (self.window_until - self.window_from).days


class MonitoringEpisode(models.Model):
    """A time in which something differed: it opens once, is mailed once, and closes when it has been quiet.

    ::

        OPEN ──close()──▶ CLOSED   quiet again, another model, or a baseline set anew

    ``family`` is that of the signals (``ml.drift.Signal``), ``level`` the highest so far, ``signals`` those that were
    believed at any time. Of each family, model version and reference one is open at a time.
    """

    class Level(models.TextChoices):
        """How large the difference is."""

        WARN = "warn", _("warning")
        ALARM = "alarm", _("alarm")

    class Family(models.TextChoices):
        """What differs."""

        INPUT = "input", _("what comes in")
        ANSWERS = "answers", _("what the model says")
        AGREEMENT = "agreement", _("agreement with doctors")

    class Ending(models.TextChoices):
        """Why it closed."""

        QUIET = "quiet", _("quiet again")
        REPLACED = "replaced", _("another model answers")
        ACCEPTED = "accepted", _("a new baseline was set")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    hospital = models.ForeignKey(Hospital, on_delete=models.PROTECT, related_name="monitoring_episodes", editable=False)
    model_version = models.CharField(_("model version"), max_length=60, editable=False)
    compared = models.CharField(_("compared with"), max_length=10, choices=Compared, editable=False)
    family = models.CharField(_("what differs"), max_length=10, choices=Family, editable=False)
    level = models.CharField(_("level"), max_length=5, choices=Level, editable=False)
    signals = models.JSONField(default=list, editable=False)
    opened_at = models.DateTimeField(_("opened at"), editable=False)
    alarmed_at = models.DateTimeField(null=True, editable=False)
    mailed_at = models.DateTimeField(null=True, editable=False)
    closed_at = models.DateTimeField(_("closed at"), null=True, editable=False)
    ending = models.CharField(_("ending"), max_length=10, choices=Ending, blank=True, editable=False)

    objects = WatchedQuerySet.as_manager()

    class Meta:
        verbose_name = _("monitoring episode")
        verbose_name_plural = _("monitoring episodes")
        ordering = ["-opened_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["hospital", "model_version", "compared", "family"],
                condition=models.Q(closed_at__isnull=True),
                name="one_episode_of_a_kind_is_open_at_a_time",
            ),
            models.CheckConstraint(
                condition=models.Q(closed_at__isnull=True, ending="")
                | (models.Q(closed_at__isnull=False) & ~models.Q(ending="")),
                name="a_closed_episode_says_why",
            ),
        ]

    def __str__(self) -> str:
        return f"monitoring episode {self.pk}"

    @property
    def is_open(self) -> bool:
        """Whether it lasts."""
        return self.closed_at is None

    @property
    def badge(self) -> str:
        """Which of the design system's badges shows the level."""
        return "failed" if self.level == self.Level.ALARM else "draft"

    def rise(self, *, level: str, signals: Iterable[str], at: datetime.datetime) -> bool:
        """Note what is believed today; return whether the level has risen to an alarm with it."""
        together = sorted({*self.signals, *signals})
        has_risen = level == self.Level.ALARM and self.level != self.Level.ALARM
        if has_risen:
            self.level, self.alarmed_at = level, at
        if has_risen or together != self.signals:
            self.signals = together
            self.save(update_fields=["level", "alarmed_at", "signals"])
        return has_risen

    def close(self, ending: str, *, at: datetime.datetime) -> bool:
        """End it; return whether it was still open."""
        is_ours = MonitoringEpisode.objects.filter(pk=self.pk, closed_at__isnull=True).update(
            closed_at=at, ending=ending
        )
        self.refresh_from_db()
        return bool(is_ours)

    def claim_mail(self) -> bool:
        """Return whether this caller is the one who mails it: one conditional UPDATE, so that of two only one does."""
        return bool(MonitoringEpisode.objects.filter(pk=self.pk, mailed_at__isnull=True).update(mailed_at=Now()))

    def give_mail_back(self) -> None:
        """Note that no mail has left, so that the next run tries again."""
        MonitoringEpisode.objects.filter(pk=self.pk).update(mailed_at=None)
