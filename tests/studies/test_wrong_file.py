"""A wrong file is named at once, also while other fields of the form are still wrong."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from studies.models import Patient, Study
from tests.factories import DoctorFactory

pytestmark = pytest.mark.django_db


def test_a_wrong_file_is_named_together_with_the_missing_fields(client: Client) -> None:
    client.force_login(DoctorFactory())
    wrong = SimpleUploadedFile("slice.png", b"I am a text file, whatever my name says.", content_type="image/png")
    answer = client.post(reverse("studies:study_create"), {"record_number": "R-1", "slices": wrong})
    assert answer.status_code == 400
    form = answer.context["form"]
    assert form.errors["family_name"]
    assert any("lease" in sentence for sentence in form.errors["slices"])
    assert not Study.objects.exists()
    assert not Patient.objects.exists()
