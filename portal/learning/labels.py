"""Which slices teach the model, and what: judgements in signed reports, where hospital and patient allow it."""

import hmac
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import numpy as np
from django.conf import settings
from numpy.typing import NDArray

from accounts.models import Role
from ml.data import PORTAL_PREFIX
from ml.images import read_slice
from ml.preprocessing import body_box
from ml.runtime import is_crop
from reports.models import Report
from studies.models import Diagnosis, EffectiveFinding, Image, ImageReview, Study, Teaching, judged_findings
from studies.pictures import mask_of

# Why a slice teaches nothing; the sentences stand in the export's record and in docs/learning.md.
NOT_ALLOWED: Final = "The hospital or the patient does not let it be used."
SYNTHETIC: Final = "It is drawn, not taken of a patient."
UNSIGNED: Final = "No signed report on its study is in force."
LATER: Final = "It was judged after the report was signed, and no amendment says so."
UNJUDGED: Final = "No doctor has judged it, or not all of its findings."
CUT_OUT: Final = "It is a cut-out from a chest, not a whole slice."
MISSING: Final = "Its stored picture cannot be read."
# Brighter than air and outside the body: what a scanner or a printer wrote onto the picture.
TEXT_GREY: Final = 128


@dataclass(frozen=True, kw_only=True)
class Label:
    """One slice that teaches, without anything that says whose it is.

    ``pixels`` uint8 (H, W): everything outside the body is black, and with it whatever was written there
    (``had_text``). ``mask`` uint8 (H, W), 0 or 255, None where the outline is not known. ``diagnosis`` is a class of
    the model, or empty.
    """

    name: str
    study: str
    patient: str
    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None
    diagnosis: str
    had_text: bool


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A slice that does not teach, and the sentence that says why."""

    name: str
    reason: str


def pseudonym(kind: str, identifier: uuid.UUID) -> str:
    """Return the name under which a row stands in an export: always the same one, and nobody finds the row from it.

    A keyed hash: who holds the export and a list of all identifiers still cannot tell which is which without the key.
    """
    digest = hmac.new(settings.AUDIT_KEY.encode(), f"training:{kind}:{identifier}".encode(), sha256)
    return f"{PORTAL_PREFIX}{digest.hexdigest()[:20]}"


def collect_labels() -> Iterator[Label | LeftOut]:
    """Yield every slice of every hospital's studies as what it teaches or why it does not, study by study."""
    studies = Study.objects.filter(patient__hospital__isnull=False).select_related("patient__hospital", "created_by")
    for study in studies.order_by("created_at", "id").iterator(chunk_size=100):
        images = list(study.images.order_by("number"))
        if reason := _why_not(study):
            yield from (LeftOut(name=pseudonym("slice", image.id), reason=reason) for image in images)
            continue
        report = Report.objects.in_force().filter(study=study).order_by("-version").first()
        if report is None or report.signed_at is None:
            yield from (LeftOut(name=pseudonym("slice", image.id), reason=UNSIGNED) for image in images)
            continue
        judged = judged_findings(images)
        classes = {one.image_id: one for one in ImageReview.objects.filter(image__in=images).latest_per_image()}
        for image in images:
            latest = [one.reviewed_at for one in judged[image.id] if one.reviewed_at]
            latest += [classes[image.id].at] if image.id in classes else []
            # The moment of a signature is kept in whole seconds.
            if any(at.replace(microsecond=0) > report.signed_at for at in latest):
                yield LeftOut(name=pseudonym("slice", image.id), reason=LATER)
            else:
                yield _label(image, study=study, findings=judged[image.id], judged_class=classes.get(image.id))


def _why_not(study: Study) -> str:
    """Return why nothing of a study teaches, empty where it may.

    A patient's own upload was made with the promise that it teaches nothing: it needs the patient's own yes.
    """
    patient = study.patient
    is_own = study.created_by.role == Role.PATIENT
    is_allowed = patient.teaching == Teaching.ALLOWED or (patient.teaching == Teaching.AS_HOSPITAL and not is_own)
    if patient.hospital is None or not patient.hospital.teaches_model or not is_allowed:
        return NOT_ALLOWED
    return SYNTHETIC if study.is_synthetic else ""


def _label(
    image: Image, *, study: Study, findings: Sequence[EffectiveFinding], judged_class: ImageReview | None
) -> Label | LeftOut:
    name = pseudonym("slice", image.id)
    diagnosis = _diagnosis(findings, judged_class=judged_class)
    has_outline = _is_outlined(findings, diagnosis=diagnosis)
    if not diagnosis and not has_outline:
        return LeftOut(name=name, reason=UNJUDGED)
    try:
        with image.file.open("rb") as file:
            pixels = read_slice(file.read()).pixels
        if is_crop(pixels):
            return LeftOut(name=name, reason=CUT_OUT)
        mask = np.zeros(pixels.shape, np.uint8)
        for found in findings if has_outline else ():
            if not found.is_rejected:
                np.maximum(mask, mask_of(found), out=mask)
    except OSError:
        return LeftOut(name=name, reason=MISSING)
    bare, had_text = without_surroundings(pixels)
    patient = study.patient
    return Label(
        name=name,
        study=pseudonym("study", study.id),
        # Records of one person at two hospitals are one patient: no split may come between them.
        patient=pseudonym("patient", patient.user_id or patient.id),
        pixels=bare,
        mask=mask if has_outline else None,
        diagnosis=diagnosis,
        had_text=had_text,
    )


def _diagnosis(findings: Sequence[EffectiveFinding], *, judged_class: ImageReview | None) -> str:
    """The doctor's class of the slice; else the one diagnosis on which all findings that count agree."""
    if judged_class is not None:
        return "" if judged_class.diagnosis == Diagnosis.UNSURE else judged_class.diagnosis
    named = {one.diagnosis for one in findings if not one.is_rejected and one.diagnosis}
    return named.pop() if len(named) == 1 and Diagnosis.UNSURE not in named else ""


def _is_outlined(findings: Sequence[EffectiveFinding], *, diagnosis: str) -> bool:
    """Whether a doctor vouches for the outline of the whole slice: every finding judged, none with a diameter alone.

    Nothing at all teaches only where a doctor calls the slice normal.
    """
    if not findings:
        return diagnosis == Diagnosis.NORMAL
    return all(one.is_reviewed and (one.is_rejected or one.box is not None) for one in findings)


def without_surroundings(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], bool]:
    """Return a slice uint8 (H, W) with everything outside the body's box black, and whether something bright was there.

    Names that a scanner or a printer wrote onto a picture stand beside the body. The networks look at the box alone, so
    that nothing they learn from is lost.
    """
    bare = np.zeros_like(pixels)
    box = body_box(pixels)
    box.cut(bare)[:] = box.cut(pixels)
    return bare, bool((pixels[bare != pixels] >= TEXT_GREY).any())
