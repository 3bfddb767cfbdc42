"""Logs hold identifiers and counts: no name, e-mail address, file name, text, search or secret of a link."""

import logging
import re
from datetime import timedelta
from types import SimpleNamespace

import pytest
from allauth.account.models import EmailAddress
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from gunicorn.config import Config

from portal.weblog import AccessLogger
from studies.models import Analysis, Study
from studies.tasks import analyse_image
from tests.factories import DoctorFactory, PatientFactory, UserFactory, slice_png

SECRETS = ("Quetzalcoatl", "Xenophon", "ZZ-990077", "unmistakable", "Vercingetorix", "a-long-password", "zanzibar")


@pytest.mark.django_db(transaction=True)
def test_a_whole_journey_leaves_no_name_in_the_log(
    client: Client, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    # SQL with its values is what Django logs for developers with DEBUG=True, which production cannot have.
    logging.getLogger("django.db.backends").setLevel(logging.INFO)
    logging.getLogger("factory").setLevel(logging.INFO)
    logging.getLogger("faker").setLevel(logging.INFO)
    client.raise_request_exception = False
    doctor = DoctorFactory(given_name="Vercingetorix", email="vercingetorix@example.org")
    EmailAddress.objects.create(user=doctor, email=doctor.email, verified=True, primary=True)
    patient = PatientFactory(
        created_by=doctor,
        user=UserFactory(email="xenophon@example.org"),
        given_name="Xenophon",
        family_name="Quetzalcoatl",
        record_number="ZZ-990077",
    )
    client.post(reverse("account_login"), {"login": doctor.email, "password": "zanzibar"})
    client.force_login(doctor)
    client.get(reverse("studies:patient_list"), {"q": "Quetzalcoatl"})
    for content in (b"no picture", slice_png()):
        client.post(
            reverse("studies:study_create"),
            {
                "patient": str(patient.id),
                "study_date": "2026-03-09",
                "clinical_question": "Vercingetorix asks",
                "slices": SimpleUploadedFile("unmistakable-Quetzalcoatl.png", content),
            },
        )
    study = Study.objects.filter(patient=patient).first()
    assert study is not None
    analysis = Analysis.objects.get(image__study=study)
    analysis.image.file.storage.delete(analysis.image.file.name)
    analyse_image(str(analysis.id))  # a surprise, with a traceback
    client.get(reverse("studies:image_file", args=[analysis.image_id]))
    client.get(reverse("studies:study_detail", args=[study.id]), {"slice": "Quetzalcoatl"})
    client.get("/no/such/page/", {"q": "Quetzalcoatl"})
    client.post(reverse("studies:patient_edit", args=[patient.id]), {"given_name": "Xenophon"})
    written = caplog.text + "".join(capfd.readouterr())
    assert str(analysis.id) in written
    assert [secret for secret in SECRETS if secret.lower() in written.lower()] == []


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("/studies/?q=Quetzalcoatl&state=done", "/studies/"),
        ("/accounts/password/reset/key/1-abc-s3cret/", "/accounts/password/reset/key/…"),
        ("/accounts/confirm-email/MQ:s3cret:x/", "/accounts/confirm-email/…"),
        ("/reports/shared/s3cret/?code=123456", "/reports/shared/…"),
        ("/studies/claim/s3cret/", "/studies/claim/…"),
        ("/studies/11111111-1111-1111-1111-111111111111/", "/studies/11111111-1111-1111-1111-111111111111/"),
    ],
)
def test_the_access_log_has_no_searches_and_no_secrets(address: str, shown: str) -> None:
    logger = AccessLogger(Config())
    path, _, query = address.partition("?")
    environ = {
        "REQUEST_METHOD": "GET",
        "RAW_URI": address,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_REFERER": f"https://portal.example.org{address}",
    }
    response = SimpleNamespace(status="200 OK", sent=1, headers=[])
    request = SimpleNamespace(headers=[])
    atoms = logger.atoms(response, request, environ, timedelta(seconds=1))
    line = Config().access_log_format % logger.atoms_wrapper_class(atoms)
    assert f"GET {shown} HTTP/1.1" in line
    assert not re.search(r"Quetzalcoatl|s3cret|123456", line)


@pytest.mark.django_db
def test_a_refused_request_does_not_log_the_secret_of_its_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = Client(enforce_csrf_checks=True)
    address = reverse("reports:share_open", args=["s3cret"])
    assert client.get(address).status_code == 404
    assert client.post(address).status_code == 403
    assert client.get(reverse("studies:claim_invitation", args=["s3cret"])).status_code == 410
    assert "Not Found: /reports/shared/…" in caplog.text
    assert "s3cret" not in caplog.text
