"""What a doctor's viewer needs to know of a study, as plain JSON values: slices, the model's answer, judgements.

Every part that tells what the software said, or what a colleague made of it, is None until the study is revealed to
the doctor who asks.
"""

from typing import Any

from django.urls import reverse

from accounts.models import User
from studies.models import (
    Analysis,
    Diagnosis,
    EffectiveFinding,
    FindingReview,
    FirstImpression,
    Image,
    ImageReview,
    Study,
    Suspicion,
    judged_findings,
)
from studies.models.effective import DOCTOR


def reading_json(study: Study, *, doctor: User) -> dict[str, Any]:
    """Return the study as this doctor may see it; sizes in pixels of the stored slice, and mm where known."""
    is_revealed = study.reveals_ai_to(doctor)
    images = list(study.images.order_by("number"))
    own = study.first_impressions.filter(doctor=doctor).first()
    answers = _newest_answers(images) if is_revealed else {}
    findings = judged_findings(images) if is_revealed else {}
    classes = (
        {
            row.image_id: row
            for row in ImageReview.objects.latest_per_image().filter(image__in=images).select_related("by")
        }
        if is_revealed
        else {}
    )
    return {
        "study_id": str(study.id),
        "reads_first": study.patient.hospital is not None and study.patient.hospital.reads_first,
        "is_ai_revealed": is_revealed,
        "can_change": study.can_be_changed_by(doctor),
        "first_impression": first_impression_json(own) if own is not None else None,
        "first_impression_url": reverse("studies:first_impression", kwargs={"study_id": study.id}),
        "choices": {
            "diagnosis": [{"value": value, "label": str(label)} for value, label in Diagnosis.choices],
            "malignancy": [{"value": value, "label": str(label)} for value, label in Suspicion.choices],
        },
        "slices": [
            _slice_json(
                image,
                answer=answers.get(image.id),
                findings=findings.get(image.id) if is_revealed else None,
                judged=classes.get(image.id),
            )
            for image in images
        ],
    }


def first_impression_json(impression: FirstImpression) -> dict[str, Any]:
    """Return a first impression as JSON values."""
    return {
        "id": str(impression.id),
        "diagnosis": impression.diagnosis,
        "diagnosis_label": str(impression.get_diagnosis_display()),
        "suspicion": impression.suspicion,
        "note": impression.note,
        "noted_at": impression.noted_at.isoformat(),
    }


def finding_review_json(review: FindingReview) -> dict[str, Any]:
    """Return a judgement of a finding as JSON values."""
    return {
        "id": str(review.id),
        "lesion_id": str(review.lesion_id),
        "finding_id": str(review.finding_id) if review.finding_id else None,
        "revision": review.revision,
        "verdict": review.verdict,
        "diagnosis": review.diagnosis,
        "malignancy": review.malignancy,
        "note": review.note,
        "box": list(review.box) if review.box else None,
        **_sizes(review),
        "outline_url": reverse("studies:review_outline", kwargs={"review_id": review.id}) if review.outline else None,
        "by": str(review.by),
        "at": review.at.isoformat(),
    }


def image_review_json(review: ImageReview) -> dict[str, Any]:
    """Return a doctor's class of a slice as JSON values."""
    return {
        "id": str(review.id),
        "revision": review.revision,
        "diagnosis": review.diagnosis,
        "diagnosis_label": str(review.get_diagnosis_display()),
        "by": str(review.by),
        "at": review.at.isoformat(),
    }


def _newest_answers(images: list[Image]) -> dict[Any, Analysis]:
    found = Analysis.objects.filter(image__in=images, state=Analysis.State.SUCCEEDED).order_by("queued_at", "id")
    return {analysis.image_id: analysis for analysis in found}


def _slice_json(
    image: Image,
    *,
    answer: Analysis | None,
    findings: tuple[EffectiveFinding, ...] | None,
    judged: ImageReview | None,
) -> dict[str, Any]:
    return {
        "id": str(image.id),
        "number": image.number,
        "width": image.width,
        "height": image.height,
        "row_spacing_mm": image.row_spacing_mm,
        "column_spacing_mm": image.column_spacing_mm,
        "hounsfield": _hounsfield_json(image),
        "picture_url": reverse("studies:image_file", kwargs={"image_id": image.id}),
        "reviews_url": reverse("studies:image_reviews", kwargs={"image_id": image.id}),
        "analysis": _answer_json(answer, findings=findings or ()) if answer is not None else None,
        "image_review": image_review_json(judged) if judged is not None else None,
        "reviews": None
        if findings is None
        else [_added_json(finding) for finding in findings if finding.source == DOCTOR],
    }


def _hounsfield_json(image: Image) -> dict[str, float] | None:
    """How the stored greys 0..255 become Hounsfield units; None where the file did not tell them."""
    if image.black_hu is None or image.white_hu is None:
        return None
    return {"slope": (image.white_hu - image.black_hu) / 255, "intercept": image.black_hu}


def _answer_json(answer: Analysis, *, findings: tuple[EffectiveFinding, ...]) -> dict[str, Any]:
    def url(name: str) -> str:
        return reverse(f"studies:analysis_{name}", kwargs={"analysis_id": answer.id})

    return {
        "id": str(answer.id),
        "state": answer.state,
        "overlay_url": url("overlay"),
        "mask_url": url("mask"),
        "activation_url": url("activation"),
        "probabilities": answer.probabilities,
        "malignant_probability": answer.malignant_probability,
        "malignant_basis": answer.malignant_basis,
        "thresholds": answer.thresholds,
        "model_version": answer.model_version,
        "findings": [_finding_json(finding) for finding in findings if finding.source != DOCTOR],
    }


def _finding_json(found: EffectiveFinding) -> dict[str, Any]:
    """The model's own numbers; the doctor's stand in ``review``."""
    finding = found.finding
    assert finding is not None  # noqa: S101 - narrows the type: the model's findings are asked for
    return {
        "id": str(finding.id),
        "number": finding.number,
        "box": [finding.box_x, finding.box_y, finding.box_width, finding.box_height],
        "malignancy": finding.malignancy,
        **_sizes(finding),
        "outline_url": reverse("studies:finding_outline", kwargs={"finding_id": finding.id}),
        "reviews_url": reverse("studies:finding_reviews", kwargs={"lesion_id": finding.id}),
        "review": finding_review_json(found.review) if found.review is not None else None,
    }


def _added_json(found: EffectiveFinding) -> dict[str, Any]:
    review = found.review
    assert review is not None  # noqa: S101 - narrows the type: what a doctor added has a judgement
    outline = {"outline_url": None} if found.outline is None else {}
    sizes = {
        "box": list(found.box) if found.box else None,
        "area_px": found.area_px,
        "area_mm2": found.area_mm2,
        "long_axis_px": found.long_axis_px,
        "long_axis_mm": found.long_axis_mm,
        "short_axis_px": found.short_axis_px,
        "short_axis_mm": found.short_axis_mm,
    }
    return (
        finding_review_json(review)
        | sizes
        | outline
        | {
            "number": found.number,
            "reviews_url": reverse("studies:finding_reviews", kwargs={"lesion_id": found.lesion_id}),
        }
    )


def _sizes(row: Any) -> dict[str, Any]:
    names = ("area_px", "area_mm2", "long_axis_px", "long_axis_mm", "short_axis_px", "short_axis_mm")
    return {name: getattr(row, name) for name in names}
