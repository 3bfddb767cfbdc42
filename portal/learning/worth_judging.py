"""Which studies a judgement would teach most: the model is unsure, contradicts itself, or sees something new."""

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from django.db import models
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from numpy.typing import NDArray

from accounts.models import User
from ml.inference import NORMAL
from studies.access import current_user, doctors_only
from studies.models import Analysis, FindingReview, ImageReview, InferenceRecord, Study

SHOWN: Final = 30
# What is looked at: the newest studies without a judgement, and the newest judged slices to compare with.
CANDIDATES: Final = 300
KNOWN: Final = 500

REASONS: Final = {
    "unsure": gettext_lazy("The model is unsure: it spreads its answer over several classes."),
    "contradiction": gettext_lazy("The model contradicts itself: its class and the finding it outlined do not fit."),
    "novelty": gettext_lazy("The slice is unlike those that doctors have judged here."),
    "hidden": gettext_lazy("Note your first impression, and the reason is shown."),
}


@dataclass(frozen=True, kw_only=True)
class Worth:
    """A study, how much its judgement would teach (0..1), and the sentence that says why."""

    study: Study
    score: float
    reason: Any


@never_cache
@require_safe
@doctors_only
def worth_judging(request: HttpRequest) -> HttpResponseBase:
    """List the doctor's studies whose judgement would teach most, the most worth first."""
    doctor = current_user(request)
    context = {"worths": most_worth(doctor), "teaches": doctor.hospital is not None and doctor.hospital.teaches_model}
    return render(request, "portal/worth_judging.html", context)


def most_worth(doctor: User) -> list[Worth]:
    """Return the visible studies that nobody has judged and whose judgement would teach most; at most ``SHOWN``.

    Where the model's answer is still hidden from the doctor, the place in the list is all that is told, as in the
    worklist; the reason waits for the first impression.
    """
    judged = models.Exists(ImageReview.objects.filter(image__study=models.OuterRef("pk")))
    corrected = models.Exists(FindingReview.objects.filter(image__study=models.OuterRef("pk")))
    visible = Study.objects.visible_to(doctor).filter(~judged, ~corrected, answered_at__isnull=False)
    studies = {
        study.id: study
        for study in visible.with_revealed_to(doctor).select_related("patient").order_by("-answered_at")[:CANDIDATES]
    }
    answers = Analysis.objects.filter(image__study__in=studies, state=Analysis.State.SUCCEEDED)
    found: dict[uuid.UUID, tuple[float, str]] = {}
    known = _embeddings_of_judged(doctor)
    rows = answers.select_related("inference_record", "image").prefetch_related("findings").order_by("queued_at")
    newest = {analysis.image_id: analysis for analysis in rows}
    for analysis in newest.values():
        scores = scores_of(analysis, known=known)
        reason = max(scores, key=lambda name: scores[name])
        study_id = analysis.image.study_id
        found[study_id] = max(found.get(study_id, (-1.0, "")), (scores[reason], reason))
    ranked = sorted(found.items(), key=lambda item: (-item[1][0], str(item[0])))[:SHOWN]
    return [
        Worth(
            study=studies[study_id],
            score=score,
            reason=REASONS[reason if studies[study_id].is_revealed else "hidden"],
        )
        for study_id, (score, reason) in ranked
    ]


def scores_of(analysis: Analysis, *, known: NDArray[np.float32]) -> dict[str, float]:
    """Return for each reason how much a judgement of this answer would teach, 0..1.

    ``unsure``: the entropy of the class probabilities, as a share of the largest possible (Settles 2009).
    ``contradiction``: how far the cancer classes together are from the malignancy of the worst finding.
    ``novelty``: how far the embedding points away from the nearest judged slice (half of one minus the cosine).
    """
    probabilities: Mapping[str, float] = analysis.probabilities or {}
    entropy = -sum(share * math.log(share) for share in probabilities.values() if share > 0)
    scores = {"unsure": entropy / math.log(len(probabilities)) if len(probabilities) > 1 else 0.0}
    findings = [finding.malignancy for finding in analysis.findings.all()]
    if findings and NORMAL in probabilities:
        scores["contradiction"] = abs((1.0 - probabilities[NORMAL]) - max(findings))
    record = getattr(analysis, "inference_record", None)
    if record is not None and len(known):
        vector = record.embedding_vector
        length = float(np.linalg.norm(vector))
        if vector.shape[0] == known.shape[1] and length > 0:
            scores["novelty"] = float(1.0 - (known @ (vector / length)).max()) / 2
    return scores


def _embeddings_of_judged(doctor: User) -> NDArray[np.float32]:
    """Return the embeddings of slices of the doctor's hospital that somebody has judged, each of length 1."""
    images = ImageReview.objects.filter(image__study__patient__hospital=doctor.hospital).values("image")
    corrected = FindingReview.objects.filter(image__study__patient__hospital=doctor.hospital).values("image")
    records = InferenceRecord.objects.filter(
        models.Q(analysis__image__in=images) | models.Q(analysis__image__in=corrected)
    ).order_by("-created_at", "-id")[:KNOWN]
    vectors = [record.embedding_vector for record in records]
    # A model with another embedding may have answered before.
    vectors = [one for one in vectors if one.shape == vectors[0].shape and np.linalg.norm(one) > 0]
    if not vectors:
        return np.zeros((0, 0), np.float32)
    stacked = np.stack(vectors)
    normalised: NDArray[np.float32] = stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
    return normalised
