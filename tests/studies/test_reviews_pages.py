"""The pages and addresses by which doctors note, judge and add, as browsers without JavaScript and as viewers ask."""

import base64
import io
import re
import uuid
from typing import Any

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from PIL import Image as PillowImage
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects
from pytest_django.fixtures import Settings

from accounts.models import AccessEvent, User
from ml.overlay import DOCTOR_COLOUR, OUTLINE_COLOUR
from studies.models import Finding, FindingReview, FirstImpression, Image, ImageReview
from studies.permissions import grant_study
from tests.factories import (
    AnalysisFactory,
    DoctorFactory,
    FirstImpressionFactory,
    HospitalFactory,
    ImageFactory,
    StudyFactory,
    outline_png,
)

pytestmark = pytest.mark.django_db

IMPRESSION = {"diagnosis": "adenocarcinoma", "suspicion": "4", "note": "A mass."}
JSON = {"headers": {"Accept": "application/json"}}


@pytest.fixture
def doctor() -> User:
    return DoctorFactory(hospital=HospitalFactory(reads_first=True))


@pytest.fixture
def page(client: Client, doctor: User) -> Client:
    client.force_login(doctor)
    return client


@pytest.fixture
def image(doctor: User) -> Image:
    slice_ = ImageFactory(study=StudyFactory(created_by=doctor))
    AnalysisFactory(image=slice_, is_done=True)
    return slice_


@pytest.fixture
def finding(image: Image) -> Finding:
    return Finding.objects.get(analysis__image=image)


@pytest.fixture
def revealed(image: Image) -> FirstImpression:
    return FirstImpressionFactory(study=image.study)


def address(name: str, **kwargs: Any) -> str:
    return reverse(f"studies:{name}", kwargs=kwargs)


def of_finding(finding: Finding) -> str:
    return address("finding_reviews", lesion_id=finding.id)


def drawn(**changes: Any) -> SimpleUploadedFile:
    return SimpleUploadedFile("outline.png", outline_png(**changes), content_type="image/png")


def other_browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


# --- reading.json -----------------------------------------------------------------------------------------------------


def test_a_viewer_learns_nothing_of_the_answer_before_it_is_revealed(page: Client, image: Image) -> None:
    response = page.get(address("reading", study_id=image.study_id))
    body = response.json()
    assert body["is_ai_revealed"] is False
    assert body["first_impression"] is None
    (slice_,) = body["slices"]
    assert (slice_["analysis"], slice_["reviews"], slice_["image_review"]) == (None, None, None)
    assert (slice_["number"], slice_["width"], slice_["height"]) == (1, 96, 96)
    assert "test-1" not in response.text
    assert response.headers["Cache-Control"].count("no-store")


def test_a_viewer_gets_the_answer_and_all_judgements_once_it_is_revealed(
    page: Client, image: Image, finding: Finding, revealed: FirstImpression
) -> None:
    page.post(of_finding(finding), {"verdict": "rejected", "note": "A vessel."})
    page.post(address("image_reviews", image_id=image.id), {"verdict": "added", "outline": drawn()})
    body = page.get(address("reading", study_id=image.study_id)).json()
    assert body["is_ai_revealed"] is True
    assert body["first_impression"]["suspicion"] == 4
    (slice_,) = body["slices"]
    (found,) = slice_["analysis"]["findings"]
    assert (found["box"], found["malignancy"], found["area_px"]) == ([40, 40, 10, 12], 0.82, 120)
    assert (found["review"]["verdict"], found["review"]["note"]) == ("rejected", "A vessel.")
    (added,) = slice_["reviews"]
    assert (added["verdict"], added["number"], added["box"], added["finding_id"]) == ("added", 2, [30, 20, 12, 8], None)
    for url in (
        slice_["picture_url"],
        slice_["analysis"]["overlay_url"],
        slice_["analysis"]["mask_url"],
        slice_["analysis"]["activation_url"],
        found["outline_url"],
        added["outline_url"],
    ):
        response = page.get(url)
        assert (response.status_code, response["Content-Type"]) == (200, "image/png"), url
        # Read to its end, which closes it as the server does; ``close()`` would close the database as well.
        assert response.getvalue()


def test_the_number_of_queries_does_not_grow_with_the_slices(page: Client, image: Image, revealed: Any) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert page.get(address("reading", study_id=image.study_id)).status_code == 200
        return len(captured)

    few = queries()
    for _ in range(4):
        AnalysisFactory(image=ImageFactory(study=image.study), is_done=True)
    assert queries() == few


def test_a_look_at_the_reading_is_recorded(page: Client, image: Image, doctor: User) -> None:
    page.get(address("reading", study_id=image.study_id))
    assert AccessEvent.objects.filter(actor=doctor, action="viewed", target_id=image.study_id).count() == 1


# --- first impression -------------------------------------------------------------------------------------------------


def test_noting_a_first_impression_reveals_the_answer(page: Client, image: Image, doctor: User) -> None:
    response = page.post(address("first_impression", study_id=image.study_id), IMPRESSION)
    assertRedirects(response, address("study_detail", study_id=image.study_id))
    noted = FirstImpression.objects.get()
    assert (noted.doctor, noted.diagnosis, noted.suspicion, noted.note) == (doctor, "adenocarcinoma", 4, "A mass.")
    assert image.study.reveals_ai_to(doctor)
    assert AccessEvent.objects.filter(action="created", target_id=noted.id).count() == 1


def test_a_script_gets_the_first_impression_as_json(page: Client, image: Image) -> None:
    response = page.post(address("first_impression", study_id=image.study_id), IMPRESSION, **JSON)
    assert response.json()["first_impression"]["diagnosis"] == "adenocarcinoma"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"diagnosis": ""}, "diagnosis"),
        ({"diagnosis": "flu"}, "diagnosis"),
        ({"suspicion": ""}, "suspicion"),
        ({"suspicion": "6"}, "suspicion"),
        ({"suspicion": "NaN"}, "suspicion"),
        ({"note": "x" * 2001}, "note"),
    ],
)
def test_an_incomplete_first_impression_keeps_what_was_typed(
    page: Client, image: Image, change: dict[str, str], field: str
) -> None:
    url = address("first_impression", study_id=image.study_id)
    response = page.post(url, IMPRESSION | change)
    assert response.status_code == 400
    assertContains(response, (IMPRESSION | change)["note"], status_code=400)
    assert field in page.post(url, IMPRESSION | change, **JSON).json()["errors"]
    assert not FirstImpression.objects.exists()


def test_a_second_first_impression_is_refused_and_its_text_is_shown(page: Client, image: Image, revealed: Any) -> None:
    url = address("first_impression", study_id=image.study_id)
    changed = IMPRESSION | {"note": "On second thoughts."}
    assertContains(page.post(url, changed), "On second thoughts.", status_code=409)
    response = page.post(url, changed, **JSON)
    assert response.status_code == 409
    assert response.json()["latest"]["note"] == ""
    assert page.get(url).status_code == 302


def test_the_same_first_impression_sent_twice_is_one(page: Client, image: Image) -> None:
    url = address("first_impression", study_id=image.study_id)
    assert [page.post(url, IMPRESSION).status_code for _ in range(2)] == [302, 302]
    assert FirstImpression.objects.count() == 1
    assert AccessEvent.objects.filter(action="created").count() == 1


def test_a_reader_notes_an_impression_too_but_judges_nothing(image: Image, finding: Finding, doctor: User) -> None:
    reader = DoctorFactory(hospital=doctor.hospital)
    grant_study(image.study, to=reader, can_change=False)
    browser = other_browser(reader)
    assert browser.post(of_finding(finding), {"verdict": "accepted"}).status_code == 403
    assert browser.post(address("first_impression", study_id=image.study_id), IMPRESSION).status_code == 302
    assert image.study.reveals_ai_to(reader)
    assert browser.post(of_finding(finding), {"verdict": "accepted"}).status_code == 403
    assert not FindingReview.objects.exists()


# --- judging ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [{"verdict": "accepted"}, {"verdict": "corrected", "diameter_px": "9"}])
def test_nothing_is_judged_before_the_first_impression(
    page: Client, image: Image, finding: Finding, data: dict[str, str]
) -> None:
    for url in (of_finding(finding), address("image_reviews", image_id=image.id)):
        assert page.get(url).status_code == 403
        assert page.post(url, data).status_code == 403
    assert not FindingReview.objects.exists()


def test_accept_and_reject_are_buttons_that_work_without_javascript(
    page: Client, image: Image, finding: Finding, revealed: Any
) -> None:
    response = page.post(of_finding(finding), {"verdict": "accepted", "seen": ""})
    assertRedirects(response, address("study_detail", study_id=image.study_id) + "?slice=1")
    stored = FindingReview.objects.get()
    page.post(of_finding(finding), {"verdict": "rejected", "seen": str(stored.id)})
    assert FindingReview.objects.latest_per_finding().get().verdict == "rejected"
    assert AccessEvent.objects.filter(action="created", target_type="studies.findingreview").count() == 2


def test_a_correction_by_a_plain_form_is_stored_with_outline_and_words(
    page: Client, image: Image, finding: Finding, revealed: Any
) -> None:
    assertContains(page.get(of_finding(finding)), "Save the correction")
    data = {
        "verdict": "corrected",
        "diagnosis": "large_cell_carcinoma",
        "malignancy": "5",
        "diameter_px": "",
        "outline": drawn(),
        "note": "Spiculated <b>margin</b>.",
        "seen": "",
    }
    response = page.post(of_finding(finding), data)
    assert response.status_code == 302
    stored = FindingReview.objects.get()
    assert (stored.diagnosis, stored.malignancy, stored.area_px) == ("large_cell_carcinoma", 5, 96)
    again = page.get(of_finding(finding))
    assertContains(again, "Spiculated &lt;b&gt;margin&lt;/b&gt;.")
    with PillowImage.open(io.BytesIO(b"".join(page.get(address("review_outline", review_id=stored.id))))) as outline:
        assert int((np.asarray(outline) == 255).sum()) == 96


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"diameter_px": "-3"}, "__all__"),
        ({"diameter_px": "NaN"}, "diameter_px"),
        ({"diameter_px": "Infinity"}, "diameter_px"),
        ({"diameter_px": "1e400"}, "diameter_px"),
        ({"diameter_px": "500"}, "__all__"),
        ({"diameter_mm": "12"}, "__all__"),
        ({"malignancy": "9"}, "malignancy"),
        ({"diagnosis": "flu"}, "diagnosis"),
        ({"diagnosis": "normal"}, "__all__"),
        ({"verdict": ""}, "verdict"),
        ({"verdict": "added"}, "__all__"),
        ({"seen": "not-an-id"}, "seen"),
        ({"note": "x" * 2001}, "note"),
        ({"note": "a\x00b"}, "note"),
        ({"outline_kept": "%%%"}, "outline"),
    ],
    ids=str,
)
def test_a_wrong_correction_is_refused_beside_its_field_and_nothing_typed_is_lost(
    page: Client, finding: Finding, revealed: Any, change: dict[str, str], field: str
) -> None:
    data = {"verdict": "corrected", "note": "Not to be lost.", "diagnosis": "unsure"} | change
    response = page.post(of_finding(finding), data, **JSON)
    assert response.status_code == 400
    assert field in response.json()["errors"]
    assert response.json()["error"]
    response = page.post(of_finding(finding), data)
    assert response.status_code == 400
    if "note" not in change:
        assertContains(response, "Not to be lost.", status_code=400)
    assert not FindingReview.objects.exists()


@pytest.mark.parametrize(
    "file",
    [b"", b"text", outline_png(side_px=97), outline_png(value=100), outline_png(value=0), outline_png()[:50]],
    ids=["empty", "text", "another size", "not binary", "nothing drawn", "cut short"],
)
def test_a_hostile_outline_is_refused_and_the_words_stay(
    page: Client, finding: Finding, revealed: Any, file: bytes
) -> None:
    data = {"verdict": "corrected", "note": "Not to be lost.", "outline": SimpleUploadedFile("o.png", file)}
    response = page.post(of_finding(finding), data)
    assertContains(response, "Not to be lost.", status_code=400)
    data["outline"] = SimpleUploadedFile("o.png", file)
    response = page.post(of_finding(finding), data, **JSON)
    assert response.json()["errors"]["outline"]
    assert not FindingReview.objects.exists()


def test_an_outline_larger_than_any_upload_is_refused(
    page: Client, finding: Finding, revealed: Any, settings: Settings
) -> None:
    settings.UPLOAD_MAX_BYTES = 1000
    file = SimpleUploadedFile("o.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 5000)
    response = page.post(of_finding(finding), {"verdict": "corrected", "outline": file}, **JSON)
    assert response.status_code == 400
    assert not FindingReview.objects.exists()


def test_a_stale_judgement_is_told_and_keeps_text_and_outline(
    page: Client, image: Image, finding: Finding, revealed: Any, doctor: User
) -> None:
    colleague = DoctorFactory(hospital=doctor.hospital, family_name="Faster")
    grant_study(image.study, to=colleague, can_change=True)
    FirstImpressionFactory(study=image.study, doctor=colleague)
    other_browser(colleague).post(of_finding(finding), {"verdict": "rejected"})

    def mine() -> dict[str, Any]:
        return {"verdict": "corrected", "note": "Not to be lost.", "outline": drawn(), "seen": ""}

    told = page.post(of_finding(finding), mine(), **JSON)
    assert told.status_code == 409
    assert "Faster" in told.json()["error"]
    assert told.json()["latest"]["verdict"] == "rejected"

    response = page.post(of_finding(finding), mine())
    assertContains(response, "Not to be lost.", status_code=409)
    form = response.context["form"]
    kept = response.context["kept_outline"]
    with PillowImage.open(io.BytesIO(base64.b64decode(kept))) as outline:
        assert int((np.asarray(outline) == 255).sum()) == 96
    assertContains(response, f'name="outline_kept" value="{kept}"', status_code=409)
    # Sending the page as it is now stands by the judgement, outline included.
    again = {
        "verdict": "corrected",
        "note": form.initial["note"],
        "outline_kept": kept,
        "seen": str(form.initial["seen"]),
    }
    assert page.post(of_finding(finding), again).status_code == 302
    latest = FindingReview.objects.latest_per_finding().get()
    assert (latest.by, latest.revision, latest.note, latest.area_px) == (doctor, 2, "Not to be lost.", 96)


def test_an_outline_survives_a_mistake_elsewhere_in_the_form(page: Client, finding: Finding, revealed: Any) -> None:
    data = {"verdict": "corrected", "malignancy": "9", "outline": drawn()}
    kept = page.post(of_finding(finding), data).context["kept_outline"]
    page.post(of_finding(finding), {"verdict": "corrected", "malignancy": "5", "outline_kept": kept})
    assert FindingReview.objects.get().area_px == 96


def test_a_double_click_judges_once(page: Client, finding: Finding, revealed: Any) -> None:
    answers = [page.post(of_finding(finding), {"verdict": "corrected", "outline": drawn()}, **JSON) for _ in range(2)]
    assert [response.status_code for response in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert FindingReview.objects.count() == 1
    assert AccessEvent.objects.filter(action="created").count() == 1


# --- adding, and the class of a slice ---------------------------------------------------------------------------------


def test_a_missed_finding_is_added_once_however_often_the_form_is_sent(
    page: Client, image: Image, revealed: Any
) -> None:
    url = address("image_reviews", image_id=image.id)
    token = page.get(url).context["added"].initial["token"]
    data = {"verdict": "added", "token": str(token), "diameter_px": "9.5", "note": "Behind the heart."}
    assert [page.post(url, data).status_code for _ in range(2)] == [302, 302]
    assert FindingReview.objects.get().long_axis_px == 9.5


def test_an_addition_without_size_or_of_another_verdict_is_refused(page: Client, image: Image, revealed: Any) -> None:
    url = address("image_reviews", image_id=image.id)
    assertContains(page.post(url, {"verdict": "added", "note": "Kept."}), "Kept.", status_code=400)
    assert page.post(url, {"verdict": "corrected", "diameter_px": "5"}, **JSON).status_code == 400
    assert not FindingReview.objects.exists()


def test_pain_13_a_slice_whose_analysis_failed_is_judged_all_the_same(page: Client, doctor: User) -> None:
    image = ImageFactory(study=StudyFactory(created_by=doctor))
    AnalysisFactory(image=image, has_failed=True)
    FirstImpressionFactory(study=image.study)
    url = address("image_reviews", image_id=image.id)
    assert page.get(url).status_code == 200
    assert page.post(url, {"verdict": "added", "outline": drawn()}, **JSON).status_code == 200
    assert len(image.effective_findings()) == 1


def test_the_class_of_a_slice_is_named_and_a_stale_one_told(
    page: Client, image: Image, revealed: Any, doctor: User
) -> None:
    url = address("image_reviews", image_id=image.id)
    first = page.post(url, {"diagnosis": "normal"}, **JSON).json()["image_review"]
    assert first["diagnosis"] == "normal"
    stale = page.post(url, {"diagnosis": "unsure", "seen": ""})
    assert stale.status_code == 409
    assert stale.context["judged"].initial["diagnosis"] == "unsure"
    assert page.post(url, {"diagnosis": "unsure", "seen": ""}, **JSON).json()["latest"]["id"] == first["id"]
    assert page.post(url, {"diagnosis": "unsure", "seen": first["id"]}).status_code == 302
    assert page.post(url, {"diagnosis": ""}, **JSON).status_code == 400
    assert ImageReview.objects.latest_per_image().get().diagnosis == "unsure"


# --- who may ----------------------------------------------------------------------------------------------------------


def test_another_hospital_finds_nothing_to_judge(image: Image, finding: Finding, revealed: Any, page: Client) -> None:
    page.post(address("image_reviews", image_id=image.id), {"verdict": "added", "outline": drawn()})
    added = FindingReview.objects.get()
    stranger = other_browser(DoctorFactory(hospital=HospitalFactory(reads_first=False)))
    for url in (
        address("reading", study_id=image.study_id),
        address("first_impression", study_id=image.study_id),
        of_finding(finding),
        address("finding_reviews", lesion_id=added.lesion_id),
        address("image_reviews", image_id=image.id),
        address("finding_outline", finding_id=finding.id),
        address("review_outline", review_id=added.id),
    ):
        assert stranger.get(url).status_code == 404, url
        if not url.endswith((".png", ".json")):
            assert stranger.post(url, IMPRESSION | {"verdict": "accepted"}).status_code == 404, url
    assert FindingReview.objects.count() == 1
    assert FirstImpression.objects.count() == 1


def test_what_does_not_exist_is_not_found(page: Client) -> None:
    assert page.post(address("finding_reviews", lesion_id=uuid.uuid4()), {"verdict": "accepted"}).status_code == 404


def test_outlines_are_hidden_until_the_first_impression(page: Client, image: Image, finding: Finding) -> None:
    url = address("finding_outline", finding_id=finding.id)
    assert page.get(url).status_code == 403
    FirstImpressionFactory(study=image.study)
    assert page.get(url).status_code == 200


def test_a_script_gets_json_and_a_browser_a_page(page: Client, finding: Finding, revealed: Any) -> None:
    answers = [
        page.post(of_finding(finding), {"verdict": "corrected"}, headers={"Accept": accepted})["Content-Type"]
        for accepted in ("application/json", "text/html,application/xhtml+xml,*/*;q=0.8", "*/*")
    ]
    assert answers == ["application/json", "text/html; charset=utf-8", "text/html; charset=utf-8"]


def test_the_picture_as_judged_leaves_rejected_findings_out_and_shows_what_was_drawn(
    page: Client, image: Image, finding: Finding, revealed: Any
) -> None:
    url = address("image_judged", image_id=image.id)

    def outlined(colour: tuple[int, int, int]) -> bool:
        with PillowImage.open(io.BytesIO(page.get(url).content)) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        return bool((pixels == colour).all(axis=2).any())

    assert outlined(OUTLINE_COLOUR)
    assert not outlined(DOCTOR_COLOUR)
    page.post(of_finding(finding), {"verdict": "rejected"})
    assert not outlined(OUTLINE_COLOUR)
    page.post(address("image_reviews", image_id=image.id), {"verdict": "added", "outline": drawn()})
    assert outlined(DOCTOR_COLOUR)
    assert not outlined(OUTLINE_COLOUR)
    page.post(address("image_reviews", image_id=image.id), {"verdict": "added", "diameter_px": "9"})
    assert page.get(url).status_code == 200, "a finding without a place is left out"
    assertContains(page.get(address("study_detail", study_id=image.study_id)), "The picture with what counts")


# --- the session ends -------------------------------------------------------------------------------------------------


def hidden_field(response: Any, name: str) -> str:
    """Return the value of a hidden field of the page."""
    return str(re.search(rf'name="{name}" value="([^"]*)"', response.text).group(1))  # type: ignore[union-attr]


def test_pain_11_a_first_impression_sent_after_the_session_ended_is_still_there(
    page: Client, image: Image, doctor: User
) -> None:
    url = address("first_impression", study_id=image.study_id)
    author = hidden_field(page.get(url), "author")
    page.logout()
    response = page.post(url, IMPRESSION | {"author": author})
    assertRedirects(response, f"{reverse('account_login')}?next={url}", fetch_redirect_response=False)
    assert not FirstImpression.objects.exists()
    # The log-in takes the anonymous session over.
    page.force_login(doctor)
    response = page.get(url)
    assertContains(response, "A mass.")
    assert response.context["form"]["diagnosis"].value() == "adenocarcinoma"
    page.post(url, IMPRESSION)
    assert FirstImpression.objects.get().note == "A mass."


def test_pain_11_a_correction_and_its_outline_survive_the_end_of_the_session(
    page: Client, finding: Finding, revealed: Any, doctor: User
) -> None:
    url = of_finding(finding)
    author = hidden_field(page.get(url), "author")
    page.logout()
    page.post(url, {"verdict": "corrected", "note": "Kept.", "outline": drawn(), "seen": "", "author": author})
    page.force_login(doctor)
    response = page.get(url)
    assertContains(response, "Kept.")
    kept = hidden_field(response, "outline_kept")
    page.post(url, {"verdict": "corrected", "note": "Kept.", "outline_kept": kept, "seen": ""})
    assert FindingReview.objects.get().area_px == 96


@pytest.mark.parametrize("author", ["", "forged", None])
def test_only_a_form_of_ours_is_kept_and_only_for_its_author(
    page: Client, image: Image, doctor: User, author: str | None
) -> None:
    url = address("first_impression", study_id=image.study_id)
    token = hidden_field(page.get(url), "author") if author is None else author
    page.logout()
    page.post(url, IMPRESSION | {"author": token})
    somebody = DoctorFactory(hospital=doctor.hospital) if author is None else doctor
    grant_study(image.study, to=somebody, can_change=True)
    page.force_login(somebody)
    assertNotContains(page.get(url), "A mass.")


def test_a_refusal_tells_a_script_and_a_person_why(page: Client, finding: Finding) -> None:
    assert "first impression" in page.post(of_finding(finding), {"verdict": "accepted"}, **JSON).json()["error"]
    assertContains(page.get(of_finding(finding)), "Please note your first impression", status_code=403)
