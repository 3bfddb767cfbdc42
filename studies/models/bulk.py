"""Bulk imports: what was sent in one go, one line for each file, and the examinations that the files belong to."""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop
from django_q.tasks import async_task

from accounts.models import Hospital
from studies.errors import InvalidTransitionError
from studies.models.patient import Patient
from studies.models.study import ACTIVE_IMPORTS, ENQUEUE_GRACE, Analysis, Image, Study
from studies.storage import image_path, import_path

# How long an upload that was never finished is kept, and how long files wait for the doctor to say whose they are.
UNFINISHED_FOR = timedelta(hours=24)
UNANSWERED_FOR = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class ImportSweep:
    """What one run of the sweeper found among the imports: counts, and those whose next step is to be sent again."""

    failed: int
    recovered: int
    to_enqueue: tuple[uuid.UUID, ...]


class ImportQuerySet(models.QuerySet["Import"]):
    """Imports: whose they are, which may be claimed, which got stuck."""

    def visible_to(self, user: Any) -> "ImportQuerySet":
        """Return the doctor's own imports at the doctor's present hospital; nothing for anyone else."""
        if not getattr(user, "is_approved_doctor", False):
            return self.none()
        return self.filter(created_by=user, hospital_id=user.hospital_id)

    def active(self) -> "ImportQuerySet":
        """Return those on which a worker still has something to do."""
        return self.filter(state__in=Import.ACTIVE)

    def claim(self, import_id: uuid.UUID, *, step: int) -> "Import | None":
        """Take the step that a message names. One conditional UPDATE, so of two workers only one gets it.

        Returns the import with its number of steps counted up, or None if that step is taken or done already.
        """
        now = timezone.now()
        is_won = self.active().filter(id=import_id, step=step, lease_expires_at__isnull=True)
        taken = is_won.update(
            step=models.F("step") + 1,
            lease_expires_at=now + timedelta(seconds=settings.ANALYSIS_LEASE_S),
            touched_at=now,
        )
        return self.select_related("created_by__hospital").get(id=import_id) if taken else None

    def sweep(self) -> ImportSweep:
        """Recover steps that a crash, a time-out or a lost message left behind. Safe at any time, any number of times.

        The returned imports are to be enqueued again by the caller.
        """
        now = timezone.now()
        expired = self.active().filter(lease_expires_at__lt=now)
        failed = expired.filter(attempt__gte=settings.ANALYSIS_MAX_ATTEMPTS).update(
            state=Import.State.FAILED, error=Import.GAVE_UP, finished_at=now, touched_at=now, lease_expires_at=None
        )
        recovered = expired.update(
            attempt=models.F("attempt") + 1, enqueued_at=None, touched_at=now - ENQUEUE_GRACE, lease_expires_at=None
        )
        stale_at = now - timedelta(seconds=settings.ANALYSIS_REQUEUE_AFTER_S)
        lost = self.active().filter(
            models.Q(enqueued_at__isnull=True, touched_at__lte=now - ENQUEUE_GRACE)
            | models.Q(enqueued_at__lt=stale_at),
            lease_expires_at__isnull=True,
        )
        return ImportSweep(
            failed=failed,
            recovered=recovered,
            to_enqueue=tuple(lost.order_by("touched_at").values_list("id", flat=True)),
        )


class Import(models.Model):
    """Files that a doctor sent in one go. Its identifier is made with the empty form: sent twice, it is one import.

    ::

        RECEIVING ──start()──▶ READING ──▶ SORTING ──▶ STORING ──▶ ANALYSING ──▶ FINISHED
            │                     │           │         ▲ │            │            │
            └──abandon()          └───────────┴─────────│─┴────────────┴─▶ FAILED   │
                  ▼                                     └──────── reopen() ─────────┘
              ABANDONED                                 (somebody said whose the files are)

    From READING to ANALYSING a worker takes one small step at a time: ``claim()`` counts the step and takes a lease,
    ``pass_on()`` gives it back and sends the message of the next one. A message names its step, so one too many does
    nothing; ``hold()`` asks for the step it was started with, so a worker that comes back from the dead writes
    nothing. The sweeper ends expired leases and sends lost messages again. FINISHED: every line has its answer, or
    waits for the doctor to say whose the file is, and every analysis is in the queue.
    """

    class State(models.TextChoices):
        """Where the import stands."""

        RECEIVING = "receiving", _("receiving")
        READING = "reading", _("reading the files")
        SORTING = "sorting", _("sorting")
        STORING = "storing", _("storing")
        ANALYSING = "analysing", _("analysing")
        FINISHED = "finished", _("done")
        ABANDONED = "abandoned", _("discarded")
        FAILED = "failed", _("failed")

    ACTIVE = ACTIVE_IMPORTS
    TASK = "studies.tasks.advance_import"
    GAVE_UP = gettext_noop(
        "The import was started several times and never got further. What is accepted below is stored; please send the "
        "other files again, and tell your administrator if it happens again."
    )

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    hospital = models.ForeignKey(Hospital, on_delete=models.PROTECT, related_name="+")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="imports")
    # For files that do not say themselves whose they are, or from when.
    patient = models.ForeignKey(Patient, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    study_date = models.DateField(_("study date"))
    clinical_question = models.TextField(_("clinical question"), blank=True, max_length=2000)
    state = models.CharField(max_length=12, choices=State, default=State.RECEIVING, editable=False)
    step = models.PositiveIntegerField(default=0, editable=False)
    attempt = models.PositiveSmallIntegerField(default=1, editable=False)
    announced_files = models.PositiveIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    touched_at = models.DateTimeField(default=timezone.now, editable=False)
    enqueued_at = models.DateTimeField(null=True, editable=False)
    lease_expires_at = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)
    error = models.TextField(_("what went wrong"), blank=True, editable=False)

    objects = ImportQuerySet.as_manager()

    class Meta:
        verbose_name = _("import")
        verbose_name_plural = _("imports")
        ordering = ["-created_at", "id"]
        indexes = [models.Index(fields=["state", "lease_expires_at"], name="import_by_state_and_lease")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state__in=["finished", "abandoned", "failed"], finished_at__isnull=False)
                | models.Q(
                    state__in=["receiving", "reading", "sorting", "storing", "analysing"], finished_at__isnull=True
                ),
                name="an_import_is_finished_or_active_in_a_known_state",
            ),
            models.CheckConstraint(
                condition=models.Q(lease_expires_at__isnull=True)
                | models.Q(state__in=["reading", "sorting", "storing", "analysing"]),
                name="only_an_active_import_has_a_lease",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="failed") | ~models.Q(error=""), name="a_failed_import_says_why"
            ),
        ]

    def __str__(self) -> str:
        return f"import of {self.created_at:%Y-%m-%d %H:%M}"

    @property
    def is_receiving(self) -> bool:
        """Whether files may still be added."""
        return self.state == self.State.RECEIVING

    @property
    def is_active(self) -> bool:
        """Whether a worker still has something to do."""
        return self.state in self.ACTIVE

    @property
    def is_reading(self) -> bool:
        """Whether there are still files that nobody has looked into."""
        return self.state in (self.State.READING, self.State.SORTING)

    def start(self) -> None:
        """Close the upload and let the worker begin. Asking twice does nothing the second time.

        Raises ``InvalidTransitionError`` for an import that was discarded.
        """
        now = timezone.now()
        is_started = Import.objects.filter(id=self.id, state=self.State.RECEIVING).update(
            state=self.State.READING, touched_at=now
        )
        self.refresh_from_db()
        if self.state == self.State.ABANDONED:
            raise InvalidTransitionError(_("This upload was discarded. Please start a new import."))
        if is_started:
            transaction.on_commit(self.enqueue, robust=True)

    def abandon(self) -> None:
        """Throw an upload away that was never finished, files included.

        Raises ``InvalidTransitionError`` once the import has started.
        """
        is_ours = Import.objects.filter(id=self.id, state=self.State.RECEIVING).update(
            state=self.State.ABANDONED, finished_at=timezone.now(), touched_at=timezone.now()
        )
        if not is_ours:
            raise InvalidTransitionError(
                _("This import has started already, so its upload cannot be discarded any more.")
            )
        self.refresh_from_db()
        for file in self.files.exclude(content=""):
            file.drop_content()
        self.files.all().delete()

    def enqueue(self) -> None:
        """Send the worker the message of the next step, and note when. Call it after the commit, never inside."""
        async_task(self.TASK, str(self.id), self.step, group="import")
        Import.objects.filter(id=self.id, step=self.step, lease_expires_at__isnull=True).update(
            enqueued_at=timezone.now()
        )

    def hold(self) -> None:
        """Lock the row for what this step writes; call it first in the step's transaction.

        Raises ``InvalidTransitionError`` if the step was given up meanwhile.
        """
        ours = Import.objects.select_for_update().filter(
            id=self.id, step=self.step, state=self.state, lease_expires_at__isnull=False
        )
        if not ours.exists():
            raise InvalidTransitionError(f"Step {self.step} of this import was given up meanwhile.")

    def pass_on(self, *, to: "Import.State") -> None:
        """End this step in the transaction that holds it, and send the message of the next one after the commit."""
        self._give_back(state=to, attempt=1)
        self.attempt = 1
        if to in self.ACTIVE:
            transaction.on_commit(self.enqueue, robust=True)

    def stumble(self) -> None:
        """Give up a step that went wrong; the sweeper sends it again, up to the cap. A step given up already stays."""
        with transaction.atomic():
            try:
                self.hold()
            except InvalidTransitionError:
                return
            if self.attempt >= settings.ANALYSIS_MAX_ATTEMPTS:
                self._give_back(state=self.State.FAILED, error=self.GAVE_UP)
            else:
                self._give_back(state=self.State(self.state), attempt=self.attempt + 1)

    def reopen(self) -> None:
        """Go back to storing, because files got a patient or were left out. The caller is in a transaction."""
        now = timezone.now()
        is_ended = Import.objects.filter(id=self.id, state__in=[self.State.ANALYSING, self.State.FINISHED]).update(
            state=self.State.STORING,
            step=models.F("step") + 1,
            attempt=1,
            lease_expires_at=None,
            enqueued_at=None,
            finished_at=None,
            touched_at=now,
        )
        self.refresh_from_db()
        if is_ended:
            transaction.on_commit(self.enqueue, robust=True)

    def _give_back(self, *, state: "Import.State", **values: Any) -> None:
        now = timezone.now()
        finished_at = None if state in self.ACTIVE else now
        Import.objects.filter(id=self.id).update(
            state=state, lease_expires_at=None, enqueued_at=None, touched_at=now, finished_at=finished_at, **values
        )
        self.state = state


class ImportGroup(models.Model):
    """The files of an import that belong to one examination of one patient.

    What the files say about the patient stands here only while nobody knows whose record it is.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    batch = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="groups")
    key = models.CharField(max_length=64)
    source_key = models.CharField(max_length=64, blank=True)
    study_date = models.DateField()
    patient = models.ForeignKey(Patient, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    study = models.ForeignKey(Study, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    question = models.TextField(blank=True)
    record_number = models.CharField(max_length=64, blank=True)
    family_name = models.CharField(max_length=80, blank=True)
    given_name = models.CharField(max_length=80, blank=True)
    birth_date = models.DateField(null=True, blank=True)

    class Meta:
        verbose_name = _("examination of an import")
        verbose_name_plural = _("examinations of imports")
        ordering = ["batch", "key"]
        constraints = [
            models.UniqueConstraint(fields=["batch", "key"], name="an_examination_stands_once_in_an_import"),
            models.CheckConstraint(
                condition=models.Q(patient__isnull=True)
                | models.Q(record_number="", family_name="", given_name="", birth_date__isnull=True),
                name="what_files_say_about_a_known_patient_is_not_kept",
            ),
        ]

    def __str__(self) -> str:
        return f"examination {self.id}"

    @property
    def is_open(self) -> bool:
        """Whether its files wait for the doctor to say whose they are."""
        return self.patient_id is None and self.files.filter(state=ImportFile.State.ASKED).exists()

    def assign(self, patient: Patient) -> None:
        """Say whose the files are, and let the import go on. The caller has checked that the doctor may see them.

        Raises ``InvalidTransitionError`` if that has been said already.
        """
        with transaction.atomic():
            self._close(patient=patient)
            self.files.filter(state=ImportFile.State.ASKED).update(state=ImportFile.State.READ)
            self.batch.reopen()

    def leave_out(self) -> None:
        """Refuse the files at the doctor's wish. Raises ``InvalidTransitionError`` if somebody has answered already."""
        with transaction.atomic():
            self._close(patient=None)
            for file in self.files.filter(state=ImportFile.State.ASKED):
                file.reject(gettext_noop("It was left out at your wish, because nobody said whose it is."))

    def _close(self, *, patient: Patient | None) -> None:
        Import.objects.select_for_update().get(id=self.batch_id)
        is_open = ImportGroup.objects.filter(
            models.Exists(ImportFile.objects.filter(group=models.OuterRef("pk"), state=ImportFile.State.ASKED)),
            id=self.id,
            patient__isnull=True,
        ).update(patient=patient, question="", record_number="", family_name="", given_name="", birth_date=None)
        if not is_open:
            raise InvalidTransitionError(_("These files have got their answer already."))
        self.refresh_from_db()


class ImportFile(models.Model):
    """One file of an import and what became of it: the line that the doctor reads.

    ::

        WAITING ──▶ READ ──▶ ACCEPTED | DUPLICATE
           │ │       │ ▲
           │ │       ▼ │ assign()
           │ │      ASKED           (whose is it?)
           │ └────────┴──────▶ REJECTED
           └──▶ OPENED              (an archive or a manifest: its files have lines of their own)

    The bytes as they came (``content``, or an entry of ``archive``) are deleted as soon as the file is read; until its
    study is known the re-encoded picture waits in ``picture``, without any of the names that the file carried.
    """

    class State(models.TextChoices):
        """What became of the file."""

        WAITING = "waiting", _("waiting")
        READ = "read", _("readable")
        ASKED = "asked", _("needs a patient")
        ACCEPTED = "accepted", _("accepted")
        DUPLICATE = "duplicate", _("duplicate")
        REJECTED = "rejected", _("rejected")
        OPENED = "opened", _("opened")

    DECIDED = (State.ACCEPTED, State.DUPLICATE, State.REJECTED, State.OPENED)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    batch = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="files")
    position = models.PositiveIntegerField()
    name = models.CharField(_("file name"), max_length=255)
    content = models.FileField(upload_to=import_path, max_length=100, blank=True, editable=False)
    archive = models.ForeignKey("self", on_delete=models.CASCADE, null=True, blank=True, related_name="entries")
    entry_number = models.PositiveIntegerField(null=True, editable=False)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING, editable=False)
    attempt = models.PositiveSmallIntegerField(default=0, editable=False)
    sentence = models.TextField(_("why"), blank=True, editable=False)
    warning = models.TextField(_("remark"), blank=True, editable=False)
    # What the file says about itself while it waits to be sorted; emptied then.
    facts = models.JSONField(default=dict, blank=True, editable=False)
    picture = models.FileField(upload_to=image_path, max_length=100, blank=True, editable=False)
    picture_facts = models.JSONField(default=dict, blank=True, editable=False)
    group = models.ForeignKey(ImportGroup, on_delete=models.SET_NULL, null=True, blank=True, related_name="files")
    rank = models.PositiveIntegerField(default=0, editable=False)
    image = models.ForeignKey(Image, on_delete=models.PROTECT, null=True, blank=True, related_name="import_files")
    duplicate_of = models.ForeignKey(Image, on_delete=models.PROTECT, null=True, blank=True, related_name="+")

    class Meta:
        verbose_name = _("file of an import")
        verbose_name_plural = _("files of imports")
        ordering = ["batch", "position"]
        indexes = [models.Index(fields=["batch", "state", "position"], name="import_file_by_state")]
        constraints = [
            models.UniqueConstraint(fields=["batch", "position"], name="a_file_stands_once_in_an_import"),
            models.CheckConstraint(
                condition=models.Q(state="accepted", image__isnull=False)
                | (~models.Q(state="accepted") & models.Q(image__isnull=True)),
                name="an_accepted_file_and_no_other_has_its_slice",
            ),
            models.CheckConstraint(
                condition=models.Q(state="duplicate", duplicate_of__isnull=False)
                | (~models.Q(state="duplicate") & models.Q(duplicate_of__isnull=True)),
                name="a_duplicate_and_no_other_names_its_twin",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="rejected") | ~models.Q(sentence=""), name="a_rejected_file_says_why"
            ),
        ]

    def __str__(self) -> str:
        return f"file {self.position}"

    @property
    def short_name(self) -> str:
        """The last part of the path."""
        return self.name.rpartition("/")[2]

    def reject(self, sentence: str) -> None:
        """Refuse the file, and forget its bytes and facts. ``sentence`` is for the doctor."""
        self._decide(state=self.State.REJECTED, sentence=sentence)

    def accept(self, image: Image, *, warning: str) -> None:
        """Note the slice that the file became."""
        self.picture = ""  # it is the slice's now
        self._decide(state=self.State.ACCEPTED, image=image, warning=warning)

    def duplicate(self, twin: Image, *, warning: str) -> None:
        """Note that the picture is stored already."""
        self._decide(state=self.State.DUPLICATE, duplicate_of=twin, warning=warning)

    def drop_content(self) -> None:
        """Delete the bytes as they came, once what is written about them is committed."""
        if self.content:
            storage, name = self.content.storage, self.content.name
            self.content = ""
            ImportFile.objects.filter(id=self.id).update(content="")
            transaction.on_commit(lambda: storage.delete(str(name)), robust=True)

    def _decide(self, *, state: "ImportFile.State", **values: Any) -> None:
        self.drop_content()
        if self.picture:
            storage, name = self.picture.storage, self.picture.name
            self.picture = ""
            transaction.on_commit(lambda: storage.delete(str(name)), robust=True)
        self.state, self.facts, self.picture_facts = state, {}, {}
        for field, value in values.items():
            setattr(self, field, value)
        self.save()


def held_back_analyses(batch: Import) -> models.QuerySet[Analysis]:
    """Return the analyses of an import's slices that wait to be put into the queue, in the order of the slices."""
    return Analysis.objects.filter(
        image__import_files__batch=batch, state=Analysis.State.QUEUED, enqueued_at__isnull=True
    ).order_by("queued_at", "id")
