"""A slice that was analysed again: what was judged of the earlier answer is shown, and said again by one press."""

from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains

from accounts.models import Hospital, User
from studies.earlier import count_earlier_judgements, earlier_judgements, overlap
from studies.models import Finding, FindingReview, Image, judged_findings
from studies.permissions import grant_study
from studies.reviewing import Judgement, review_finding
from tests.factories import (
    AnalysisFactory,
    DoctorFactory,
    ImageFactory,
    ReportFactory,
    StudyFactory,
    answer,
    outline_png,
)
from tests.reports.conftest import finding as finding_at

pytestmark = pytest.mark.django_db
NOTICE = "This slice was analysed again."


@pytest.fixture
def doctor() -> User:
    return DoctorFactory()


@pytest.fixture
def image(doctor: User) -> Image:
    """A slice on which the software outlined (40, 40, 10, 12)."""
    slice_ = ImageFactory(study=StudyFactory(created_by=doctor))
    AnalysisFactory(image=slice_, is_done=True)
    return slice_


@pytest.fixture
def page(client: Client, doctor: User) -> Client:
    client.force_login(doctor)
    return client


def judge(image: Image, *, by: User, **judgement: Any) -> FindingReview:
    finding = Finding.objects.get(analysis=image.latest_success)
    return review_finding(image, lesion_id=finding.id, by=by, judgement=Judgement(**judgement), seen=None)


def analyse_again(image: Image, *, box: tuple[int, int, int, int] | None = (41, 39, 10, 12)) -> None:
    mask = np.zeros((96, 96), np.uint8)
    findings = ()
    if box:
        x, y, width, height = box
        mask[y : y + height, x : x + width] = 255
        findings = (finding_at(box=box),)
    AnalysisFactory(image=image, is_done=True, result=answer(findings=findings, mask=mask, model_version="test-2"))


def earlier(image: Image) -> tuple[Any, ...]:
    return earlier_judgements(image, judged=judged_findings([image])[image.id])


def send(page: Client, image: Image) -> None:
    """Press the button under the one earlier judgement, as a browser sends its form."""
    response = page.get(reverse("studies:study_read", args=[image.study_id]))
    assertContains(response, NOTICE)
    (one,) = response.context["earlier"]
    name, key = ("finding", one.successor.lesion_id) if one.successor else ("image", image.id)
    assert page.post(reverse(f"studies:{name}_reviews", args=[key]), dict(one.fields)).status_code == 302


def test_without_a_second_answer_nothing_is_earlier(image: Image, doctor: User, page: Client) -> None:
    judge(image, by=doctor, verdict="rejected")
    assert earlier(image) == ()
    assertNotContains(page.get(reverse("studies:study_read", args=[image.study_id])), NOTICE)
    AnalysisFactory(image=image, has_failed=True)
    assert earlier(image) == (), "a second analysis without an answer changes nothing"


@pytest.mark.parametrize("name", ["study_read", "study_detail"])
def test_the_pages_show_what_was_judged_of_the_earlier_answer(
    image: Image, doctor: User, page: Client, name: str
) -> None:
    judge(image, by=doctor, verdict="corrected", diagnosis="squamous_cell_carcinoma", note="Spiculated <edge>.")
    analyse_again(image)
    response = page.get(reverse(f"studies:{name}", args=[image.study_id]))
    assertContains(response, NOTICE)
    assertContains(response, "“Spiculated &lt;edge&gt;.”")
    assertContains(response, "Say the same of finding 1")


@pytest.mark.parametrize("verdict", ["accepted", "rejected"])
def test_one_press_says_the_same_of_the_finding_in_the_same_place(
    image: Image, doctor: User, page: Client, verdict: str
) -> None:
    judge(image, by=doctor, verdict=verdict)
    analyse_again(image)
    assert [one.verdict for one in judged_findings([image])[image.id]] == [""]
    send(page, image)
    assert [one.verdict for one in judged_findings([image])[image.id]] == [verdict]
    assert earlier(image) == ()


def test_a_drawn_outline_goes_along_with_class_suspicion_and_note(image: Image, doctor: User, page: Client) -> None:
    before = judge(
        image, by=doctor, verdict="corrected", outline=outline_png(box=(38, 38, 14, 15)),
        diagnosis="adenocarcinoma", malignancy=5, is_malignancy_said=True, note="Grown.",
    )  # fmt: skip
    analyse_again(image)
    send(page, image)
    (found,) = judged_findings([image])[image.id]
    after = found.review
    assert after is not None
    assert after.id != before.id
    for name in ("verdict", "diagnosis", "malignancy", "note", "outline_sha256", "area_px", "long_axis_px"):
        assert getattr(after, name) == getattr(before, name), name


def test_a_typed_diameter_goes_along(image: Image, doctor: User, page: Client) -> None:
    judge(image, by=doctor, verdict="corrected", diameter_px=17.25)
    analyse_again(image)
    send(page, image)
    (found,) = judged_findings([image])[image.id]
    assert (found.long_axis_px, found.short_axis_px) == (17.25, None)


@pytest.mark.parametrize("verdict", ["accepted", "corrected"])
def test_what_the_new_answer_misses_can_be_added_with_its_outline(
    image: Image, doctor: User, page: Client, verdict: str
) -> None:
    judge(image, by=doctor, verdict=verdict, **({"outline": outline_png()} if verdict == "corrected" else {}))
    analyse_again(image, box=None)
    assertContains(page.get(reverse("studies:study_read", args=[image.study_id])), "Add it as a finding of your own")
    send(page, image)
    (found,) = judged_findings([image])[image.id]
    assert (found.source, found.box) == ("doctor", (40, 40, 10, 12) if verdict == "accepted" else (30, 20, 12, 8))
    assert earlier(image) == ()


def test_a_rejection_of_what_is_not_found_any_more_is_no_news(image: Image, doctor: User) -> None:
    judge(image, by=doctor, verdict="rejected")
    analyse_again(image, box=(5, 5, 12, 12))
    assert earlier(image) == ()


def test_what_was_judged_anew_is_settled(image: Image, doctor: User) -> None:
    judge(image, by=doctor, verdict="accepted")
    analyse_again(image)
    assert count_earlier_judgements([image]) == 1
    judge(image, by=doctor, verdict="rejected")
    assert count_earlier_judgements([image]) == 0


def test_of_several_earlier_answers_the_latest_judgement_speaks(image: Image, doctor: User) -> None:
    judge(image, by=doctor, verdict="accepted")
    analyse_again(image)
    judge(image, by=doctor, verdict="rejected")
    analyse_again(image, box=(40, 40, 10, 12))
    assert [one.review.verdict for one in earlier(image)] == ["rejected"]


def test_draft_and_signing_page_say_what_they_leave_out(image: Image, doctor: User, page: Client) -> None:
    judge(image, by=doctor, verdict="accepted")
    report = ReportFactory(study=image.study, created_by=doctor)
    addresses = [reverse(f"reports:report_{name}", args=[report.id]) for name in ("detail", "sign")]
    for address in addresses:
        assertNotContains(page.get(address), "of an earlier answer")
    analyse_again(image)
    for address in addresses:
        assertContains(page.get(address), "1 judgement of an earlier answer of the software is not part of this report")


def test_whoever_may_only_read_sees_it_without_a_button(image: Image, doctor: User, client: Client) -> None:
    judge(image, by=doctor, verdict="accepted")
    analyse_again(image)
    reader = DoctorFactory(hospital=doctor.hospital)
    grant_study(image.study, to=reader, can_change=False)
    client.force_login(reader)
    response = client.get(reverse("studies:study_read", args=[image.study_id]))
    assertContains(response, NOTICE)
    assertNotContains(response, "Say the same")


def test_nothing_of_it_is_told_before_the_first_impression(image: Image, doctor: User, page: Client) -> None:
    judge(image, by=doctor, verdict="accepted")
    analyse_again(image)
    Hospital.objects.update(reads_first=True)
    for name in ("study_read", "study_detail"):
        assertNotContains(page.get(reverse(f"studies:{name}", args=[image.study_id])), NOTICE)


@pytest.mark.parametrize(
    ("other", "share"),
    [((0, 0, 10, 10), 1.0), ((5, 0, 10, 10), 1 / 3), ((10, 0, 10, 10), 0.0), ((20, 20, 5, 5), 0.0)],
)
def test_overlap_is_intersection_over_union(other: tuple[int, int, int, int], share: float) -> None:
    assert overlap((0, 0, 10, 10), other) == pytest.approx(share)
