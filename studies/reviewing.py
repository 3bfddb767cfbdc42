"""The act of judging: a doctor accepts, rejects, corrects or adds a finding, or names the class of a slice."""

import math
import uuid
from dataclasses import dataclass
from typing import Any

from django.core.files.base import ContentFile
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from accounts.models import User
from studies.errors import ReviewError, StaleReviewError
from studies.models import Finding, FindingReview, Image, ImageReview
from studies.outlines import Outline, read_outline
from studies.storage import may_be_committed

Verdict = FindingReview.Verdict


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a doctor says of a finding.

    ``diagnosis``, ``malignancy`` (1..5) and ``note`` are None where nothing was said, so that what stood stays.
    ``outline`` holds the bytes of a PNG as they came; a diameter is typed in millimetres or in pixels.
    """

    verdict: str
    diagnosis: str | None = None
    malignancy: int | None = None
    is_malignancy_said: bool = False
    note: str | None = None
    outline: bytes | None = None
    diameter_mm: float | None = None
    diameter_px: float | None = None

    @property
    def has_size(self) -> bool:
        """Whether an outline or a diameter was given."""
        return self.outline is not None or self.diameter_mm is not None or self.diameter_px is not None


def review_finding(
    image: Image, *, lesion_id: uuid.UUID, by: User, judgement: Judgement, seen: uuid.UUID | None
) -> FindingReview:
    """Store a judgement of the model's finding, or of one that a doctor added, beside all earlier ones.

    ``seen`` is the latest judgement that was on the doctor's page, None if there was none. The caller has checked that
    the doctor may change the study and knows the software's answer. Judging the same twice keeps the first row.

    Raises ``ReviewError`` or ``OutlineError`` for a judgement that cannot be stored, ``StaleReviewError`` if a newer
    judgement exists or the slice was analysed again; ``Finding.DoesNotExist`` if the slice has no such finding.
    """
    finding = Finding.objects.filter(id=lesion_id, analysis__image=image).first()
    history = list(FindingReview.objects.filter(lesion_id=lesion_id, image=image).order_by("revision"))
    if finding is None and not history:
        raise Finding.DoesNotExist
    possible = {Verdict.REJECTED, Verdict.CORRECTED} | ({Verdict.ACCEPTED} if finding is not None else set())
    if judgement.verdict not in possible:
        raise ReviewError(_("This finding can be rejected or corrected. Please choose one of these."))
    latest = history[-1] if history else None
    values = _values(image, judgement=judgement, before=_what_stood(history, finding=finding))
    if latest is not None and latest.by_id == by.id and _says_the_same(latest, values=values):
        return latest
    if (latest.id if latest is not None else None) != seen:
        raise _stale(latest)
    newest = image.latest_success
    if finding is not None and newest is not None and finding.analysis_id != newest.id:
        raise StaleReviewError(
            _(
                "This slice was analysed again meanwhile, so this finding is not part of its newest answer any more. "
                "Please judge the findings of the newest answer."
            )
        )
    revision = latest.revision + 1 if latest is not None else 1
    try:
        return _store(
            FindingReview(lesion_id=lesion_id, revision=revision, image=image, finding=finding, by=by), values
        )
    except IntegrityError:
        winner = FindingReview.objects.filter(lesion_id=lesion_id, revision=revision).select_related("by").first()
        if winner is None:
            raise
        if winner.by_id == by.id and _says_the_same(winner, values=values):
            return winner
        raise _stale(winner) from None


def add_finding(image: Image, *, by: User, judgement: Judgement, token: uuid.UUID | None = None) -> FindingReview:
    """Store a finding that the model missed.

    ``token`` is the identity that the form gave to the new finding, so that a form that is sent twice adds one; without
    it the same outline or diameter by the same doctor counts as the same finding. Raises as ``review_finding``.
    """
    if not judgement.has_size:
        raise ReviewError(
            _("Please draw around the finding, or type its diameter: without either nobody can tell what you mean.")
        )
    values = _values(image, judgement=judgement, before=None)
    mine = FindingReview.objects.filter(image=image, by=by, verdict=Verdict.ADDED)
    twin = next((row for row in mine if _says_the_same(row, values=values)), None)
    if twin is not None and token in (None, twin.lesion_id):
        return twin
    lesion_id = token or uuid.uuid4()
    taken = StaleReviewError(_("This finding is stored already, with other values. Please correct it instead."))
    if Finding.objects.filter(id=lesion_id).exists():
        raise taken
    try:
        return _store(FindingReview(lesion_id=lesion_id, revision=1, image=image, by=by), values)
    except IntegrityError:
        winner = FindingReview.objects.filter(lesion_id=lesion_id, revision=1).first()
        if winner is None:
            raise
        if (winner.by_id, winner.image_id) == (by.id, image.id) and _says_the_same(winner, values=values):
            return winner
        raise taken from None


def review_image(image: Image, *, by: User, diagnosis: str, seen: uuid.UUID | None) -> ImageReview:
    """Store a doctor's class of the slice beside the model's. Raises ``StaleReviewError`` if a newer one exists."""
    latest = image.reviews.order_by("-revision").first()
    if latest is not None and (latest.by_id, latest.diagnosis) == (by.id, diagnosis):
        return latest
    if (latest.id if latest is not None else None) != seen:
        raise _stale(latest)
    revision = latest.revision + 1 if latest is not None else 1
    try:
        with transaction.atomic():
            return ImageReview.objects.create(image=image, revision=revision, diagnosis=diagnosis, by=by)
    except IntegrityError:
        winner = image.reviews.filter(revision=revision).select_related("by").first()
        if winner is None:
            raise
        if (winner.by_id, winner.diagnosis) == (by.id, diagnosis):
            return winner
        raise _stale(winner) from None


def _stale(latest: FindingReview | ImageReview | None) -> StaleReviewError:
    if latest is None:
        return StaleReviewError(_("This judgement does not exist any more. Please open the page again."))
    return StaleReviewError(
        _(
            "%(name)s has judged this since you opened the page. Nothing was overwritten and what you entered is still "
            "here: look at the newer judgement, then save yours if you stand by it."
        )
        % {"name": latest.by}
    )


def _what_stood(history: list[FindingReview], *, finding: Finding | None) -> FindingReview | None:
    """Return the row whose values a correction starts from: the latest, or the one that a rejection had set aside."""
    if finding is None:
        return next((row for row in reversed(history) if not row.is_rejected), None)
    return history[-1] if history and history[-1].verdict == Verdict.CORRECTED else None


def _values(image: Image, *, judgement: Judgement, before: FindingReview | None) -> dict[str, Any]:
    """Return the fields that the judgement comes to; ``outline`` as the drawn ``Outline``, a stored name, or empty."""
    verdict = judgement.verdict
    values: dict[str, Any] = {
        "verdict": verdict,
        "diagnosis": judgement.diagnosis or "",
        "malignancy": judgement.malignancy,
        "note": judgement.note or "",
    } | _no_sizes()
    if verdict in (Verdict.ACCEPTED, Verdict.REJECTED):
        if judgement.has_size:
            raise ReviewError(
                _("An outline or a diameter was given, but nothing would be corrected. Please choose “correct”.")
            )
        if verdict == Verdict.REJECTED:
            # What is no finding has neither class nor suspicion; a form sends its fields along all the same.
            values |= {"diagnosis": "", "malignancy": None}
        return values
    if values["diagnosis"] == "normal":
        raise ReviewError(_("A finding that is normal tissue is no finding. Please reject it instead."))
    if before is not None:
        if judgement.diagnosis is None:
            values["diagnosis"] = before.diagnosis
        if not judgement.is_malignancy_said:
            values["malignancy"] = before.malignancy
        if judgement.note is None:
            values["note"] = before.note
    if judgement.has_size:
        values |= _sizes(image, judgement=judgement)
    elif before is not None:
        values |= {name: getattr(before, name) for name in _no_sizes()} | {"outline": before.outline.name}
    if verdict == Verdict.CORRECTED and not (
        values["diagnosis"] or values["malignancy"] is not None or values["long_axis_px"] is not None
    ):
        raise ReviewError(_("Please say what is to be corrected: class, malignancy, diameter or outline."))
    return values


def _no_sizes() -> dict[str, Any]:
    sizes = ("area_px", "area_mm2", "long_axis_px", "short_axis_px", "long_axis_mm", "short_axis_mm")
    boxes = ("box_x", "box_y", "box_width", "box_height")
    return dict.fromkeys((*sizes, *boxes)) | {"outline": "", "outline_sha256": ""}


def _sizes(image: Image, *, judgement: Judgement) -> dict[str, Any]:
    values = _no_sizes()
    if judgement.outline is not None:
        outline = read_outline(
            judgement.outline, width=image.width, height=image.height, pixel_spacing_mm=image.pixel_spacing_mm
        )
        x, y, width, height = outline.box
        values |= {"outline": outline, "outline_sha256": outline.sha256}
        values |= {"box_x": x, "box_y": y, "box_width": width, "box_height": height}
        for name in ("area_px", "area_mm2", "long_axis_px", "short_axis_px", "long_axis_mm", "short_axis_mm"):
            values[name] = getattr(outline, name)
    if judgement.diameter_mm is not None or judgement.diameter_px is not None:
        long_axis_px, long_axis_mm = _diameter(image, judgement=judgement)
        # A diameter that the doctor measured goes before the one of the drawing, whose short axis belongs to its own.
        values |= {"long_axis_px": long_axis_px, "long_axis_mm": long_axis_mm}
        values |= {"short_axis_px": None, "short_axis_mm": None}
    return values


def _diameter(image: Image, *, judgement: Judgement) -> tuple[float, float | None]:
    """Return the typed diameter in pixels, and in millimetres where the spacing is known."""
    spacing = image.pixel_spacing_mm
    mm_per_px = math.sqrt(spacing[0] * spacing[1]) if spacing else None
    if judgement.diameter_mm is not None:
        if mm_per_px is None:
            raise ReviewError(
                _(
                    "The size of a pixel of this slice is not known, so millimetres cannot be used. Please give the "
                    "diameter in pixels."
                )
            )
        diameter_px = judgement.diameter_mm / mm_per_px
    else:
        diameter_px = judgement.diameter_px or 0.0
    if not math.isfinite(diameter_px) or diameter_px <= 0:
        raise ReviewError(_("A diameter is a number larger than zero. Please check it."))
    longest_px = math.hypot(image.width, image.height)
    if diameter_px > longest_px:
        raise ReviewError(
            _("The diameter is larger than the whole picture (%(limit)s). Please check it.")
            % {
                "limit": _("%(length).0f mm") % {"length": longest_px * mm_per_px}
                if mm_per_px
                else _("%(length).0f pixels") % {"length": longest_px}
            }
        )
    return diameter_px, judgement.diameter_mm or (diameter_px * mm_per_px if mm_per_px else None)


def _says_the_same(row: FindingReview, *, values: dict[str, Any]) -> bool:
    # The outline is compared by its fingerprint.
    return all(getattr(row, name) == value for name, value in values.items() if name != "outline")


def _store(review: FindingReview, values: dict[str, Any]) -> FindingReview:
    """Write the row and its outline's file; the file is removed again if the row cannot be stored."""
    outline = values["outline"]
    for name, value in values.items():
        if name != "outline":
            setattr(review, name, value)
    if not isinstance(outline, Outline):
        # An earlier revision's file: rows are never deleted, so two of them may share it.
        review.outline = outline
        with transaction.atomic():
            review.save(force_insert=True)
        return review
    review.outline.save("outline.png", ContentFile(outline.png), save=False)
    try:
        with transaction.atomic():
            review.save(force_insert=True)
    except BaseException as error:
        if not may_be_committed(error):
            review.outline.storage.delete(str(review.outline.name))
        raise
    return review
