"""The reading page as the server sends it: what is on it, for whom, and what it keeps quiet about at first."""

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from accounts.models import AccessEvent, User
from studies.models import Analysis, FindingReview, FirstImpression, Image, Study
from studies.permissions import grant_study
from tests.factories import (
    AnalysisFactory,
    DoctorFactory,
    FirstImpressionFactory,
    HospitalFactory,
    ImageFactory,
    StudyFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def doctor() -> User:
    return DoctorFactory(hospital=HospitalFactory(reads_first=True))


@pytest.fixture
def page(client: Client, doctor: User) -> Client:
    client.force_login(doctor)
    return client


@pytest.fixture
def study(doctor: User) -> Study:
    """Three slices, numbered 2, 5 and 9, all analysed."""
    study = StudyFactory(created_by=doctor)
    for number in (2, 5, 9):
        AnalysisFactory(image=ImageFactory(study=study, number=number), is_done=True)
    return study


def address(name: str, **kwargs: Any) -> str:
    return reverse(f"studies:{name}", kwargs=kwargs)


def text_of(client: Client, study: Study, *, query: str = "", name: str = "study_read") -> str:
    response = client.get(address(name, study_id=study.id) + query)
    assert response.status_code == 200
    return response.content.decode()


def test_the_plain_picture_stands_on_the_page_with_the_way_to_its_neighbours(page: Client, study: Study) -> None:
    text = text_of(page, study, query="?slice=5")
    image = study.images.get(number=5)
    assert f'src="{address("image_file", image_id=image.id)}"' in text
    assert re.search(r'rel="prev" href="\?slice=2"', text)
    assert re.search(r'rel="next" href="\?slice=9"', text)
    assert "Slice 2 of 3" in text


@pytest.mark.parametrize("number", [None, "", "77", "-1", "x", "٣", "9" * 40])
def test_a_slice_that_is_not_there_shows_the_first_one(page: Client, study: Study, number: str | None) -> None:
    text = text_of(page, study, query="" if number is None else f"?slice={number}")
    assert address("image_file", image_id=study.images.get(number=2).id) in text
    assert 'rel="prev"' not in text


def test_before_the_first_impression_nothing_of_the_answer_is_on_the_page(page: Client, study: Study) -> None:
    for name in ("study_read", "study_read_panel"):
        text = text_of(page, study, name=name)
        for words in ("test-1", "88%", "89%", "82%", "overlay.png", "mask.png", "activation.png", "outline.png"):
            assert words not in text, (name, words)
        assert "Your judgement" not in text
        assert "The software on slice" not in text
    assert "Your first impression" in text_of(page, study)


def test_after_the_first_impression_the_answer_and_the_judgements_are_there(
    page: Client, study: Study, doctor: User
) -> None:
    FirstImpressionFactory(study=study, doctor=doctor)
    text = text_of(page, study)
    for words in (
        "The software on slice 2",
        "Your judgement",
        "Model test-1",
        "Your first impression and the software",
    ):
        assert words in text, words
    assert "Note it and show what the software says" not in text


def test_the_impression_of_a_colleague_reveals_nothing_to_me(page: Client, study: Study, doctor: User) -> None:
    colleague = DoctorFactory(hospital=doctor.hospital)
    grant_study(study, to=colleague, can_change=True)
    FirstImpressionFactory(study=study, doctor=colleague)
    assert "The software on slice" not in text_of(page, study)


def test_a_hospital_that_does_not_read_first_shows_the_answer_at_once(client: Client) -> None:
    doctor = DoctorFactory(hospital=HospitalFactory(reads_first=False))
    image = ImageFactory(study=StudyFactory(created_by=doctor))
    AnalysisFactory(image=image, is_done=True)
    client.force_login(doctor)
    assert f"The software on slice {image.number}" in text_of(client, image.study)


def test_a_doctor_of_another_hospital_finds_no_page(client: Client, study: Study) -> None:
    stranger = DoctorFactory()
    client.force_login(stranger)
    for name in ("study_read", "study_read_panel"):
        assert client.get(address(name, study_id=study.id)).status_code == 404
    assert not AccessEvent.objects.filter(actor=stranger, target_id=study.id).exists()


def test_reading_is_recorded_and_never_cached(page: Client, study: Study, doctor: User) -> None:
    response = page.get(address("study_read", study_id=study.id))
    assert "no-store" in response["Cache-Control"]
    assert AccessEvent.objects.filter(actor=doctor, target_id=study.id, action=AccessEvent.Action.VIEWED).count() == 1


def test_a_reader_who_may_not_change_the_study_gets_no_brush(client: Client, study: Study, doctor: User) -> None:
    reader = DoctorFactory(hospital=doctor.hospital)
    grant_study(study, to=reader, can_change=False)
    FirstImpressionFactory(study=study, doctor=reader)
    client.force_login(reader)
    text = text_of(client, study)
    assert "data-outline-editor" not in text
    assert 'value="accepted"' not in text
    assert "The software on slice 2" in text


def test_a_study_without_slices_says_so(page: Client, doctor: User) -> None:
    response = page.get(address("study_read", study_id=StudyFactory(created_by=doctor).id))
    assertContains(response, "This study has no slice yet.")
    assertNotContains(response, "data-reading")


def test_the_panel_asks_for_news_only_while_something_is_being_analysed(page: Client, study: Study) -> None:
    assert "hx-get" not in text_of(page, study, name="study_read_panel")
    waiting = AnalysisFactory(image=study.images.get(number=9))
    text = text_of(page, study, name="study_read_panel")
    assert "1 slice of this study is still being analysed." in text
    seen = re.search(r"seen=([0-9a-f]{16})", text)
    assert seen
    again = address("study_read_panel", study_id=study.id) + f"?slice=2&seen={seen[1]}"
    assert page.get(again).status_code == 204
    claimed = Analysis.objects.claim(waiting.id)
    assert claimed is not None
    claimed.fail("The file is damaged. Please upload it again.")
    response = page.get(again)
    assertNotContains(response, "hx-get")
    assertContains(page.get(again.replace("slice=2", "slice=9")), "The file is damaged.")


def test_the_first_impression_noted_while_reading_leads_back_to_the_reading_page(page: Client, study: Study) -> None:
    assert 'name="back" value="read"' in text_of(page, study, query="?slice=5")
    response = page.post(
        address("first_impression", study_id=study.id),
        {"diagnosis": "unsure", "suspicion": 3, "note": "", "slice": 5, "back": "read"},
    )
    assertRedirects(response, address("study_read", study_id=study.id) + "?slice=5")
    assert FirstImpression.objects.filter(study=study).count() == 1


def test_a_judgement_given_while_reading_leads_back_to_the_reading_page(
    page: Client, study: Study, doctor: User
) -> None:
    FirstImpressionFactory(study=study, doctor=doctor)
    finding = study.images.get(number=5).latest_success.findings.get()  # type: ignore[union-attr] # analysed above
    form = address("finding_reviews", lesion_id=finding.id)
    assert f"{form}?back=read" in text_of(page, study, query="?slice=5")
    assertContains(page.get(f"{form}?back=read"), 'name="back" value="read"')
    response = page.post(form, {"verdict": "accepted", "seen": "", "back": "read"})
    assertRedirects(response, address("study_read", study_id=study.id) + "?slice=5")
    assert FindingReview.objects.filter(lesion_id=finding.id).count() == 1


def test_an_address_that_was_made_up_leads_nowhere_else(page: Client, study: Study) -> None:
    response = page.post(
        address("first_impression", study_id=study.id),
        {"diagnosis": "unsure", "suspicion": 3, "back": "https://example.com/", "slice": "//example.com"},
    )
    assertRedirects(response, address("study_detail", study_id=study.id))


def test_a_study_of_many_slices_costs_as_many_queries_as_one_of_few(page: Client, study: Study, doctor: User) -> None:
    FirstImpressionFactory(study=study, doctor=doctor)
    page.get(address("study_read", study_id=study.id))

    def cost() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert page.get(address("study_read", study_id=study.id)).status_code == 200
        return len(queries)

    few = cost()
    Image.objects.bulk_create(
        Image(
            study=study,
            number=number,
            file="images/none.png",
            sha256=f"{number:064}",
            byte_size=1,
            width=96,
            height=96,
            source_format="PNG",
            uploaded_by=doctor,
        )
        for number in range(10, 60)
    )
    assert cost() == few


def test_the_viewer_is_told_hounsfield_units_where_the_file_told_them(page: Client, study: Study) -> None:
    study.images.filter(number=5).update(black_hu=-1050.0, white_hu=850.0)
    slices = page.get(address("reading", study_id=study.id)).json()["slices"]
    assert [one["hounsfield"] for one in slices] == [None, {"slope": 1900 / 255, "intercept": -1050.0}, None]
