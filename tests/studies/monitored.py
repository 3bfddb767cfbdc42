"""A hospital that works for weeks, in seconds: answers of the real analysis code, drawn again and again.

``answers_about`` takes phantom slices through the serving code once; ``Hospital.arrive`` writes patients, studies,
slices, analyses and records as the portal would have, with those answers and times of one's own.
"""

import datetime
import hashlib
import io
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from django.db import connection
from PIL import Image as PillowImage

from accounts.models import Hospital, User
from ml.drift import Answer
from ml.inference import analyse
from ml.phantom import PhantomSpec, make_phantom
from ml.reference import answer_of
from studies.models import Analysis, Image, ImageReview, InferenceRecord, Patient, Study
from studies.models.inference_record import EMBEDDING_TYPE
from tests.factories import BIRTH_DATE, DoctorFactory

DAY = datetime.timedelta(days=1)
START = datetime.datetime(2026, 1, 5, 9, tzinfo=datetime.UTC)


def answers_about(seeds: range, *, spec: PhantomSpec) -> list[Answer]:
    """Return the serving code's answers about one phantom slice of each seed."""
    answers = []
    for seed in seeds:
        stream = io.BytesIO()
        PillowImage.fromarray(make_phantom(seed, spec=spec).pixels).save(stream, format="PNG")
        answers.append(answer_of(analyse(stream.getvalue())))
    return answers


@dataclass(frozen=True, kw_only=True)
class WorkingHospital:
    """A hospital with one doctor, its clock (``rng``) and the model version that answers there."""

    hospital: Hospital
    doctor: User
    rng: np.random.Generator
    version: str = "test-1"

    @classmethod
    def opened(cls, *, seed: int, version: str = "test-1", hospital: Hospital | None = None) -> "WorkingHospital":
        """Return one that has seen nobody yet."""
        doctor = DoctorFactory(hospital=hospital) if hospital is not None else DoctorFactory()
        assert doctor.hospital is not None
        return cls(hospital=doctor.hospital, doctor=doctor, rng=np.random.default_rng(seed), version=version)

    def arrive(self, answers: Sequence[Answer], *, at: datetime.datetime, agreement: float | None = None) -> None:
        """Let as many new patients come as there are answers, with one to three slices each of that answer.

        With ``agreement`` a doctor judges every slice an hour later, and names the model's class so often.
        """
        patients = [
            Patient(
                hospital=self.hospital,
                created_by=self.doctor,
                record_number=uuid.uuid4().hex[:12],
                given_name="Given",
                family_name="Family",
                birth_date=BIRTH_DATE,
            )
            for _answer in answers
        ]
        Patient.objects.bulk_create(patients)
        studies = [Study(patient=patient, created_by=self.doctor, study_date=at.date()) for patient in patients]
        Study.objects.bulk_create(studies)
        images, said = [], []
        for study, answer in zip(studies, answers, strict=True):
            for number in range(1, 2 + int(self.rng.integers(3))):
                images.append(
                    Image(
                        study=study,
                        number=number,
                        file="slice.png",
                        sha256=hashlib.sha256(uuid.uuid4().bytes).hexdigest(),
                        byte_size=1,
                        width=answer.statistics.width,
                        height=answer.statistics.height,
                        source_format=answer.statistics.source_kind.upper(),
                        uploaded_by=self.doctor,
                    )
                )
                said.append(answer)
        Image.objects.bulk_create(images)
        analyses = [
            Analysis(
                image=image,
                requested_by=self.doctor,
                state=Analysis.State.SUCCEEDED,
                finished_at=at,
                model_version=self.version,
                malignant_probability=answer.malignant_probability,
            )
            for image, answer in zip(images, said, strict=True)
        ]
        Analysis.objects.bulk_create(analyses)
        InferenceRecord.objects.bulk_create(
            InferenceRecord(
                analysis=analysis,
                model_version=self.version,
                top_class=answer.top_class,
                confidence=answer.confidence,
                malignant_probability=answer.malignant_probability,
                embedding=answer.embedding.astype(EMBEDDING_TYPE).tobytes(),
                input_stats=answer.statistics.to_json(),
                duration_ms=100,
                queue_wait_ms=0,
                created_at=at,
            )
            for analysis, answer in zip(analyses, said, strict=True)
        )
        if agreement is not None:
            ImageReview.objects.bulk_create(
                ImageReview(
                    image=image,
                    revision=1,
                    diagnosis=answer.top_class
                    if self.rng.random() < agreement
                    else ("normal" if answer.top_class != "normal" else "adenocarcinoma"),
                    by=self.doctor,
                    at=at + datetime.timedelta(hours=1),
                )
                for image, answer in zip(images, said, strict=True)
            )

    def work(
        self, pool: Sequence[Answer], *, days: range, patients_a_day: float, agreement: float | None = None
    ) -> None:
        """Let a stretch of days pass: so many patients on average from Monday to Friday, a quarter of it otherwise."""
        for day in days:
            mean = patients_a_day if (START + day * DAY).weekday() < 5 else patients_a_day / 4
            drawn = self.rng.integers(len(pool), size=self.rng.poisson(mean))
            self.arrive([pool[index] for index in drawn], at=START + day * DAY, agreement=agreement)
        if connection.vendor == "postgresql":
            # What autovacuum does for rows that are committed: without it, weeks of rows are planned for as if none.
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
