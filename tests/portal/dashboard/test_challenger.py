"""The challenger beside the champion on the pages of figures."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from portal.dashboard.estimates import ENOUGH
from studies.models import ImageReview, ShadowAnswer
from tests.factories import AdministratorFactory, AnalysisFactory, DoctorFactory, ImageFactory, StudyFactory

pytestmark = pytest.mark.django_db


def rows_for(user: User, **query: str) -> list[tuple[object, ...]]:
    client = Client()
    client.force_login(user)
    page = client.get(reverse("dashboard:page", args=["model"]), query)
    assert page.status_code == 200
    panel = next(panel for panel in page.context["panels"] if panel.key == "challenger")
    return list(panel.table.rows)


def answered_in_shadow(doctor: User, *, top_class: str, judged: str) -> None:
    """One slice that the champion calls an adenocarcinoma, a challenger this, and the doctor that."""
    image = ImageFactory(study=StudyFactory(created_by=doctor))
    analysis = AnalysisFactory(image=image, is_done=True)
    ShadowAnswer.objects.create(
        analysis=analysis,
        version="v2",
        state="answered",
        top_class=top_class,
        malignant_probability=0.9,
        malignant_threshold=0.5,
        duration_ms=200,
    )
    ImageReview.objects.create(image=image, revision=1, diagnosis=judged, by=doctor)


def test_it_counts_agreement_latency_and_corrections_of_the_own_hospital_for_administrators() -> None:
    doctor, stranger = DoctorFactory(), DoctorFactory()
    for number in range(ENOUGH):
        answered_in_shadow(doctor, top_class="adenocarcinoma" if number % 2 else "normal", judged="adenocarcinoma")
    answered_in_shadow(stranger, top_class="normal", judged="normal")
    (row,) = rows_for(AdministratorFactory(hospital=doctor.hospital))
    agreeing = ENOUGH // 2
    assert row[:5] == ("v2", ENOUGH, 0, agreeing / ENOUGH, 1.0)
    assert row[6] == 200
    assert row[9:12] == (ENOUGH, 1.0, agreeing / ENOUGH)
    (few,) = rows_for(AdministratorFactory(hospital=stranger.hospital))
    assert (few[1], few[3], few[10], few[12]) == (1, None, None, None)
    root = User.objects.create_superuser("root@example.org", "a-long-password", given_name="R", family_name="O")
    assert rows_for(root)[0][1] == ENOUGH + 1


def test_doctors_are_shown_nothing_of_it() -> None:
    doctor = DoctorFactory()
    answered_in_shadow(doctor, top_class="normal", judged="normal")
    assert rows_for(doctor) == []
