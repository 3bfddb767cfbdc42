"""Work on many studies at once: drafts, PDFs in one archive, and all data of one patient for that patient."""

import hashlib
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_q.tasks import async_task

from reports.errors import InvalidTransitionError
from reports.models.report import Report
from studies.models import Study

# An archive holds many patients' reports, so it lies around no longer than it takes to fetch it.
ARCHIVE_KEPT_FOR = timedelta(hours=24)
# Between the commit of a job and its message lies a moment in which it is not lost.
ENQUEUE_GRACE = timedelta(seconds=5)


def archive_path(instance: models.Model, filename: str) -> str:
    """Name a stored archive."""
    name = uuid.uuid4()
    return f"archives/{name.hex[:2]}/{name}.zip"


class BulkJobQuerySet(models.QuerySet["BulkJob"]):
    """Bulk jobs: whose they are, what may be claimed, what got stuck."""

    def visible_to(self, user: Any) -> "BulkJobQuerySet":
        """Return a doctor's own jobs, or a patient's archives of their own data; nobody sees another's."""
        if getattr(user, "is_approved_doctor", False):
            return self.filter(requested_by=user).exclude(kind=BulkJob.Kind.MY_DATA)
        if getattr(user, "is_patient", False):
            return self.filter(requested_by=user, kind=BulkJob.Kind.MY_DATA)
        return self.none()

    def start(self, *, kind: str, studies: Sequence[Study], by: Any) -> "BulkJob":
        """Store a job with one line a study, in the order given, and return it.

        The same request while its job still runs gets that job: a second click starts nothing.
        """
        text = ",".join([kind, *sorted(str(study.pk) for study in studies)])
        key = hashlib.sha256(text.encode()).hexdigest()
        running = self.filter(requested_by=by, key=key, state__in=BulkJob.ACTIVE)
        try:
            with transaction.atomic():
                job = self.create(kind=kind, key=key, requested_by=by)
                BulkLine.objects.bulk_create(
                    BulkLine(job=job, study=study, number=number) for number, study in enumerate(studies, start=1)
                )
        except IntegrityError:
            return running.get()
        transaction.on_commit(job.enqueue)
        return job

    def claim(self, job_id: uuid.UUID) -> "BulkJob | None":
        """Take one queued job for work. One conditional UPDATE, so of two workers only one gets it."""
        now = timezone.now()
        is_won = self.filter(id=job_id, state=BulkJob.State.QUEUED).update(
            state=BulkJob.State.RUNNING, started_at=now, lease_expires_at=_lease_from(now)
        )
        return self.select_related("requested_by").get(id=job_id) if is_won else None

    def sweep(self) -> tuple[uuid.UUID, ...]:
        """Recover jobs that a crash, a time-out or a lost message left behind; return those to enqueue again.

        Lines that are done stay done, so a recovered job goes on where it stopped.
        """
        now = timezone.now()
        expired = self.filter(state=BulkJob.State.RUNNING, lease_expires_at__lt=now)
        expired.filter(attempt__gte=settings.ANALYSIS_MAX_ATTEMPTS).update(
            state=BulkJob.State.FAILED, finished_at=now, lease_expires_at=None, error=str(BulkJob.GAVE_UP)
        )
        expired.update(
            state=BulkJob.State.QUEUED, attempt=models.F("attempt") + 1, lease_expires_at=None, enqueued_at=None
        )
        stale_at = now - timedelta(seconds=settings.ANALYSIS_REQUEUE_AFTER_S)
        lost = self.filter(state=BulkJob.State.QUEUED).filter(
            models.Q(enqueued_at__isnull=True, queued_at__lt=now - ENQUEUE_GRACE) | models.Q(enqueued_at__lt=stale_at)
        )
        return tuple(lost.order_by("queued_at", "id").values_list("id", flat=True))

    def remove_expired_archives(self) -> int:
        """Delete the archives whose time is over; return how many. The jobs and their lines stay."""
        return self.filter(expires_at__lt=timezone.now()).remove_archives()

    def remove_archives(self) -> int:
        """Delete the archives of these jobs before their time; return how many."""
        kept = list(self.exclude(archive=""))
        for job in kept:
            job.archive.storage.delete(str(job.archive.name))
            BulkJob.objects.filter(id=job.id).update(archive="")
        return len(kept)


class BulkJob(models.Model):
    """One request of one person about many studies; each study has a line that says what became of it.

    ::

        QUEUED ──claim()──▶ RUNNING ──finish()──▶ DONE
          ▲  ▲                │ │ └────fail()───▶ FAILED
          │  └──hand_back()───┘ │                   ▲
          └──sweep(), next──────┘                   │ sweep() after the last attempt
             attempt

    ``hand_back`` lets other work of the queue pass after a while; the job goes on with its next waiting line.
    """

    class Kind(models.TextChoices):
        """What is done to each study."""

        DRAFT = "draft", _("write drafts")
        PDF = "pdf", _("PDFs in one archive")
        MY_DATA = "my_data", _("all my data")

    class State(models.TextChoices):
        """Where the job stands."""

        QUEUED = "queued", _("queued")
        RUNNING = "running", _("under way")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")

    ACTIVE = (State.QUEUED, State.RUNNING)
    TASK = "reports.tasks.run_bulk_job"
    GAVE_UP = _("This was started several times and never finished. What is done stays done; please start it again.")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=10, choices=Kind, editable=False)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED, editable=False)
    attempt = models.PositiveSmallIntegerField(default=1, editable=False)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    key = models.CharField(max_length=64, editable=False)
    queued_at = models.DateTimeField(default=timezone.now, editable=False)
    enqueued_at = models.DateTimeField(null=True, editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    lease_expires_at = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)
    error = models.TextField(_("what went wrong"), blank=True, editable=False)
    archive = models.FileField(upload_to=archive_path, max_length=100, blank=True, editable=False)
    expires_at = models.DateTimeField(null=True, editable=False)

    objects = BulkJobQuerySet.as_manager()

    class Meta:
        verbose_name = _("bulk job")
        verbose_name_plural = _("bulk jobs")
        ordering = ["-queued_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["requested_by", "key"],
                condition=models.Q(state__in=["queued", "running"]),
                name="the_same_bulk_job_runs_once_at_a_time",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="running") | models.Q(lease_expires_at__isnull=False),
                name="a_running_bulk_job_has_a_lease",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="failed") | ~models.Q(error=""), name="a_failed_bulk_job_says_why"
            ),
            models.CheckConstraint(
                condition=models.Q(archive="") | models.Q(expires_at__isnull=False), name="an_archive_expires"
            ),
        ]

    def __str__(self) -> str:
        return f"bulk job {self.id}"

    @property
    def is_active(self) -> bool:
        """Whether it waits or is worked on; a page keeps asking only while this holds."""
        return self.state in self.ACTIVE

    @property
    def badge(self) -> str:
        """Which of the design system's badges shows the state."""
        return "succeeded" if self.state == self.State.DONE else self.state

    @property
    def has_archive(self) -> bool:
        """Whether there is an archive to be fetched, and its time is not over."""
        return bool(self.archive) and self.expires_at is not None and self.expires_at > timezone.now()

    def enqueue(self) -> None:
        """Send the worker a message about this job and note when. Call it after the commit, never inside."""
        async_task(self.TASK, str(self.id), group="bulk")
        BulkJob.objects.filter(id=self.id, state=self.State.QUEUED).update(enqueued_at=timezone.now())

    def renew(self) -> None:
        """Prolong the lease. Raises ``InvalidTransitionError`` if this attempt was given up meanwhile."""
        self._change(lease_expires_at=_lease_from(timezone.now()))

    def hand_back(self) -> None:
        """Let other work pass: back to the queue, same attempt. Raises ``InvalidTransitionError`` as ``renew`` does."""
        self._change(state=self.State.QUEUED, lease_expires_at=None, enqueued_at=None, queued_at=timezone.now())

    def finish(self, *, archive: str = "") -> None:
        """Record that every line has its answer; ``archive`` names the stored archive, where there is one."""
        now = timezone.now()
        self._change(
            state=self.State.DONE,
            finished_at=now,
            lease_expires_at=None,
            archive=archive,
            expires_at=now + ARCHIVE_KEPT_FOR if archive else None,
        )

    def fail(self, sentence: str) -> None:
        """Record why the job came to no end. Raises ``InvalidTransitionError`` as ``renew`` does."""
        self._change(state=self.State.FAILED, finished_at=timezone.now(), lease_expires_at=None, error=sentence)

    def _change(self, **values: Any) -> None:
        ours = BulkJob.objects.filter(id=self.id, state=self.State.RUNNING, attempt=self.attempt)
        if not ours.update(**values):
            raise InvalidTransitionError(f"This job is not running its attempt {self.attempt} any more.")
        self.refresh_from_db()


class BulkLine(models.Model):
    """What became of one study of a bulk job: done, or skipped because of what the reason says."""

    class State(models.TextChoices):
        """Where the line stands."""

        WAITING = "waiting", _("waiting")
        DONE = "done", _("done")
        SKIPPED = "skipped", _("skipped")

    job = models.ForeignKey(BulkJob, on_delete=models.CASCADE, related_name="lines")
    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="+")
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=State, default=State.WAITING, editable=False)
    reason = models.TextField(blank=True, editable=False)
    report = models.ForeignKey(Report, on_delete=models.PROTECT, null=True, editable=False, related_name="+")

    class Meta:
        verbose_name = _("line of a bulk job")
        verbose_name_plural = _("lines of bulk jobs")
        ordering = ["job", "number"]
        constraints = [
            models.UniqueConstraint(fields=["job", "study"], name="a_study_stands_once_in_a_bulk_job"),
            models.CheckConstraint(
                condition=~models.Q(state="skipped") | ~models.Q(reason=""), name="a_skipped_line_says_why"
            ),
        ]

    def __str__(self) -> str:
        return f"line {self.number}"

    @property
    def badge(self) -> str:
        """Which of the design system's badges shows the state."""
        return {self.State.DONE.value: "succeeded", self.State.SKIPPED.value: "cancelled"}.get(self.state, "queued")

    def finish(self, report: Report) -> None:
        """Record that the study's part is done, and with which report."""
        self.state, self.reason, self.report = self.State.DONE, "", report
        self.save(update_fields=["state", "reason", "report"])

    def skip(self, reason: str) -> None:
        """Record why nothing was done for this study."""
        self.state, self.reason, self.report = self.State.SKIPPED, reason, None
        self.save(update_fields=["state", "reason", "report"])


def _lease_from(now: datetime) -> datetime:
    return now + timedelta(seconds=settings.ANALYSIS_LEASE_S)
