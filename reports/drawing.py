"""The picture of a report's slice: with the outlines that count, the software's or those that doctors drew instead."""

import hashlib

from django.db.models.fields.files import FieldFile

from reports.content import FindingPart, SlicePart
from studies.models import Analysis, FindingReview, Image
from studies.outlines import region_of
from studies.pictures import Drawn, draw_outlines


def outlined_picture(slice_: SlicePart) -> bytes:
    """Return the PNG of a slice with what the content outlines on it, always the same for a frozen content.

    Raises ``LookupError``, ``OSError`` or ``ValueError`` where a row or file is missing or an outline is not the one
    that the content names.
    """
    analysis = Analysis.objects.filter(id=slice_.analysis.id).first() if slice_.analysis is not None else None
    if not slice_.is_redrawn:
        if analysis is None:
            raise LookupError("The answer is gone.")
        return _read(analysis.overlay)
    image = Image.objects.filter(id=slice_.image_id).first()
    if image is None:
        raise LookupError("The slice is gone.")
    reviews = FindingReview.objects.in_bulk([one.outline_review_id for one in slice_.findings if one.outline_review_id])
    drawn_by_doctors = {str(key): review for key, review in reviews.items()}
    drawn = [
        Drawn(
            number=finding.number,
            box=finding.box,
            outline=_outline_of(finding, review=drawn_by_doctors.get(finding.outline_review_id), analysis=analysis),
            is_doctors=bool(finding.outline_review_id),
        )
        for finding in slice_.findings
        # Of what was added with a diameter only, nobody knows where it is.
        if finding.box is not None
    ]
    return draw_outlines(_read(image.file), drawn)


def _outline_of(finding: FindingPart, *, review: FindingReview | None, analysis: Analysis | None) -> bytes:
    if not finding.outline_review_id:
        if analysis is None or finding.box is None:
            raise LookupError("The answer is gone.")
        return region_of(_read(analysis.mask), box=finding.box)
    if review is None:
        raise LookupError("The doctor's outline is gone.")
    outline = _read(review.outline)
    if hashlib.sha256(outline).hexdigest() != finding.outline_sha256:
        raise ValueError("The doctor's outline is not the one that the report names.")
    return outline


def _read(stored: FieldFile) -> bytes:
    with stored.open("rb") as file:
        content: bytes = file.read()
    return content
