"""The pages of a study, as a doctor sees them."""

import pytest
from django.test import Client
from django.urls import reverse

from tests.factories import AnalysisFactory, DoctorFactory, ImageFactory, StudyFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def doctor():
    return DoctorFactory()


@pytest.fixture
def page(client: Client, doctor) -> Client:
    client.force_login(doctor)
    return client


def test_every_page_of_a_doctor_opens(page, doctor):
    study = StudyFactory(created_by=doctor)
    AnalysisFactory(image=ImageFactory(study=study), is_done=True)
    AnalysisFactory(image=ImageFactory(study=study), has_failed=True)
    AnalysisFactory(image=ImageFactory(study=study))
    for name, kwargs in [
        ("study_list", {}),
        ("study_create", {}),
        ("study_detail", {"study_id": study.id}),
        ("study_status", {"study_id": study.id}),
        ("image_add", {"study_id": study.id}),
        ("study_share", {"study_id": study.id}),
        ("patient_list", {}),
        ("patient_create", {}),
        ("patient_detail", {"patient_id": study.patient_id}),
        ("patient_edit", {"patient_id": study.patient_id}),
    ]:
        assert page.get(reverse(f"studies:{name}", kwargs=kwargs)).status_code == 200, name
