"""What an answer was made from and how long it took, in figures: what the model is watched by."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from numpy.typing import NDArray

from ml.input_statistics import SOURCE_KINDS, InputStatistics

if TYPE_CHECKING:
    from ml.inference import AnalysisResult
    from studies.models.study import Analysis

EMBEDDING_TYPE = np.dtype("<f4")


class InferenceRecord(models.Model):
    """The figures of one answer, written in the transaction of ``Analysis.succeed`` and never changed.

    Neither names nor pixels stand in it. Whose picture it was is told by its analysis alone, and it goes with that:
    by retention, by erasure, with everything that depends on a slice. ``confidence`` is the probability of
    ``top_class``; ``embedding`` packs little-endian float32 (see ``embedding_vector``); ``input_stats`` is
    ``ml.input_statistics.InputStatistics`` as JSON, its source kind that of the file which was uploaded.
    ``queue_wait_ms`` runs from the request to the start of the attempt that answered.
    """

    id = models.BigAutoField(primary_key=True)
    analysis = models.OneToOneField(
        "studies.Analysis", on_delete=models.PROTECT, related_name="inference_record", editable=False
    )
    model_version = models.CharField(_("model version"), max_length=60, editable=False)
    top_class = models.CharField(_("most probable class"), max_length=60, editable=False)
    confidence = models.FloatField(_("confidence"), editable=False)
    malignant_probability = models.FloatField(_("probability of malignancy"), editable=False)
    embedding = models.BinaryField(editable=False)
    input_stats = models.JSONField(_("input statistics"), editable=False)
    step_ms = models.JSONField(_("milliseconds of each step"), default=dict, editable=False)
    duration_ms = models.PositiveIntegerField(_("duration in milliseconds"), editable=False)
    queue_wait_ms = models.PositiveBigIntegerField(_("wait in milliseconds"), editable=False)
    created_at = models.DateTimeField(_("answered at"), default=timezone.now, editable=False, db_index=True)

    class Meta:
        verbose_name = _("inference record")
        verbose_name_plural = _("inference records")
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(confidence__gte=0, confidence__lte=1), name="confidence_is_a_probability"
            ),
            models.CheckConstraint(condition=~models.Q(model_version=""), name="an_inference_record_names_its_model"),
        ]

    def __str__(self) -> str:
        return f"inference record {self.pk}"

    @classmethod
    def from_result(cls, analysis: "Analysis", *, result: "AnalysisResult") -> "InferenceRecord":
        """Build the row for an answer whose analysis has just ended."""
        source_format = analysis.image.source_format
        source_kind = SOURCE_KINDS.get(source_format.upper(), source_format.lower())
        return cls(
            analysis=analysis,
            model_version=result.model_version,
            top_class=result.top_class,
            # Float32 shares may sum to a little more than one.
            confidence=min(1.0, result.confidence),
            malignant_probability=result.malignant_probability,
            embedding=np.asarray(result.embedding, EMBEDDING_TYPE).tobytes(),
            # The stored slice is always a PNG; what was uploaded is what changes with an export or a scanner.
            input_stats=result.input_statistics.to_json() | {"source_kind": source_kind},
            step_ms=dict(result.step_ms),
            duration_ms=result.duration_ms,
            queue_wait_ms=_milliseconds(analysis.queued_at, analysis.started_at),
            created_at=analysis.finished_at or timezone.now(),
        )

    @property
    def embedding_vector(self) -> NDArray[np.float32]:
        """The embedding, float32 (n,)."""
        return np.frombuffer(bytes(self.embedding), EMBEDDING_TYPE).astype(np.float32)

    @property
    def input_statistics(self) -> InputStatistics:
        """What the picture was like."""
        stored: dict[str, Any] = self.input_stats
        return InputStatistics.from_json(stored)


def _milliseconds(start: datetime, end: datetime | None) -> int:
    return max(0, round((end - start).total_seconds() * 1000)) if end is not None else 0
