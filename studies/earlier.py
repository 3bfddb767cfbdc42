"""What doctors said of an earlier answer about a slice, after the slice was analysed again.

A judgement belongs to the finding that it was made of, so a new answer starts without any. Nothing is carried over by
itself: the new outline may be another one. But the doctor is shown what was judged and not taken up yet, and can say
it again of the finding that lies in the same place.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from studies.models import Analysis, EffectiveFinding, Finding, FindingReview, Image, judged_findings
from studies.models.effective import DOCTOR
from studies.outlines import region_of

# Of two boxes that cover each other by this share (intersection over union) the findings are taken for the same.
SAME_PLACE = 0.3

Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class EarlierJudgement:
    """The latest judgement of a finding of an earlier answer.

    ``successor`` is the finding of the newest answer in the same place, None where that answer has none there.
    """

    review: FindingReview
    finding: Finding
    successor: EffectiveFinding | None

    @property
    def box(self) -> Box:
        """Where it is: the doctor's drawing, else the software's outline of then."""
        return self.review.box or _box_of(self.finding)

    @property
    def fields(self) -> list[tuple[str, str]]:
        """What a form sends to say the same of the successor, or to add the finding where there is none."""
        review, successor = self.review, self.successor
        said: dict[str, Any] = {
            "verdict": review.verdict if successor is not None else FindingReview.Verdict.ADDED,
            "diagnosis": review.diagnosis,
            "malignancy": review.malignancy,
            "note": review.note,
        }
        if successor is not None and successor.review is not None:
            said["seen"] = successor.review.id
        if review.long_axis_px is not None and review.short_axis_px is None:
            # The slice is the same, so its spacing is.
            is_mm = review.image.pixel_spacing_mm is not None and review.long_axis_mm is not None
            said["diameter_mm" if is_mm else "diameter_px"] = review.long_axis_mm if is_mm else review.long_axis_px
        if review.outline or successor is None:
            said["outline_kept"] = base64.b64encode(self._outline()).decode()
        return [(name, str(value)) for name, value in said.items() if value not in ("", None)]

    def _outline(self) -> bytes:
        if self.review.outline:
            with self.review.outline.open("rb") as file:
                drawn: bytes = file.read()
            return drawn
        with self.finding.analysis.mask.open("rb") as file:
            return region_of(file.read(), box=_box_of(self.finding))


def earlier_judgements(image: Image, *, judged: Sequence[EffectiveFinding]) -> tuple[EarlierJudgement, ...]:
    """Return what was judged of earlier answers and not taken up since; ``judged`` is what stands on the slice now.

    Left out: a rejection of what the newest answer does not outline any more, and whatever was judged, or drawn, in
    the same place since.
    """
    return _unsettled(_of_earlier_answers([image]), judged=judged)


def count_earlier_judgements(images: Iterable[Image]) -> int:
    """Return how many judgements of earlier answers of these slices were not taken up."""
    wanted = list(images)
    reviews = _of_earlier_answers(wanted)
    if not reviews:
        return 0
    standing = judged_findings(wanted)
    return sum(
        len(_unsettled([review for review in reviews if review.image_id == image.id], judged=standing[image.id]))
        for image in wanted
    )


def _of_earlier_answers(images: Sequence[Image]) -> list[FindingReview]:
    reviews = FindingReview.objects.latest_per_finding().filter(image__in=images, finding__isnull=False)
    found = list(reviews.select_related("by", "image", "finding__analysis").order_by("at", "id"))
    if not found:
        return []
    newest: dict[Any, Any] = {}
    answers = Analysis.objects.filter(
        image__in={review.image_id for review in found}, state=Analysis.State.SUCCEEDED
    ).order_by("queued_at", "id")
    for image_id, analysis_id in answers.values_list("image_id", "id"):
        newest[image_id] = analysis_id
    return [review for review in found if review.finding.analysis_id != newest.get(review.image_id)]


def _unsettled(reviews: Iterable[FindingReview], *, judged: Sequence[EffectiveFinding]) -> tuple[EarlierJudgement, ...]:
    # Of the same place judged in several earlier answers the latest judgement speaks.
    found: list[EarlierJudgement] = []
    for review in sorted(reviews, key=lambda one: one.at, reverse=True):
        finding = review.finding
        assert finding is not None  # noqa: S101 - narrows the type: asked for above
        box = _box_of(finding)
        places = [box, *([review.box] if review.box else [])]
        here = [one for one in judged if one.box and max(overlap(one.box, place) for place in places) >= SAME_PLACE]
        if any(one.source == DOCTOR or one.is_reviewed for one in here):
            continue
        if any(max(overlap(other.box, place) for place in places) >= SAME_PLACE for other in found):
            continue
        successor = max(here, key=lambda one: overlap(one.box or box, box), default=None)
        if successor is None and review.is_rejected:
            continue
        found.append(EarlierJudgement(review=review, finding=finding, successor=successor))
    return tuple(reversed(found))


def overlap(one: Box, other: Box) -> float:
    """Return the intersection of two boxes (x, y, width, height) over their union, in 0..1."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def _box_of(finding: Finding) -> Box:
    return finding.box_x, finding.box_y, finding.box_width, finding.box_height
