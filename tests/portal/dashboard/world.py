"""Two hospitals with invented work in them, drawn by a seed, written straight into the tables."""

import random
import uuid
from datetime import timedelta
from typing import Any

from django.core.files.base import ContentFile
from django.utils import timezone

from accounts.models import User
from portal.dashboard.serving import serving_card
from studies.models import (
    Analysis,
    Diagnosis,
    Finding,
    FindingReview,
    FirstImpression,
    Image,
    ImageReview,
    InferenceRecord,
    Patient,
    Study,
)
from studies.models.study import CLASS_LABELS

CLASSES = tuple(CLASS_LABELS)


def draw_work(doctor: User, *, seed: int, studies: int = 12, days: int = 40) -> None:
    """Write studies of the last ``days`` days with slices, analyses, figures, judgements and first impressions."""
    pick = random.Random(seed)  # noqa: S311 - invented work, the same for each seed
    now = timezone.now()
    versions = (str(serving_card()["version"]), "older-1")
    patient = Patient.objects.create(
        created_by=doctor,
        hospital=doctor.hospital,
        record_number=f"D-{seed}-{doctor.pk}"[:40],
        given_name="G",
        family_name="F",
        birth_date="1960-05-17",
    )
    for _number in range(studies):
        received = now - timedelta(days=pick.uniform(0, days))
        study = Study.objects.create(created_by=doctor, patient=patient, study_date=received.date())
        Study.objects.filter(pk=study.pk).update(created_at=received, received_on=received.date())
        for place in range(1, pick.randint(1, 4) + 1):
            image = _image(study, number=place, received=received)
            _analyses(image, pick=pick, received=received, versions=versions)
            if pick.random() < 0.7:
                for revision in range(1, pick.randint(1, 3) + 1):
                    ImageReview.objects.create(
                        image=image,
                        revision=revision,
                        diagnosis=pick.choice(Diagnosis.values),
                        by=doctor,
                        at=min(now, received + timedelta(days=pick.uniform(0, 5))),
                    )
        if pick.random() < 0.8:
            FirstImpression.objects.create(
                study=study,
                doctor=doctor,
                diagnosis=pick.choice(Diagnosis.values),
                suspicion=pick.randint(1, 5),
                noted_at=received,
            )
        Study.objects.get(pk=study.pk).refresh_triage()


def _image(study: Study, *, number: int, received: Any) -> Image:
    image = Image.objects.create(
        study=study,
        number=number,
        file=ContentFile(b"x", name="x.png"),
        sha256=uuid.uuid4().hex * 2,
        byte_size=1,
        width=8,
        height=8,
        source_format="PNG",
        uploaded_by=study.created_by,
    )
    Image.objects.filter(pk=image.pk).update(created_at=received)
    return image


def _analyses(image: Image, *, pick: random.Random, received: Any, versions: tuple[str, ...]) -> None:
    for run in range(pick.randint(1, 2)):
        queued = received + timedelta(hours=run)
        started = queued + timedelta(milliseconds=pick.randint(0, 90_000))
        duration_ms = pick.choice([80, 95, 95, 110, 240, 900])
        ended = started + timedelta(milliseconds=duration_ms)
        state = pick.choice(["succeeded"] * 8 + ["failed"] * 2 + ["cancelled"])
        shares = [pick.random() for _name in CLASSES]
        probabilities = {name: share / sum(shares) for name, share in zip(CLASSES, shares, strict=True)}
        malignant = round(pick.random(), 2)
        version = pick.choice(versions)
        is_done = state == "succeeded"
        analysis = Analysis.objects.create(
            image=image,
            requested_by=image.uploaded_by,
            state=state,
            queued_at=queued,
            started_at=started if state != "cancelled" else None,
            finished_at=ended,
            error=pick.choice(["The file is damaged.", "The model cannot be loaded."]) if state == "failed" else "",
            model_version=version if is_done else "",
            probabilities=probabilities if is_done else {},
            malignant_probability=malignant if is_done else None,
        )
        if not is_done:
            continue
        InferenceRecord.objects.create(
            analysis=analysis,
            model_version=version,
            top_class=max(probabilities, key=probabilities.__getitem__),
            confidence=max(probabilities.values()),
            malignant_probability=malignant,
            embedding=b"",
            input_stats={},
            step_ms={"read": 4.0, "classify": float(pick.randint(20, 60)), "outline": 32.0},
            duration_ms=duration_ms,
            queue_wait_ms=round((started - queued).total_seconds() * 1000),
            created_at=ended,
        )
        _findings(analysis, pick=pick)


def _findings(analysis: Analysis, *, pick: random.Random) -> None:
    doctor = analysis.image.uploaded_by
    at = analysis.finished_at
    if pick.random() < 0.6:
        finding = Finding.objects.create(
            analysis=analysis,
            number=1,
            box_x=1,
            box_y=1,
            box_width=2,
            box_height=2,
            area_px=4,
            long_axis_px=2.0,
            short_axis_px=2.0,
            malignancy=0.5,
        )
        for revision in range(1, pick.randint(0, 2) + 1):
            FindingReview.objects.create(
                lesion_id=finding.pk,
                finding=finding,
                image=analysis.image,
                revision=revision,
                verdict=pick.choice(["accepted", "rejected"]),
                by=doctor,
                at=at,
            )
    if pick.random() < 0.2:
        lesion = uuid.uuid4()
        FindingReview.objects.create(
            lesion_id=lesion,
            image=analysis.image,
            revision=1,
            verdict="added",
            long_axis_px=3.0,
            by=doctor,
            at=at,
        )
        if pick.random() < 0.5:
            FindingReview.objects.create(
                lesion_id=lesion, image=analysis.image, revision=2, verdict="rejected", by=doctor, at=at
            )
