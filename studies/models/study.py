"""Examinations, the slices in them, and what the model said about each slice."""

import uuid
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.files.base import ContentFile
from django.db import models, transaction
from django.db.models.fields.files import FieldFile
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop
from django_q.tasks import async_task

from accounts.models import Hospital, User
from studies.errors import InvalidTransitionError
from studies.models.finding import Finding
from studies.models.grant import StudyUserObjectPermission
from studies.models.inference_record import InferenceRecord
from studies.models.patient import Patient
from studies.models.read_mark import StudyRead
from studies.models.sweep import SweepResult
from studies.models.triage import SliceAnswer, Triage, TriagedModel
from studies.storage import analysis_path, image_path, may_be_committed

if TYPE_CHECKING:
    from ml.inference import AnalysisResult
    from studies.models.effective import EffectiveFinding


class StudyQuerySet(models.QuerySet["Study"]):
    """Studies, restricted to what somebody may see."""

    def visible_to(self, user: Any) -> "StudyQuerySet":
        """Return the studies of the doctor's own hospital that the doctor holds a grant on; nothing for anyone else."""
        return self._granted(user, codename="view_study")

    def changeable_by(self, user: Any) -> "StudyQuerySet":
        """Return the visible studies that the doctor may also work on: add slices, analyse again, share, report."""
        return self.visible_to(user)._granted(user, codename="change_study")

    def uploaded_by(self, user: Any) -> "StudyQuerySet":
        """Return what this patient uploaded themselves, also after a doctor has taken it over; nothing for others."""
        if not getattr(user, "is_patient", False):
            return self.none()
        return self.filter(created_by=user, patient__user=user)

    def _granted(self, user: Any, *, codename: str) -> "StudyQuerySet":
        if not getattr(user, "is_approved_doctor", False):
            return self.none()
        return self.filter(
            StudyUserObjectPermission.is_held_by(user, codename=codename),
            patient__hospital_id=user.hospital_id,
        )

    def with_slice_count(self) -> "StudyQuerySet":
        """Annotate ``slice_count``, counted for the rows that are shown only."""
        count = (
            Image.objects.filter(study=models.OuterRef("pk")).order_by().values("study").annotate(n=models.Count("*"))
        )
        return self.annotate(slice_count=Coalesce(models.Subquery(count.values("n")), 0))

    def with_unread(self, user: Any) -> "StudyQuerySet":
        """Annotate ``is_unread``: whether there is an answer that this doctor has not opened since it came."""
        opened = StudyRead.objects.filter(
            doctor=user, study=models.OuterRef("pk"), read_at__gte=models.OuterRef("answered_at")
        )
        return self.annotate(
            is_unread=models.ExpressionWrapper(
                models.Q(answered_at__isnull=False) & ~models.Exists(opened), output_field=models.BooleanField()
            )
        )

    def with_revealed_to(self, user: User) -> "StudyQuerySet":
        """Annotate ``is_revealed``: what ``Study.reveals_ai_to`` says of each study."""
        from studies.models.review import FirstImpression

        noted = FirstImpression.objects.filter(study=models.OuterRef("pk"), doctor=user)
        answers_at_once = Hospital.objects.filter(reads_first=False)
        return self.annotate(
            is_revealed=models.Case(
                # A list, not a join: a record may have no hospital, and an outer join hides the order of the index.
                models.When(patient__hospital_id__in=answers_at_once.values("pk"), then=True),
                default=models.Exists(noted),
                output_field=models.BooleanField(),
            )
        )


class Study(TriagedModel):
    """One examination of one patient: one or more slices, in order, and the question that was asked of them.

    ``state`` is what the newest analyses of its slices come to, most urgent first: one slice that is being analysed
    makes the study "analysing"; else one that waits, one that failed, one that was cancelled; "done" is a study of
    which every slice is done. Empty for a study without an analysis.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    patient = models.ForeignKey(Patient, on_delete=models.PROTECT, related_name="studies")
    accession_number = models.CharField(_("accession number"), max_length=40, blank=True)
    study_date = models.DateField(_("study date"))
    clinical_question = models.TextField(_("clinical question"), blank=True, max_length=2000)
    is_synthetic = models.BooleanField(_("synthetic"), default=False)
    # A hash of the examination's identifier in DICOM files: slices that come later find their study by it.
    source_key = models.CharField(max_length=64, blank=True, editable=False, db_index=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    # Annotated by with_slice_count(), with_unread() and with_revealed_to().
    slice_count: int
    is_unread: bool
    is_revealed: bool

    objects = StudyQuerySet.as_manager()

    class Meta(TriagedModel.Meta):
        verbose_name = _("study")
        verbose_name_plural = _("studies")
        ordering = ["-created_at", "id"]

    def __str__(self) -> str:
        return f"CT {self.study_date:%Y-%m-%d}"

    def can_be_changed_by(self, user: Any) -> bool:
        """Whether this person may add slices, analyse again, share and report."""
        return Study.objects.changeable_by(user).filter(id=self.id).exists()

    def reveals_ai_to(self, user: Any) -> bool:
        """Whether this person may see what the software said about the study: the one rule that every page asks.

        Where the hospital reads first, only somebody who has noted a first impression; elsewhere whoever may see the
        study, which this does not check. What a patient uploaded and nobody has taken over is no doctor's to read.
        """
        hospital = self.patient.hospital
        if hospital is not None and not hospital.reads_first:
            return True
        return bool(user.is_authenticated) and self.first_impressions.filter(doctor=user).exists()

    @property
    def is_own(self) -> bool:
        """Whether it is a patient's own upload that no hospital has."""
        return self.patient.hospital_id is None

    @property
    def triage_class_label(self) -> Any:
        """The class of the most suspicious slice as people read it, empty before there is an answer."""
        return CLASS_LABELS.get(self.triage_class, self.triage_class)

    def mark_read(self, *, by: Any) -> None:
        """Note that this doctor has opened the study, so that its answers no longer count as unread.

        Of a study whose answer is still hidden from the doctor nothing is noted: it has not been seen.
        """
        if self.reveals_ai_to(by):
            StudyRead.objects.mark([self.id], by=by)

    def refresh_triage(self) -> None:
        """Write anew what the analyses of the slices come to; call it in the transaction of the transition.

        The row's lock comes first and in a statement of its own: of two workers that finish two slices at once, the
        second one then reads what the first has written.
        """
        Study.objects.select_for_update(no_key=True).only("id").get(id=self.id)
        # The plugin for types does not follow the annotation through a related manager.
        states = set(self.images.with_state().values_list("state", flat=True))  # type: ignore[misc]
        triage = Triage.of(Analysis.objects.newest_answers(self))
        Study.objects.filter(id=self.id).update(
            state=next((state for state in Analysis.MOST_URGENT_FIRST if state in states), ""),
            triage_malignancy=triage.malignancy,
            triage_class=triage.top_class,
            answered_at=triage.answered_at,
        )

    def people_with_access(self) -> "models.QuerySet[User]":
        """Return the people who hold a grant on this study, with ``can_change`` annotated, by name."""
        grants = StudyUserObjectPermission.counting().filter(content_object=self, user=models.OuterRef("pk"))
        return User.objects.filter(
            models.Exists(grants.filter(permission__codename="view_study")), is_active=True
        ).annotate(can_change=models.Exists(grants.filter(permission__codename="change_study")))


class ImageQuerySet(models.QuerySet["Image"]):
    """Slices, restricted to what somebody may see."""

    def visible_to(self, user: Any) -> "ImageQuerySet":
        """Return the slices of the studies that this person may see."""
        return self.filter(study__in=Study.objects.visible_to(user))

    def with_state(self) -> "ImageQuerySet":
        """Annotate ``state`` and ``newest_analysis_id`` of each slice's newest analysis."""
        newest = Analysis.objects.filter(image=models.OuterRef("pk")).order_by("-queued_at", "-id")
        return self.annotate(
            state=models.Subquery(newest.values("state")[:1]),
            newest_analysis_id=models.Subquery(newest.values("id")[:1]),
        )


class Image(models.Model):
    """One axial slice, decoded and re-encoded as grey PNG without metadata, stored under a random name."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="images")
    number = models.PositiveIntegerField(_("slice number"), default=1)
    file = models.FileField(upload_to=image_path, max_length=100)
    sha256 = models.CharField(max_length=64)
    byte_size = models.PositiveBigIntegerField()
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    source_format = models.CharField(max_length=10)
    original_name = models.CharField(_("file name"), max_length=255, blank=True)
    row_spacing_mm = models.FloatField(null=True, blank=True)
    column_spacing_mm = models.FloatField(null=True, blank=True)
    # The Hounsfield units that became grey 0 and grey 255; unknown where the file did not tell Hounsfield units.
    black_hu = models.FloatField(null=True, blank=True, editable=False)
    white_hu = models.FloatField(null=True, blank=True, editable=False)
    uploaded_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    # Annotated by with_state().
    state: str
    newest_analysis_id: uuid.UUID

    objects = ImageQuerySet.as_manager()

    class Meta:
        verbose_name = _("slice")
        verbose_name_plural = _("slices")
        ordering = ["study", "number"]
        # Bulk imports look for the same picture at the whole hospital.
        indexes = [models.Index(fields=["sha256"], name="image_by_sha256")]
        constraints = [
            models.UniqueConstraint(fields=["study", "number"], name="a_slice_number_stands_once_in_a_study"),
            models.UniqueConstraint(fields=["study", "sha256"], name="a_picture_stands_once_in_a_study"),
            models.CheckConstraint(condition=models.Q(number__gte=1), name="slices_are_numbered_from_one"),
            models.CheckConstraint(
                condition=models.Q(row_spacing_mm__isnull=True, column_spacing_mm__isnull=True)
                # A comparison with NULL is unknown, and a check lets the unknown pass: so NULL is refused by name.
                | models.Q(
                    row_spacing_mm__isnull=False,
                    column_spacing_mm__isnull=False,
                    row_spacing_mm__gt=0,
                    column_spacing_mm__gt=0,
                ),
                name="pixel_spacing_is_known_in_both_directions_or_not_at_all",
            ),
            models.CheckConstraint(
                condition=models.Q(black_hu__isnull=True, white_hu__isnull=True)
                | models.Q(black_hu__isnull=False, white_hu__isnull=False, white_hu__gt=models.F("black_hu")),
                name="hounsfield_units_are_known_for_black_and_white_or_not_at_all",
            ),
        ]

    def __str__(self) -> str:
        return f"slice {self.number}"

    @property
    def pixel_spacing_mm(self) -> tuple[float, float] | None:
        """Row and column spacing in millimetres, or None where the file did not say."""
        if self.row_spacing_mm is None or self.column_spacing_mm is None:
            return None
        return self.row_spacing_mm, self.column_spacing_mm

    @property
    def latest_analysis(self) -> "Analysis | None":
        """The newest analysis of this slice, in whatever state."""
        return self.analyses.order_by("-queued_at", "-id").first()

    @property
    def latest_success(self) -> "Analysis | None":
        """The newest analysis of this slice that has an answer, or None."""
        return self.analyses.filter(state=Analysis.State.SUCCEEDED).order_by("-queued_at", "-id").first()

    def effective_findings(self) -> "tuple[EffectiveFinding, ...]":
        """The findings that count: the newest answer's with the doctors' corrections, and what doctors added.

        What a doctor rejected is left out. For many slices at once: ``studies.models.effective.judged_findings``.
        """
        from studies.models.effective import judged_findings

        return tuple(finding for finding in judged_findings([self])[self.id] if not finding.is_rejected)


# How people read the names of the model's classes.
CLASS_LABELS = {
    "adenocarcinoma": _("Adenocarcinoma"),
    "large_cell_carcinoma": _("Large cell carcinoma"),
    "normal": _("Normal"),
    "squamous_cell_carcinoma": _("Squamous cell carcinoma"),
}


@dataclass(frozen=True, kw_only=True)
class ClassProbability:
    """One class of an answer, as a page shows it; ``probability`` lies in [0, 1]."""

    name: str
    label: Any
    probability: float
    is_top: bool


# States of an import whose analyses are still held back (studies.models.bulk.Import, which imports this module).
ACTIVE_IMPORTS = ("reading", "sorting", "storing", "analysing")
# Between the commit of an analysis and its message lies a moment in which it is not lost.
ENQUEUE_GRACE = timedelta(seconds=5)


class AnalysisQuerySet(models.QuerySet["Analysis"]):
    """Analyses: what may be seen, what may be claimed, what got stuck."""

    def visible_to(self, user: Any) -> "AnalysisQuerySet":
        """Return the analyses of the slices that this person may see."""
        return self.filter(image__in=Image.objects.visible_to(user))

    def active(self) -> "AnalysisQuerySet":
        """Return those that are waiting or being worked on."""
        return self.filter(state__in=Analysis.ACTIVE)

    def newest_answers(self, study: Study) -> list[SliceAnswer]:
        """Return the newest answer about each slice of a study that has one."""
        answers: dict[uuid.UUID, SliceAnswer] = {}
        found = self.filter(image__study=study, state=Analysis.State.SUCCEEDED).order_by("-queued_at", "-id")
        for analysis in found.only("image", "malignant_probability", "probabilities", "finished_at"):
            assert analysis.malignant_probability is not None and analysis.finished_at is not None  # noqa: S101, PT018
            answer = SliceAnswer(
                malignant_probability=analysis.malignant_probability,
                top_class=analysis.top_class or "",
                finished_at=analysis.finished_at,
            )
            answers.setdefault(analysis.image_id, answer)
        return list(answers.values())

    def claim(self, analysis_id: uuid.UUID) -> "Analysis | None":
        """Take one queued analysis for work. One conditional UPDATE, so of two workers only one gets it.

        Returns the running analysis, or None if somebody else has it or it is not queued any more.
        """
        now = timezone.now()
        with transaction.atomic():
            is_won = self.filter(id=analysis_id, state=Analysis.State.QUEUED).update(
                state=Analysis.State.RUNNING,
                error="",
                started_at=now,
                lease_expires_at=now + timedelta(seconds=settings.ANALYSIS_LEASE_S),
            )
            if not is_won:
                return None
            # Nothing is more urgent than a running analysis, so there is nothing to work out.
            Study.objects.filter(images__analyses=analysis_id).update(state=Analysis.State.RUNNING)
            return self.select_related("image__study").get(id=analysis_id)

    def sweep(self) -> "SweepResult":
        """Recover what a crash, a time-out or a lost message left behind. Safe to run at any time, any number of times.

        RUNNING whose lease has ended goes back to QUEUED with the next attempt number, or to FAILED after the last
        one. The returned identifiers of QUEUED analyses are to be enqueued again by the caller: those that never got
        a message to the worker, and those whose message is older than ``ANALYSIS_REQUEUE_AFTER_S``. A message too
        many does no harm, because ``claim`` gives the work to one taker only.
        """
        now = timezone.now()
        failed = requeued = 0
        given_up: list[uuid.UUID] = []
        for analysis in self.filter(state=Analysis.State.RUNNING, lease_expires_at__lt=now):
            is_last = analysis.attempt >= settings.ANALYSIS_MAX_ATTEMPTS
            changes: dict[str, Any] = (
                {"state": Analysis.State.FAILED, "finished_at": now, "error": Analysis.GAVE_UP}
                if is_last
                else {
                    "state": Analysis.State.QUEUED,
                    "attempt": analysis.attempt + 1,
                    "started_at": None,
                    "enqueued_at": None,
                }
            )
            with transaction.atomic():
                is_swept = self.filter(
                    id=analysis.id, state=Analysis.State.RUNNING, attempt=analysis.attempt, lease_expires_at__lt=now
                ).update(lease_expires_at=None, **changes)
                if is_swept:
                    analysis.study.refresh_triage()
            given_up += [analysis.id] if is_swept and is_last else []
            failed += is_swept * is_last
            requeued += is_swept * (not is_last)
        stale_at = now - timedelta(seconds=settings.ANALYSIS_REQUEUE_AFTER_S)
        # What a running import holds back is not lost: it puts its analyses into the queue a few at a time.
        is_held_back = models.Q(enqueued_at__isnull=True, image__import_files__batch__state__in=ACTIVE_IMPORTS)
        lost = (
            self.filter(state=Analysis.State.QUEUED)
            .exclude(is_held_back)
            .filter(
                models.Q(enqueued_at__isnull=True, queued_at__lt=now - ENQUEUE_GRACE)
                | models.Q(enqueued_at__lt=stale_at)
            )
        )
        to_enqueue = tuple(lost.order_by("queued_at", "id").values_list("id", flat=True))
        return SweepResult(failed=failed, requeued=requeued, to_enqueue=to_enqueue, given_up=tuple(given_up))


class Analysis(models.Model):
    """What one model version said about one slice.

    ::

        QUEUED ──claim()──▶ RUNNING ──succeed()──▶ SUCCEEDED
          │ ▲                  │  └────fail()────▶ FAILED
          │ ├──sweep(), next───┤        ▲
          │ │  attempt         │        │ sweep() after the last attempt
          │ └──hand_back()─────┘
          └──cancel()──▶ CANCELLED

    The sweeper moves RUNNING back to QUEUED and counts the attempt up; a worker that has to stop hands its own back and
    counts nothing, because nothing failed. ``succeed`` and ``fail`` ask for the attempt they were started with, so a
    worker that comes back from the dead cannot overwrite. A retry is the same row; "run again" by a person is a new
    row.
    """

    class State(models.TextChoices):
        """Where the analysis stands."""

        QUEUED = "queued", _("queued")
        RUNNING = "running", _("analysing")
        SUCCEEDED = "succeeded", _("done")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    MOST_URGENT_FIRST = (State.RUNNING, State.QUEUED, State.FAILED, State.CANCELLED, State.SUCCEEDED)
    ACTIVE = (State.QUEUED, State.RUNNING)
    TASK = "studies.tasks.analyse_image"
    GAVE_UP = gettext_noop(
        "The analysis was started several times and never finished. Please try again; if it fails again, tell your "
        "administrator."
    )

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    image = models.ForeignKey(Image, on_delete=models.PROTECT, related_name="analyses")
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED, editable=False)
    attempt = models.PositiveSmallIntegerField(default=1, editable=False)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    queued_at = models.DateTimeField(default=timezone.now, editable=False)
    enqueued_at = models.DateTimeField(null=True, editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    lease_expires_at = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)
    error = models.TextField(_("what went wrong"), blank=True, editable=False)

    model_version = models.CharField(max_length=60, blank=True, editable=False)
    probabilities = models.JSONField(default=dict, blank=True, editable=False)
    malignant_probability = models.FloatField(null=True, editable=False)
    malignant_basis = models.TextField(blank=True, editable=False)
    thresholds = models.JSONField(default=dict, blank=True, editable=False)
    step_ms = models.JSONField(default=dict, blank=True, editable=False)
    duration_ms = models.PositiveIntegerField(null=True, editable=False)
    mask = models.FileField(upload_to=analysis_path, max_length=100, blank=True, editable=False)
    overlay = models.FileField(upload_to=analysis_path, max_length=100, blank=True, editable=False)
    activation = models.FileField(upload_to=analysis_path, max_length=100, blank=True, editable=False)

    objects = AnalysisQuerySet.as_manager()

    class Meta:
        verbose_name = _("analysis")
        verbose_name_plural = _("analyses")
        ordering = ["-queued_at", "-id"]
        indexes = [models.Index(fields=["state", "lease_expires_at"], name="analysis_by_state_and_lease")]
        constraints = [
            models.UniqueConstraint(
                fields=["image"],
                condition=models.Q(state__in=["queued", "running"]),
                name="a_slice_has_one_active_analysis",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="succeeded")
                | (models.Q(malignant_probability__isnull=False) & ~models.Q(model_version="")),
                name="a_succeeded_analysis_names_model_and_answer",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="failed") | ~models.Q(error=""), name="a_failed_analysis_says_why"
            ),
            models.CheckConstraint(
                condition=~models.Q(state="running") | models.Q(lease_expires_at__isnull=False),
                name="a_running_analysis_has_a_lease",
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=["queued", "running"], finished_at__isnull=True)
                | models.Q(state__in=["succeeded", "failed", "cancelled"], finished_at__isnull=False),
                name="an_analysis_is_finished_or_active_in_a_known_state",
            ),
            models.CheckConstraint(
                condition=models.Q(malignant_probability__isnull=True)
                | models.Q(malignant_probability__gte=0, malignant_probability__lte=1),
                name="malignant_probability_is_a_probability",
            ),
            models.CheckConstraint(condition=models.Q(attempt__gte=1), name="attempts_are_counted_from_one"),
        ]

    def __str__(self) -> str:
        return f"analysis {self.id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store the row; a new one makes its study wait, unless it is being worked on already."""
        is_new = self._state.adding
        with transaction.atomic():
            super().save(*args, **kwargs)
            if is_new:
                calmer = Study.objects.filter(images=self.image_id).exclude(state__in=self.ACTIVE)
                calmer.update(state=self.State.QUEUED)

    @property
    def is_active(self) -> bool:
        """Whether it is waiting or being worked on; a page keeps asking only while this holds."""
        return self.state in self.ACTIVE

    @property
    def has_answer(self) -> bool:
        """Whether the model's answer is stored."""
        return self.state == self.State.SUCCEEDED

    @property
    def can_be_cancelled(self) -> bool:
        """Whether it still waits, so that a person may take it out of the queue."""
        return self.state == self.State.QUEUED

    @property
    def can_be_retried(self) -> bool:
        """Whether a person may ask for a new run of this slice."""
        return not self.is_active

    @property
    def class_probabilities(self) -> list[ClassProbability]:
        """The answer's classes, most probable first; empty before there is an answer."""
        ordered = sorted(self.probabilities.items(), key=lambda item: (-item[1], item[0]))
        return [
            ClassProbability(name=name, label=CLASS_LABELS.get(name, name), probability=probability, is_top=rank == 0)
            for rank, (name, probability) in enumerate(ordered)
        ]

    @property
    def top_class(self) -> str | None:
        """Name of the most probable class, or None before there is an answer."""
        return max(self.probabilities, key=self.probabilities.__getitem__) if self.probabilities else None

    @property
    def study(self) -> Study:
        """The study of the analysed slice."""
        return self.image.study

    def enqueue(self) -> None:
        """Send the worker a message about this analysis and note when. Call it after the commit, never inside.

        The message goes first: should noting it fail, the sweeper sends another, which does no harm.
        """
        async_task(self.TASK, str(self.id), group="analysis")
        now = timezone.now()
        if Analysis.objects.filter(id=self.id, state=self.State.QUEUED).update(enqueued_at=now):
            self.enqueued_at = now

    def _leave_running(self, **values: Any) -> None:
        """Record the end of this attempt and what it means for the study. The caller holds the transaction."""
        is_ours = Analysis.objects.filter(id=self.id, state=self.State.RUNNING, attempt=self.attempt).update(
            finished_at=timezone.now(), lease_expires_at=None, **values
        )
        if not is_ours:
            raise InvalidTransitionError(
                f"This analysis is not running its attempt {self.attempt} any more, so the answer was thrown away."
            )
        self.study.refresh_triage()
        self.refresh_from_db()

    def succeed(self, result: "AnalysisResult", *, overlay_png: bytes, mask_png: bytes, activation_png: bytes) -> None:
        """Record the model's answer. Raises ``InvalidTransitionError`` if this attempt was given up meanwhile.

        The pictures are PNG bytes of the slice's own size. Files of a lost race are removed again.
        """
        written: dict[str, str] = {}
        try:
            for name, content in (("overlay", overlay_png), ("mask", mask_png), ("activation", activation_png)):
                file: FieldFile = getattr(self, name)
                written[name] = file.storage.save(file.field.generate_filename(self, name), ContentFile(content))
            with transaction.atomic():
                self._leave_running(
                    state=self.State.SUCCEEDED,
                    error="",
                    model_version=result.model_version,
                    probabilities=dict(result.probabilities),
                    malignant_probability=result.malignant_probability,
                    malignant_basis=result.malignant_basis,
                    thresholds=asdict(result.thresholds),
                    step_ms=dict(result.step_ms),
                    duration_ms=result.duration_ms,
                    **written,
                )
                Finding.objects.bulk_create(
                    Finding.from_result(self, number=number, finding=finding)
                    for number, finding in enumerate(result.findings, start=1)
                )
                InferenceRecord.from_result(self, result=result).save(force_insert=True)
        except BaseException as error:
            if not may_be_committed(error):
                for name, path in written.items():
                    getattr(self, name).storage.delete(path)
            raise

    def fail(self, sentence: str) -> None:
        """Record why there is no answer. Raises ``InvalidTransitionError`` if this attempt was given up meanwhile."""
        with transaction.atomic():
            self._leave_running(state=self.State.FAILED, error=sentence)

    def hand_back(self) -> None:
        """Let another worker do it, as if this one had never begun. The caller enqueues it after the commit.

        Only for the worker that has claimed it and will not record an answer any more. Raises
        ``InvalidTransitionError`` if this attempt has ended or was given up meanwhile.
        """
        with transaction.atomic():
            is_ours = Analysis.objects.filter(id=self.id, state=self.State.RUNNING, attempt=self.attempt).update(
                state=self.State.QUEUED, started_at=None, lease_expires_at=None, enqueued_at=None
            )
            if not is_ours:
                raise InvalidTransitionError(
                    f"This analysis is not running its attempt {self.attempt} any more, so it was not handed back."
                )
            self.study.refresh_triage()
        self.refresh_from_db()

    def leave_to_sweeper(self, *, after_s: float) -> bool:
        """Give this attempt up so that the sweeper starts the next one ``after_s`` seconds from now at the earliest.

        Returns False, and does nothing, where it is the last attempt or somebody has taken it over.
        """
        if self.attempt >= settings.ANALYSIS_MAX_ATTEMPTS:
            return False
        mine = Analysis.objects.filter(id=self.id, state=self.State.RUNNING, attempt=self.attempt)
        return bool(mine.update(lease_expires_at=timezone.now() + timedelta(seconds=after_s)))

    def cancel(self) -> None:
        """Take a waiting analysis out of the queue. Raises ``InvalidTransitionError`` once it has started."""
        with transaction.atomic():
            is_cancelled = Analysis.objects.filter(id=self.id, state=self.State.QUEUED).update(
                state=self.State.CANCELLED, finished_at=timezone.now()
            )
            if not is_cancelled:
                raise InvalidTransitionError(_("Only an analysis that is still waiting can be cancelled."))
            self.study.refresh_triage()
        self.refresh_from_db()
