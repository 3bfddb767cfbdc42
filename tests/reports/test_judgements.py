"""What doctors judged stands in draft and signed content, with their names; what they rejected does not count."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains

from accounts.models import User
from reports.content import ReportContent, collect_slices
from reports.drafting import draft_report, findings_prose
from reports.models import Report
from studies.models import Finding, Image
from studies.reviewing import Judgement, add_finding, review_finding, review_image
from tests.factories import AnalysisFactory, ImageFactory, ReportFactory, StudyFactory, outline_png

pytestmark = pytest.mark.django_db


@pytest.fixture
def image(doctor: User) -> Image:
    slice_ = ImageFactory(study=StudyFactory(created_by=doctor))
    AnalysisFactory(image=slice_, is_done=True)
    return slice_


def judge(image: Image, *, by: User, **judgement: Any) -> None:
    finding = Finding.objects.get(analysis__image=image)
    review_finding(image, lesion_id=finding.id, by=by, judgement=Judgement(**judgement), seen=None)


def prose(image: Image) -> str:
    return findings_prose(image.study, slices=collect_slices(image.study))


def test_a_rejected_finding_is_named_as_rejected_and_measured_no_more(image: Image, doctor: User) -> None:
    judge(image, by=doctor, verdict="rejected")
    text = prose(image)
    assert "The software outlined 1 region." in text
    assert "Region 1 was rejected by Robin Hale." in text
    assert "longest diameter" not in text
    assert "No region counts" in draft_report(image.study, by=doctor).impression


def test_a_corrected_finding_stands_with_the_doctors_values_and_name(image: Image, doctor: User) -> None:
    judge(image, by=doctor, verdict="corrected", outline=outline_png(), diagnosis="squamous_cell_carcinoma")
    text = prose(image)
    assert "area 96 pixels" in text
    assert "corrected by Robin Hale, Squamous cell carcinoma" in text


def test_an_added_finding_and_a_judged_class_stand_in_the_draft(image: Image, doctor: User) -> None:
    add_finding(image, by=doctor, judgement=Judgement(verdict="added", diameter_px=17.0))
    review_image(image, by=doctor, diagnosis="large_cell_carcinoma", seen=None)
    text = prose(image)
    assert "Region 2: longest diameter 17 pixels; added by Robin Hale." in text
    assert "Class of the slice according to Robin Hale: Large cell carcinoma." in text


def test_a_finding_added_to_a_slice_without_an_answer_is_not_lost(image: Image, doctor: User) -> None:
    other = ImageFactory(study=image.study)
    add_finding(other, by=doctor, judgement=Judgement(verdict="added", diameter_px=17.0))
    assert "Region 1: longest diameter 17 pixels; added by Robin Hale." in prose(image)


def test_the_signed_content_keeps_who_judged_what(image: Image, doctor: User) -> None:
    judge(image, by=doctor, verdict="corrected", outline=outline_png(), note="Spiculated.")
    review_image(image, by=doctor, diagnosis="unsure", seen=None)
    report = ReportFactory(study=image.study, created_by=doctor, is_signed=True)
    frozen = Report.objects.get(id=report.id).signed_content
    (slice_,) = ReportContent.from_json(frozen).slices
    assert (slice_.findings[0].verdict, slice_.findings[0].judged_by) == ("corrected", "Robin Hale")
    assert (slice_.judged_class, slice_.class_judged_by) == ("Unsure", "Robin Hale")


def test_a_judgement_changes_what_a_signature_is_given_to(image: Image, doctor: User) -> None:
    report = draft_report(image.study, by=doctor)
    before = report.content.evidence
    review_image(image, by=doctor, diagnosis="unsure", seen=None)
    report.refresh_from_db()
    assert report.content.evidence != before


def test_who_edits_a_draft_is_told_that_findings_were_judged_since(client: Client, image: Image, doctor: User) -> None:
    report = draft_report(image.study, by=doctor)
    client.force_login(doctor)
    url = reverse("reports:report_detail", args=[report.id])
    assertNotContains(client.get(url), "Findings were judged after")
    judge(image, by=doctor, verdict="rejected")
    assertContains(client.get(url), "Findings were judged after")
    report.refresh_from_db()
    report.edit(by=doctor, revision=report.revision, findings_text="None.", impression="None.")
    assertNotContains(client.get(url), "Findings were judged after")
