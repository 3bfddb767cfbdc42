"""What doctors say: a first impression before the software's answer, and their judgement of what it found.

Every row is kept as written. A new judgement is a new row with the next revision; the latest one speaks, and what the
model said stays beside it untouched.
"""

import uuid
from typing import Any, Self

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from studies.errors import FirstImpressionNotedError
from studies.models.finding import Finding
from studies.models.study import CLASS_LABELS, Image, Study
from studies.storage import review_path


class Diagnosis(models.TextChoices):
    """What a doctor takes a study, a slice or a finding for: one of the model's classes, or undecided."""

    ADENOCARCINOMA = "adenocarcinoma", CLASS_LABELS["adenocarcinoma"]
    LARGE_CELL_CARCINOMA = "large_cell_carcinoma", CLASS_LABELS["large_cell_carcinoma"]
    SQUAMOUS_CELL_CARCINOMA = "squamous_cell_carcinoma", CLASS_LABELS["squamous_cell_carcinoma"]
    NORMAL = "normal", CLASS_LABELS["normal"]
    UNSURE = "unsure", _("Unsure")


class Suspicion(models.IntegerChoices):
    """How much speaks for malignancy, in the five steps that LIDC-IDRI's readers used (Armato et al. 2011)."""

    HIGHLY_UNLIKELY = 1, _("1 – highly unlikely")
    MODERATELY_UNLIKELY = 2, _("2 – moderately unlikely")
    INDETERMINATE = 3, _("3 – indeterminate")
    MODERATELY_SUSPICIOUS = 4, _("4 – moderately suspicious")
    HIGHLY_SUSPICIOUS = 5, _("5 – highly suspicious")


class KeptQuerySet(models.QuerySet[Any]):
    """Rows that are added and read, never changed in bulk."""

    def update(self, **kwargs: Any) -> int:
        """Raise ``PermissionDenied``: what was judged stays on record."""
        raise PermissionDenied("What a doctor has judged is never changed.")

    def delete(self) -> tuple[int, dict[str, int]]:
        """Raise ``PermissionDenied``: what was judged stays on record."""
        raise PermissionDenied("What a doctor has judged is never deleted.")


class Kept(models.Model):
    """A row that is stored once and stays as it is."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store a new row. Raises ``PermissionDenied`` for one that is already stored."""
        if not self._state.adding:
            raise PermissionDenied("What a doctor has judged is never changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Raise ``PermissionDenied``: what was judged stays on record."""
        raise PermissionDenied("What a doctor has judged is never deleted.")


class FirstImpressionQuerySet(KeptQuerySet):
    """First impressions."""

    def note(self, study: Study, *, doctor: Any, diagnosis: str, suspicion: int, note: str = "") -> "FirstImpression":
        """Store what the doctor thinks of the study before seeing what the software said.

        Noting the same twice keeps the first. Raises ``FirstImpressionNotedError`` where another one is stored.
        """
        try:
            with transaction.atomic():
                return self.create(study=study, doctor=doctor, diagnosis=diagnosis, suspicion=suspicion, note=note)
        except IntegrityError:
            stored = self.filter(study=study, doctor=doctor).first()
            if stored is None:
                raise
            if (stored.diagnosis, stored.suspicion, stored.note) == (diagnosis, suspicion, note):
                return stored
            raise FirstImpressionNotedError(
                gettext(
                    "You have noted a first impression of this study already. It stays as it was, so that it can be "
                    "compared with the software's answer; please say what you think now by judging the findings."
                )
            ) from None


class FirstImpression(Kept):
    """What one doctor thought of a study before the software's answer was shown to them. Never changed."""

    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="first_impressions")
    doctor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="first_impressions", verbose_name=_("doctor")
    )
    diagnosis = models.CharField(_("diagnosis"), max_length=30, choices=Diagnosis)
    suspicion = models.PositiveSmallIntegerField(_("suspicion of malignancy"), choices=Suspicion)
    note = models.TextField(_("note"), blank=True, max_length=2000)
    noted_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = FirstImpressionQuerySet.as_manager()

    class Meta:
        verbose_name = _("first impression")
        verbose_name_plural = _("first impressions")
        ordering = ["noted_at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["study", "doctor"], name="a_doctor_has_one_first_impression_of_a_study"),
            models.CheckConstraint(
                condition=models.Q(diagnosis__in=Diagnosis.values), name="a_first_impression_names_a_known_diagnosis"
            ),
            models.CheckConstraint(
                condition=models.Q(suspicion__in=Suspicion.values), name="suspicion_lies_between_one_and_five"
            ),
        ]

    def __str__(self) -> str:
        return f"first impression {self.id}"


class ImageReviewQuerySet(KeptQuerySet):
    """Judgements of slices."""

    def latest_per_image(self) -> Self:
        """Return the judgement of each slice that speaks: the latest one."""
        newer = ImageReview.objects.filter(image=models.OuterRef("image"), revision__gt=models.OuterRef("revision"))
        return self.filter(~models.Exists(newer))


class ImageReview(Kept):
    """A doctor's class of one slice, beside the model's. The latest revision speaks."""

    image = models.ForeignKey(Image, on_delete=models.PROTECT, related_name="reviews")
    revision = models.PositiveIntegerField(editable=False)
    diagnosis = models.CharField(_("diagnosis"), max_length=30, choices=Diagnosis)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ImageReviewQuerySet.as_manager()

    class Meta:
        verbose_name = _("judgement of a slice")
        verbose_name_plural = _("judgements of slices")
        ordering = ["image", "revision"]
        constraints = [
            models.UniqueConstraint(fields=["image", "revision"], name="a_slice_has_one_judgement_of_each_revision"),
            models.CheckConstraint(condition=models.Q(revision__gte=1), name="judgements_of_slices_count_from_one"),
            models.CheckConstraint(
                condition=models.Q(diagnosis__in=Diagnosis.values), name="a_judged_slice_has_a_known_diagnosis"
            ),
        ]

    def __str__(self) -> str:
        return f"judgement {self.id}"


class FindingReviewQuerySet(KeptQuerySet):
    """Judgements of findings: the model's, and those that doctors added."""

    def latest_per_finding(self) -> Self:
        """Return the judgement of each finding that speaks: the latest one. This is what retraining uses.

        A row holds the slice (``image``), the model's finding (None where a doctor added one), the verdict, and where
        the doctor gave them diagnosis, malignancy, outline (PNG of the slice's size, 0 or 255) and sizes.
        """
        newer = FindingReview.objects.filter(
            lesion_id=models.OuterRef("lesion_id"), revision__gt=models.OuterRef("revision")
        )
        return self.filter(~models.Exists(newer))


def _between(name: str, *, below: float) -> models.Q:
    # NaN is larger than every number for PostgreSQL and nothing for SQLite: an upper bound keeps it out of both.
    return models.Q(**{f"{name}__isnull": True}) | models.Q(**{f"{name}__gt": 0, f"{name}__lt": below})


class FindingReview(Kept):
    """A doctor's judgement of one finding, beside the model's answer and never over it.

    ``lesion_id`` says what is judged: the model's finding, or one that a doctor added, whose first row ("added") gives
    it its identity. Its rows are numbered by ``revision``, and the latest one speaks::

        (the model's) ──▶ accepted ⇄ rejected ⇄ corrected
        (nothing)     ──▶ added    ⇄ rejected ⇄ corrected

    Sizes come from the outline, or are the diameter that the doctor typed; empty where the model's sizes stand.
    """

    class Verdict(models.TextChoices):
        """What the doctor says of the finding."""

        ACCEPTED = "accepted", _("accepted")
        REJECTED = "rejected", _("rejected")
        CORRECTED = "corrected", _("corrected")
        ADDED = "added", _("added")

    lesion_id = models.UUIDField(editable=False)
    revision = models.PositiveIntegerField(editable=False)
    image = models.ForeignKey(Image, on_delete=models.PROTECT, related_name="finding_reviews")
    finding = models.ForeignKey(Finding, on_delete=models.PROTECT, null=True, related_name="reviews")
    verdict = models.CharField(_("verdict"), max_length=10, choices=Verdict)
    diagnosis = models.CharField(_("diagnosis"), max_length=30, choices=Diagnosis, blank=True)
    malignancy = models.PositiveSmallIntegerField(_("malignancy"), choices=Suspicion, null=True, blank=True)
    note = models.TextField(_("note"), blank=True, max_length=2000)
    outline = models.FileField(upload_to=review_path, max_length=100, blank=True, editable=False)
    outline_sha256 = models.CharField(max_length=64, blank=True, editable=False)
    box_x = models.PositiveIntegerField(null=True, editable=False)
    box_y = models.PositiveIntegerField(null=True, editable=False)
    box_width = models.PositiveIntegerField(null=True, editable=False)
    box_height = models.PositiveIntegerField(null=True, editable=False)
    area_px = models.PositiveIntegerField(null=True, editable=False)
    area_mm2 = models.FloatField(null=True, editable=False)
    long_axis_px = models.FloatField(null=True, editable=False)
    short_axis_px = models.FloatField(null=True, editable=False)
    long_axis_mm = models.FloatField(null=True, editable=False)
    short_axis_mm = models.FloatField(null=True, editable=False)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(default=timezone.now, editable=False)

    objects = FindingReviewQuerySet.as_manager()

    class Meta:
        verbose_name = _("judgement of a finding")
        verbose_name_plural = _("judgements of findings")
        ordering = ["image", "lesion_id", "revision"]
        constraints = [
            models.UniqueConstraint(
                fields=["lesion_id", "revision"], name="a_finding_has_one_judgement_of_each_revision"
            ),
            models.CheckConstraint(condition=models.Q(revision__gte=1), name="judgements_of_findings_count_from_one"),
            models.CheckConstraint(
                condition=models.Q(finding__isnull=True) | models.Q(lesion_id=models.F("finding_id")),
                name="a_judgement_of_the_models_finding_is_filed_under_it",
            ),
            models.CheckConstraint(
                condition=models.Q(verdict__in=["accepted", "rejected", "corrected", "added"]),
                name="a_judgement_has_a_known_verdict",
            ),
            models.CheckConstraint(
                condition=models.Q(verdict="added", finding__isnull=True, revision=1)
                | (
                    ~models.Q(verdict="added")
                    & (
                        models.Q(finding__isnull=False)
                        | models.Q(revision__gt=1, verdict__in=["rejected", "corrected"])
                    )
                ),
                name="what_a_doctor_adds_begins_as_added_and_nothing_else_does",
            ),
            models.CheckConstraint(
                condition=models.Q(diagnosis__in=["", *Diagnosis.values]), name="a_judged_finding_has_a_known_diagnosis"
            ),
            models.CheckConstraint(
                condition=models.Q(malignancy__isnull=True) | models.Q(malignancy__in=Suspicion.values),
                name="judged_malignancy_lies_between_one_and_five",
            ),
            models.CheckConstraint(
                condition=models.Q(verdict__in=["corrected", "added"])
                | models.Q(outline="", long_axis_px__isnull=True, area_px__isnull=True),
                name="only_a_correction_or_an_addition_has_sizes",
            ),
            models.CheckConstraint(
                condition=~models.Q(verdict="corrected")
                | ~models.Q(diagnosis="")
                | models.Q(malignancy__isnull=False)
                | models.Q(long_axis_px__isnull=False),
                name="a_correction_corrects_something",
            ),
            models.CheckConstraint(
                condition=~models.Q(verdict="added") | models.Q(long_axis_px__isnull=False),
                name="an_added_finding_has_an_outline_or_a_diameter",
            ),
            models.CheckConstraint(
                condition=models.Q(outline="", outline_sha256="", area_px__isnull=True, box_x__isnull=True)
                | (
                    ~models.Q(outline="")
                    & ~models.Q(outline_sha256="")
                    & models.Q(
                        area_px__isnull=False,
                        area_px__gt=0,
                        long_axis_px__isnull=False,
                        box_x__isnull=False,
                        box_y__isnull=False,
                        box_width__isnull=False,
                        box_height__isnull=False,
                    )
                ),
                name="an_outline_is_measured_and_an_area_has_an_outline",
            ),
            models.CheckConstraint(
                condition=_between("long_axis_px", below=100_000)
                & _between("short_axis_px", below=100_000)
                & _between("long_axis_mm", below=100_000)
                & _between("short_axis_mm", below=100_000)
                & _between("area_mm2", below=1e9),
                name="judged_sizes_are_positive_numbers",
            ),
        ]

    def __str__(self) -> str:
        return f"judgement {self.id}"

    @property
    def is_rejected(self) -> bool:
        """Whether the doctor says that this is no finding."""
        return self.verdict == self.Verdict.REJECTED

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """The outline's box (x, y, width, height in pixels of the slice), or None without an outline."""
        if self.box_x is None or self.box_y is None or self.box_width is None or self.box_height is None:
            return None
        return self.box_x, self.box_y, self.box_width, self.box_height
