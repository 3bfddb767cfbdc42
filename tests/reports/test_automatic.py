"""The automatic report on a patient's own upload: marked on page and paper, frozen, nobody else's."""

import io
import json

import pytest
from django.test import Client
from django.urls import reverse
from pypdf import PdfReader
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from accounts.models import AccessEvent
from reports.automatic import automatic_report_of, render_automatic
from reports.errors import PdfError
from reports.models import AutomaticReport
from studies.models import Analysis, Study
from tests.factories import AnalysisFactory, OwnStudyFactory, UserFactory, answer, finish

pytestmark = pytest.mark.django_db
MARK = "Automatic, not read by a doctor"


@pytest.fixture
def study() -> Study:
    return OwnStudyFactory(is_done=True)


@pytest.fixture
def page(client: Client, study: Study) -> Client:
    client.force_login(study.created_by)
    return client


def address(study: Study, name: str = "automatic_report") -> str:
    return reverse(f"reports:{name}", args=[study.id])


def text_of(pdf: bytes) -> str:
    return " ".join(" ".join(one.extract_text() for one in PdfReader(io.BytesIO(pdf)).pages).split())


def test_the_page_says_that_no_doctor_has_read_it(page: Client, study: Study) -> None:
    response = page.get(address(study))
    assertContains(response, MARK)
    assertContains(response, "No doctor has looked at this picture.")
    assertContains(response, "Show this to a doctor before you decide anything.")
    assertContains(response, "not your chance of having cancer")
    assertNotContains(response, "The doctor's words count")
    assert AccessEvent.objects.filter(target_type="reports.automaticreport", action="viewed").count() == 1


def test_never_a_bare_percentage(page: Client, study: Study) -> None:
    body = page.get(address(study)).content.decode()
    assert "%" not in body.split("<main", 1)[1].split("</main>", 1)[0]


def test_the_pdf_is_marked_on_every_page(page: Client, study: Study) -> None:
    page.get(address(study))
    response = page.get(address(study, "automatic_pdf"))
    assert response["Content-Type"] == "application/pdf"
    assert response["Cache-Control"] == "private, no-store"
    for one in PdfReader(io.BytesIO(response.content)).pages:
        assert MARK in " ".join(one.extract_text().split())
    text = text_of(response.content)
    assert study.patient.full_name in text
    assert "Signed" not in text
    assert response.content == render_automatic(AutomaticReport.objects.get())
    assert AccessEvent.objects.filter(target_type="reports.automaticreport", action="downloaded").count() == 1


def test_hostile_names_are_printed_and_never_followed() -> None:
    owner = UserFactory(given_name="<img src=http://evil.example/x>", family_name="& Söhne 北")
    report = automatic_report_of(OwnStudyFactory(created_by=owner, is_done=True))
    assert report is not None
    assert "<img" in text_of(render_automatic(report))


def test_before_the_answer_the_waiting_page_is_shown(client: Client) -> None:
    study = OwnStudyFactory()
    client.force_login(study.created_by)
    assertRedirects(client.get(address(study)), reverse("studies:own_study", args=[study.id]))
    for name in ("automatic_pdf", "automatic_overlay"):
        assert client.get(address(study, name)).status_code == 404
    assert not AutomaticReport.objects.exists()


def test_what_was_told_stays_whatever_model_comes_later(page: Client, study: Study) -> None:
    first = page.get(address(study)).context["content"]
    later = Analysis.objects.claim(AnalysisFactory(image=study.images.get(), requested_by=study.created_by).id)
    assert later is not None
    finish(later, result=answer(model_version="test-2", malignant_probability=0.01))
    assert page.get(address(study)).context["content"] == first
    report = AutomaticReport.objects.get()
    assert report.is_intact
    report.frozen = json.loads(json.dumps(report.frozen).replace("0.885", "0.001"))
    assert not report.is_intact


def test_two_requests_at_once_get_the_same_report(study: Study) -> None:
    first = automatic_report_of(study)
    assert first is not None
    assert AutomaticReport.freeze(study, content=first.content) == first
    assert AutomaticReport.objects.count() == 1


def test_a_missing_picture_is_told_and_no_error_page(page: Client, study: Study) -> None:
    page.get(address(study))
    image = study.images.get()
    image.file.storage.delete(image.file.name)
    assert page.get(address(study, "automatic_pdf")).status_code == 500
    with pytest.raises(PdfError):
        render_automatic(AutomaticReport.objects.get())


def test_somebody_else_s_report_does_not_exist(client: Client, study: Study) -> None:
    automatic_report_of(study)
    client.force_login(UserFactory())
    for name in ("automatic_report", "automatic_pdf", "automatic_overlay"):
        assert client.get(address(study, name)).status_code == 404
