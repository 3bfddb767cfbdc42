"""What a page of figures costs at 100,000 analyses, with the hospital's part and with everything.

Prints the seconds of each page; ``make acceptance`` runs it, on the database that ``DATABASE_URL`` names.
"""

import random
import statistics
import sys
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from portal.dashboard.pages import PAGES
from portal.dashboard.serving import serving_card
from studies.models import Analysis, FirstImpression, Image, ImageReview, InferenceRecord, Study
from tests.factories import AdministratorFactory, DoctorFactory, PatientFactory

pytestmark = [pytest.mark.django_db, pytest.mark.acceptance]
MANY = 100_000
SLICES = 4  # of each study
DAYS = 364
ACCEPTABLE_S = 10  # of any page; on a quiet machine they take one or two


def write_work(doctor: User, *, count: int) -> None:
    """Write ``count`` answered slices of a year, a judgement of every fifth, an impression of every study."""
    pick = random.Random(1)  # noqa: S311 - invented work, the same each time
    now = timezone.now()
    patient = PatientFactory(created_by=doctor)
    version = str(serving_card()["version"])
    classes = ("adenocarcinoma", "large_cell_carcinoma", "normal", "squamous_cell_carcinoma")
    studies, images, analyses, records, reviews, impressions = [], [], [], [], [], []
    for number in range(count):
        at = now - timedelta(days=DAYS * (1 - number / count), minutes=5)
        if number % SLICES == 0:
            study = Study(
                created_by=doctor,
                patient=patient,
                study_date=at.date(),
                received_on=at.date(),
                state="succeeded",
                triage_class=pick.choice(classes),
                triage_malignancy=0.5,
                answered_at=at,
            )
            studies.append((study, at))
            impressions.append(
                FirstImpression(study=study, doctor=doctor, diagnosis=pick.choice(classes), suspicion=3, noted_at=at)
            )
        image = Image(
            study=study,
            number=number % SLICES + 1,
            file="x.png",
            sha256=uuid.uuid4().hex * 2,
            byte_size=1,
            width=8,
            height=8,
            source_format="PNG",
            uploaded_by=doctor,
        )
        images.append(image)
        has_failed = number % 50 == 0
        analysis = Analysis(
            image=image,
            requested_by=doctor,
            state="failed" if has_failed else "succeeded",
            queued_at=at,
            started_at=at,
            finished_at=at,
            error="The file is damaged." if has_failed else "",
            model_version="" if has_failed else version,
            malignant_probability=None if has_failed else 0.5,
        )
        analyses.append(analysis)
        if has_failed:
            continue
        top, score = pick.choice(classes), round(pick.random(), 3)
        records.append(
            InferenceRecord(
                analysis=analysis,
                model_version=version,
                top_class=top,
                confidence=0.5,
                malignant_probability=score,
                embedding=b"x" * 2048,
                input_stats={"width": 512},
                step_ms={"read": 4.0, "classify": 60.0, "outline": 32.0, "findings": 1.0, "compose": 0.5},
                duration_ms=int(pick.lognormvariate(4.7, 0.4)),
                queue_wait_ms=int(pick.expovariate(1 / 4000)),
                created_at=at,
            )
        )
        if number % 5 == 0:
            reviews.append(ImageReview(image=image, revision=1, diagnosis=pick.choice(classes), by=doctor, at=at))
    rows: Any
    for model, rows in (
        (Study, [study for study, _at in studies]),
        (Image, images),
        (Analysis, analyses),
        (InferenceRecord, records),
        (ImageReview, reviews),
        (FirstImpression, impressions),
    ):
        model._base_manager.bulk_create(rows, batch_size=2000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def test_pages_of_figures_at_100_000_analyses(client: Client) -> None:
    doctor = DoctorFactory()
    write_work(doctor, count=MANY)
    seconds: dict[str, float] = {}
    for who, person in (
        ("hospital", doctor),
        ("everything", AdministratorFactory(hospital=None, is_superuser=True)),
    ):
        client.force_login(person)
        for name in PAGES:
            for days in (30, 365):
                took = []
                for _try in range(3):
                    started = time.perf_counter()
                    response = client.get(reverse("dashboard:page", args=[name]), {"days": days})
                    took.append(time.perf_counter() - started)
                    assert response.status_code == 200
                seconds[f"{who}, {name}, {days} days"] = statistics.median(took)
    lines = [f"{connection.vendor}: {label}: {value:.2f} s" for label, value in seconds.items()]
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert max(seconds.values()) < ACCEPTABLE_S
