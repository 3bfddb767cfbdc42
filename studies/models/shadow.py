"""What a challenger says about a slice that the champion has answered: kept apart, compared, shown to no clinician."""

import uuid
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from scipy.stats import binomtest

from studies.models.review import Diagnosis, ImageReview
from studies.models.study import Analysis

if TYPE_CHECKING:
    from ml.inference import AnalysisResult

MOST_ATTEMPTS: Final = 2


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds from bytes to result, at the median, the 95th and the 99th percentile; None without any."""

    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None

    @classmethod
    def of(cls, durations_ms: list[int]) -> "Latency":
        """Return the percentiles of some durations."""
        if not durations_ms:
            return cls(p50_ms=None, p95_ms=None, p99_ms=None)
        p50, p95, p99 = (float(value) for value in np.percentile(durations_ms, (50, 95, 99)))
        return cls(p50_ms=p50, p95_ms=p95, p99_ms=p99)


@dataclass(frozen=True, kw_only=True)
class Corrections:
    """Both versions beside what doctors say of the slice: how many slices are judged, and who was right in how many.

    Slices that their doctor calls "unsure" are not counted. ``p_value`` is that of the exact McNemar test: how likely
    so uneven a split of the slices on which one alone is right is by chance; None where there is no such slice.
    """

    judged: int
    champion_right: int
    challenger_right: int
    only_champion_right: int
    only_challenger_right: int

    @property
    def p_value(self) -> float | None:
        """The exact McNemar test's probability, 0..1."""
        uneven = self.only_champion_right + self.only_challenger_right
        return float(binomtest(self.only_champion_right, uneven).pvalue) if uneven else None


@dataclass(frozen=True, kw_only=True)
class ShadowComparison:
    """A challenger beside the champion on the slices that both have answered.

    ``same_class``: most probable class; ``same_verdict``: malignant or not, each by its own threshold;
    ``mean_difference``: of the probability of malignancy, absolute, 0..1, None without answers.
    """

    answers: int
    failed: int
    waiting: int
    same_class: int
    same_verdict: int
    mean_difference: float | None
    champion_latency: Latency
    challenger_latency: Latency
    corrections: Corrections

    @property
    def class_agreement(self) -> float | None:
        """Share of the slices with the same class, 0..1; None without answers."""
        return self.same_class / self.answers if self.answers else None

    @property
    def verdict_agreement(self) -> float | None:
        """Share of the slices with the same verdict, 0..1; None without answers."""
        return self.same_verdict / self.answers if self.answers else None

    def to_json(self) -> dict[str, Any]:
        """All figures, the derived ones included, for the API and for exports."""
        found = asdict(self)
        found["corrections"]["p_value"] = self.corrections.p_value
        return found | {"class_agreement": self.class_agreement, "verdict_agreement": self.verdict_agreement}


class ShadowAnswerQuerySet(models.QuerySet["ShadowAnswer"]):
    """Answers of challengers."""

    def of_version(self, version: str) -> "ShadowAnswerQuerySet":
        """Return those of one version."""
        return self.filter(version=version)

    def of_hospital(self, hospital_id: uuid.UUID) -> "ShadowAnswerQuerySet":
        """Return those about slices of one hospital."""
        return self.filter(analysis__image__study__patient__hospital_id=hospital_id)

    def claim(self, answer_id: uuid.UUID) -> "ShadowAnswer | None":
        """Take one waiting answer for work; of two takers one gets it, the other None."""
        is_won = self.filter(id=answer_id, state=ShadowAnswer.State.WAITING).update(
            state=ShadowAnswer.State.RUNNING, started_at=timezone.now(), attempt=models.F("attempt") + 1
        )
        return self.select_related("analysis__image").get(id=answer_id) if is_won else None

    def sweep(self, *, challenger: str | None) -> int:
        """Recover what a crash left behind, and drop what waits for a version that challenges no more.

        Returns how many rows were changed. A second crash over the same slice is a failure.
        """
        state = ShadowAnswer.State
        waiting = self.filter(state=state.WAITING)
        dropped = (waiting.exclude(version=challenger) if challenger else waiting).update(state=state.DROPPED)
        lost = self.filter(
            state=state.RUNNING, started_at__lt=timezone.now() - timedelta(seconds=settings.ANALYSIS_LEASE_S)
        )
        failed = lost.filter(attempt__gte=MOST_ATTEMPTS).update(
            state=state.FAILED, error="It was started several times and never finished.", answered_at=timezone.now()
        )
        return dropped + failed + lost.update(state=state.WAITING, started_at=None)

    def compare(self) -> ShadowComparison:
        """Return these answers, which should be of one version, beside those of the champion."""
        state = ShadowAnswer.State
        counts = dict(self.order_by().values_list("state").annotate(number=models.Count("id")))
        pairs = list(
            self.filter(state=state.ANSWERED).values_list(
                "analysis__image_id",
                "top_class",
                "malignant_probability",
                "malignant_threshold",
                "duration_ms",
                "analysis__probabilities",
                "analysis__malignant_probability",
                "analysis__thresholds",
                "analysis__duration_ms",
            )
        )
        both = [_Pair(*pair) for pair in pairs]
        return ShadowComparison(
            answers=len(both),
            failed=counts.get(state.FAILED, 0),
            waiting=counts.get(state.WAITING, 0) + counts.get(state.RUNNING, 0),
            same_class=sum(pair.top_class == pair.champion_class for pair in both),
            same_verdict=sum(pair.is_malignant == pair.champion_is_malignant for pair in both),
            mean_difference=float(np.mean([abs(pair.malignant - pair.champion_malignant) for pair in both]))
            if both
            else None,
            champion_latency=Latency.of([pair.champion_ms for pair in both]),
            challenger_latency=Latency.of([pair.duration_ms for pair in both]),
            corrections=_corrections(both),
        )


@dataclass(frozen=True)
class _Pair:
    """One slice, answered by both; in the order in which ``compare`` reads the columns."""

    image_id: uuid.UUID
    top_class: str
    malignant: float
    threshold: float
    duration_ms: int
    champion_probabilities: dict[str, float]
    champion_malignant: float
    champion_thresholds: dict[str, float]
    champion_ms: int

    @property
    def champion_class(self) -> str:
        return max(self.champion_probabilities, key=self.champion_probabilities.__getitem__)

    @property
    def is_malignant(self) -> bool:
        return self.malignant >= self.threshold

    @property
    def champion_is_malignant(self) -> bool:
        return self.champion_malignant >= self.champion_thresholds["malignant"]


def _corrections(pairs: list[_Pair]) -> Corrections:
    judged = ImageReview.objects.latest_per_image().exclude(diagnosis=Diagnosis.UNSURE)
    images = {pair.image_id for pair in pairs}
    truth = {
        image_id: diagnosis
        for image_id, diagnosis in judged.values_list("image_id", "diagnosis").iterator(chunk_size=2000)
        if image_id in images
    }
    rights = [
        (pair.champion_class == truth[pair.image_id], pair.top_class == truth[pair.image_id])
        for pair in pairs
        if pair.image_id in truth
    ]
    return Corrections(
        judged=len(rights),
        champion_right=sum(champion for champion, _challenger in rights),
        challenger_right=sum(challenger for _champion, challenger in rights),
        only_champion_right=rights.count((True, False)),
        only_challenger_right=rights.count((False, True)),
    )


class ShadowAnswer(models.Model):
    """What a challenger said about the slice of one analysis that has succeeded.

    ::

        WAITING ──claim()──▶ RUNNING ──answer()──▶ ANSWERED
          │ ▲                  │ └─────fail()────▶ FAILED
          │ └──────sweep()─────┘
          └──its challenge has ended──▶ DROPPED
    """

    class State(models.TextChoices):
        """Where it stands."""

        WAITING = "waiting", _("waiting")
        RUNNING = "running", _("analysing")
        ANSWERED = "answered", _("answered")
        FAILED = "failed", _("failed")
        DROPPED = "dropped", _("dropped")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    analysis = models.ForeignKey(Analysis, on_delete=models.PROTECT, related_name="shadow_answers", editable=False)
    version = models.CharField(_("model version"), max_length=60, editable=False)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.WAITING, editable=False)
    attempt = models.PositiveSmallIntegerField(default=0, editable=False)
    asked_at = models.DateTimeField(default=timezone.now, editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    answered_at = models.DateTimeField(null=True, editable=False)
    probabilities = models.JSONField(default=dict, editable=False)
    top_class = models.CharField(_("most probable class"), max_length=60, blank=True, editable=False)
    malignant_probability = models.FloatField(_("probability of malignancy"), null=True, editable=False)
    malignant_threshold = models.FloatField(null=True, editable=False)
    # Of each finding: box (x, y, width, height), area in pixels, probability of malignancy.
    findings = models.JSONField(default=list, editable=False)
    duration_ms = models.PositiveIntegerField(_("duration in milliseconds"), null=True, editable=False)
    error = models.TextField(blank=True, editable=False)

    objects = ShadowAnswerQuerySet.as_manager()

    class Meta:
        verbose_name = _("answer in shadow")
        verbose_name_plural = _("answers in shadow")
        ordering = ["asked_at", "id"]
        indexes = [
            models.Index(fields=["state", "asked_at"], name="shadow_answer_by_state"),
            models.Index(fields=["version", "state"], name="shadow_answer_by_version"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["analysis", "version"], name="a_challenger_answers_an_analysis_once"),
            models.CheckConstraint(
                condition=~models.Q(state="answered")
                | (
                    models.Q(malignant_probability__gte=0, malignant_probability__lte=1)
                    & models.Q(malignant_probability__isnull=False, malignant_threshold__isnull=False)
                    & models.Q(duration_ms__isnull=False)
                    & ~models.Q(top_class="")
                ),
                name="an_answer_in_shadow_is_whole",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="failed") | ~models.Q(error=""), name="a_failed_answer_in_shadow_says_why"
            ),
        ]

    def __str__(self) -> str:
        return f"answer in shadow {self.id}"

    def answer(self, result: "AnalysisResult") -> bool:
        """Record what the challenger says; return False where this attempt was given up meanwhile."""
        return self._leave_running(
            state=self.State.ANSWERED,
            probabilities=dict(result.probabilities),
            top_class=result.top_class,
            malignant_probability=min(1.0, max(0.0, result.malignant_probability)),
            malignant_threshold=result.thresholds.malignant,
            findings=[
                {"box": list(finding.box), "area_px": finding.area_px, "malignancy": round(finding.malignancy, 6)}
                for finding in result.findings
            ],
            duration_ms=result.duration_ms,
        )

    def fail(self, sentence: str) -> bool:
        """Record why there is no answer; return False where this attempt was given up meanwhile."""
        return self._leave_running(state=self.State.FAILED, error=sentence)

    def drop(self) -> bool:
        """Record that its challenge has ended; return False where this attempt was given up meanwhile."""
        return self._leave_running(state=self.State.DROPPED)

    def _leave_running(self, **values: Any) -> bool:
        is_ours = ShadowAnswer.objects.filter(id=self.id, state=self.State.RUNNING, attempt=self.attempt).update(
            answered_at=timezone.now(), **values
        )
        self.refresh_from_db()
        return bool(is_ours)
