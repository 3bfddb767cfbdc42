"""What counts on a slice: the model's findings as the doctors left them, and those that doctors added."""

import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models.fields.files import FieldFile

from accounts.models import User
from studies.models.finding import Finding
from studies.models.review import Diagnosis, FindingReview, Suspicion
from studies.models.study import Analysis, Image

MODEL = "model"
DOCTOR = "doctor"


@dataclass(frozen=True, kw_only=True)
class EffectiveFinding:
    """One finding as it stands, sizes in pixels of the stored slice and millimetres where the spacing is known.

    ``source`` is "model" or "doctor" (added by one). ``verdict`` is the latest judgement's, empty where there is none.
    ``probability`` in 0..1 is what the model thinks of its own finding, ``malignancy`` 1..5 and ``diagnosis`` what the
    doctor thinks; empty where not said. ``box`` is x, y, width, height; ``outline`` the doctor's drawing, if any, which
    leaves through the judgement ``outline_review_id`` and has the fingerprint ``outline_sha256``.
    Sizes are the doctor's where the doctor gave some (``is_resized``), else the model's.
    """

    lesion_id: uuid.UUID
    finding: Finding | None
    review: FindingReview | None
    number: int
    source: str
    verdict: str
    diagnosis: str
    malignancy: int | None
    probability: float | None
    box: tuple[int, int, int, int] | None
    area_px: int | None
    long_axis_px: float
    short_axis_px: float | None
    area_mm2: float | None
    long_axis_mm: float | None
    short_axis_mm: float | None
    outline: FieldFile | None
    outline_review_id: uuid.UUID | None
    outline_sha256: str
    is_resized: bool
    note: str
    reviewed_by: User | None
    reviewed_at: datetime | None

    @property
    def is_reviewed(self) -> bool:
        """Whether a doctor has judged or added it."""
        return self.review is not None

    @property
    def is_rejected(self) -> bool:
        """Whether a doctor says that it is no finding."""
        return self.verdict == FindingReview.Verdict.REJECTED

    @property
    def is_corrected(self) -> bool:
        """Whether something of the model's answer was replaced."""
        return self.verdict == FindingReview.Verdict.CORRECTED

    @property
    def diagnosis_label(self) -> Any:
        """The doctor's diagnosis as people read it; empty where none was given."""
        return Diagnosis(self.diagnosis).label if self.diagnosis else ""

    @property
    def malignancy_label(self) -> Any:
        """The doctor's step of suspicion as people read it; empty where none was given."""
        return Suspicion(self.malignancy).label if self.malignancy is not None else ""

    @property
    def verdict_label(self) -> Any:
        """The verdict as people read it; empty where there is none."""
        return FindingReview.Verdict(self.verdict).label if self.verdict else ""


def judged_findings(images: Iterable[Image]) -> dict[uuid.UUID, tuple[EffectiveFinding, ...]]:
    """Return all findings of each slice, rejected ones included: the newest answer's, then the added ones, numbered on.

    Four queries, however many slices there are.
    """
    wanted = list(images)
    newest: dict[uuid.UUID, Analysis] = {}
    answers = Analysis.objects.filter(image__in=wanted, state=Analysis.State.SUCCEEDED)
    for analysis in answers.prefetch_related("findings").order_by("queued_at", "id"):
        newest[analysis.image_id] = analysis
    histories: dict[uuid.UUID, dict[uuid.UUID, list[FindingReview]]] = defaultdict(lambda: defaultdict(list))
    reviews = FindingReview.objects.filter(image__in=wanted).select_related("by", "finding")
    for review in reviews.order_by("revision"):
        histories[review.image_id][review.lesion_id].append(review)
    return {image.id: _of_slice(newest.get(image.id), histories=histories[image.id]) for image in wanted}


def _of_slice(
    analysis: Analysis | None, *, histories: dict[uuid.UUID, list[FindingReview]]
) -> tuple[EffectiveFinding, ...]:
    findings = list(analysis.findings.all()) if analysis is not None else []
    found = []
    for finding in findings:
        history = histories.get(finding.id)
        found.append(_effective(number=finding.number, finding=finding, review=history[-1] if history else None))
    added = [history for history in histories.values() if history[0].finding_id is None]
    last = max((finding.number for finding in findings), default=0)
    for number, history in enumerate(sorted(added, key=lambda rows: (rows[0].at, rows[0].id)), start=last + 1):
        # A rejected row has no sizes; what was rejected is still shown with those it had.
        sized = next(row for row in reversed(history) if row.long_axis_px is not None)
        found.append(_effective(number=number, finding=None, review=history[-1], sized=sized))
    return tuple(found)


def _effective(
    *, number: int, finding: Finding | None, review: FindingReview | None, sized: FindingReview | None = None
) -> EffectiveFinding:
    if sized is None and review is not None and review.long_axis_px is not None:
        sized = review
    sizes: dict[str, Any]
    if sized is not None:
        sizes = _sizes(sized) | {"box": sized.box or (_box(finding) if finding is not None else None)}
    else:
        assert finding is not None  # noqa: S101 - what a doctor added always has sizes
        sizes = _sizes(finding) | {"box": _box(finding)}
    return EffectiveFinding(
        lesion_id=finding.id if finding is not None else sized.lesion_id,  # type: ignore[union-attr] # as above
        finding=finding,
        review=review,
        number=number,
        source=MODEL if finding is not None else DOCTOR,
        verdict=review.verdict if review is not None else "",
        diagnosis=review.diagnosis if review is not None else "",
        malignancy=review.malignancy if review is not None else None,
        probability=finding.malignancy if finding is not None else None,
        outline=sized.outline if sized is not None and sized.outline else None,
        outline_review_id=sized.id if sized is not None and sized.outline else None,
        outline_sha256=sized.outline_sha256 if sized is not None else "",
        is_resized=sized is not None,
        note=review.note if review is not None else "",
        reviewed_by=review.by if review is not None else None,
        reviewed_at=review.at if review is not None else None,
        **sizes,
    )


def _sizes(row: Finding | FindingReview) -> dict[str, Any]:
    names = ("area_px", "long_axis_px", "short_axis_px", "area_mm2", "long_axis_mm", "short_axis_mm")
    return {name: getattr(row, name) for name in names}


def _box(finding: Finding) -> tuple[int, int, int, int]:
    return finding.box_x, finding.box_y, finding.box_width, finding.box_height
