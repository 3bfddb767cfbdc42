"""What doctors say beside the software: first impressions, judgements of findings, and what counts in the end."""

import io
import math
import struct
import threading
import uuid
import zlib
from typing import Any

import numpy as np
import pytest
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from PIL import Image as PillowImage

from accounts.models import Hospital, User
from studies.errors import FirstImpressionNotedError, OutlineError, ReviewError, StaleReviewError
from studies.models import Finding, FindingReview, FirstImpression, Image, ImageReview, Study, judged_findings
from studies.outlines import MAX_OUTLINE_BYTES, read_outline, region_of
from studies.reviewing import Judgement, add_finding, review_finding, review_image
from tests.factories import (
    AnalysisFactory,
    DoctorFactory,
    FirstImpressionFactory,
    HospitalFactory,
    ImageFactory,
    StudyFactory,
    answer,
    outline_png,
)
from tests.studies.test_models import stored_files
from tests.tools import skip_where_threads_share_the_database

pytestmark = pytest.mark.django_db


@pytest.fixture
def doctor() -> User:
    return DoctorFactory(hospital=HospitalFactory(reads_first=True))


@pytest.fixture
def colleague(doctor: User) -> User:
    return DoctorFactory(hospital=doctor.hospital)


@pytest.fixture
def image(doctor: User) -> Image:
    """A slice without spacing, with one finding of the model."""
    slice_ = ImageFactory(study=StudyFactory(created_by=doctor))
    AnalysisFactory(image=slice_, is_done=True)
    return slice_


@pytest.fixture
def finding(image: Image) -> Finding:
    return Finding.objects.get(analysis__image=image)


def with_spacing(image: Image, row_mm: float = 0.5, column_mm: float = 0.5) -> Image:
    Image.objects.filter(id=image.id).update(row_spacing_mm=row_mm, column_spacing_mm=column_mm)
    image.refresh_from_db()
    return image


def judge(finding: Finding, *, by: User, seen: FindingReview | None = None, **judgement: Any) -> FindingReview:
    return review_finding(
        finding.analysis.image,
        lesion_id=finding.id,
        by=by,
        judgement=Judgement(**judgement),
        seen=seen.id if seen is not None else None,
    )


# --- read first -------------------------------------------------------------------------------------------------------


def test_a_hospital_reads_first_unless_it_says_otherwise() -> None:
    assert Hospital.objects.create(name="New").reads_first


def test_the_answer_is_hidden_from_each_doctor_until_they_have_noted_their_own_impression(
    image: Image, doctor: User, colleague: User
) -> None:
    study = image.study
    assert not study.reveals_ai_to(doctor)
    FirstImpressionFactory(study=study, doctor=doctor)
    assert study.reveals_ai_to(doctor)
    assert not study.reveals_ai_to(colleague)


def test_an_impression_of_another_study_reveals_nothing(image: Image, doctor: User) -> None:
    FirstImpressionFactory(study=StudyFactory(created_by=doctor))
    assert not image.study.reveals_ai_to(doctor)


def test_where_the_hospital_does_not_read_first_nothing_is_hidden(image: Image, doctor: User) -> None:
    doctor.hospital.reads_first = False
    doctor.hospital.save()
    assert Study.objects.get(id=image.study_id).reveals_ai_to(doctor)


@pytest.mark.parametrize("reads_first", [True, False])
def test_a_list_says_the_same_of_each_study_as_the_study_itself_in_one_query(reads_first: bool) -> None:
    doctor = DoctorFactory(hospital=HospitalFactory(reads_first=reads_first))
    studies = [StudyFactory(created_by=doctor) for _ in range(3)]
    FirstImpressionFactory(study=studies[0])
    FirstImpressionFactory(study=studies[1], doctor=DoctorFactory(hospital=doctor.hospital))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        listed = {study.id: study.is_revealed for study in Study.objects.visible_to(doctor).with_revealed_to(doctor)}
    assert len(queries) == 1
    assert listed == {study.id: study.reveals_ai_to(doctor) for study in studies}
    assert list(listed.values()).count(True) == (1 if reads_first else 3)


def test_a_first_impression_is_noted_once_and_the_same_again_changes_nothing(image: Image, doctor: User) -> None:
    values = {"doctor": doctor, "diagnosis": "unsure", "suspicion": 3, "note": "A shadow."}
    first = FirstImpression.objects.note(image.study, **values)
    assert FirstImpression.objects.note(image.study, **values).id == first.id
    with pytest.raises(FirstImpressionNotedError, match="already"):
        FirstImpression.objects.note(image.study, **values | {"suspicion": 5})
    assert FirstImpression.objects.get().suspicion == 3


def test_a_first_impression_cannot_be_changed_or_deleted(image: Image) -> None:
    impression = FirstImpressionFactory(study=image.study)
    impression.suspicion = 1
    for act in (
        impression.save,
        impression.delete,
        FirstImpression.objects.all().delete,
        lambda: FirstImpression.objects.update(suspicion=1),
    ):
        with pytest.raises(PermissionDenied):
            act()
    assert FirstImpression.objects.get().suspicion == 4


@pytest.mark.parametrize("change", [{"suspicion": 0}, {"suspicion": 6}, {"diagnosis": "flu"}, {"diagnosis": ""}])
def test_the_database_refuses_an_impossible_first_impression(image: Image, change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        FirstImpressionFactory(study=image.study, **change)


# --- outlines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P"])
def test_an_outline_is_measured_however_a_browser_encodes_it(mode: str) -> None:
    outline = read_outline(outline_png(mode=mode), width=96, height=96, pixel_spacing_mm=(0.5, 0.5))
    assert (outline.box, outline.area_px) == ((30, 20, 12, 8), 96)
    assert outline.long_axis_px == pytest.approx(math.hypot(12, 8))
    assert outline.long_axis_mm == pytest.approx(math.hypot(6, 4))
    assert outline.area_mm2 == pytest.approx(24)
    with PillowImage.open(io.BytesIO(outline.png)) as stored:
        assert (stored.mode, stored.size, set(np.unique(stored))) == ("L", (96, 96), {0, 255})


def test_see_through_is_outside_and_white_is_inside() -> None:
    canvas = PillowImage.new("RGBA", (96, 96), (0, 0, 0, 0))
    canvas.paste((255, 255, 255, 255), (10, 10, 20, 30))
    stream = io.BytesIO()
    canvas.save(stream, format="PNG")
    outline = read_outline(stream.getvalue(), width=96, height=96)
    assert (outline.box, outline.area_px, outline.long_axis_mm) == ((10, 10, 10, 20), 200, None)


def huge_header() -> bytes:
    """Return a PNG whose header announces 60,000 x 60,000 pixels."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + head
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (b"I am no picture.", "not a PNG"),
        (b"\xff\xd8\xff\xe0 a JPEG", "not a PNG"),
        (outline_png(side_px=95), "95 x 95"),
        (outline_png()[:60], "damaged"),
        (outline_png(value=128), "other values"),
        (outline_png(value=0), "empty"),
        (huge_header(), "60000 x 60000|damaged"),
        (outline_png() + b"\0" * MAX_OUTLINE_BYTES, "larger than 2 MB"),
    ],
    ids=["nothing", "text", "jpeg", "another size", "cut short", "grey", "black", "pixel flood", "too many bytes"],
)
def test_a_hostile_outline_is_refused_with_a_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(OutlineError, match=sentence) as caught:
        read_outline(content, width=96, height=96)
    assert str(caught.value).endswith(".")


def test_colours_and_shades_are_no_outline() -> None:
    red = PillowImage.new("RGB", (96, 96))
    red.paste((255, 0, 0), (10, 10, 20, 20))
    stream = io.BytesIO()
    red.save(stream, format="PNG")
    with pytest.raises(OutlineError, match="hard brush"):
        read_outline(stream.getvalue(), width=96, height=96)
    soft = PillowImage.new("RGBA", (96, 96), (0, 0, 0, 0))
    soft.paste((255, 255, 255, 120), (10, 10, 20, 20))
    stream = io.BytesIO()
    soft.save(stream, format="PNG")
    with pytest.raises(OutlineError, match="hard brush"):
        read_outline(stream.getvalue(), width=96, height=96)


def test_a_region_of_the_models_mask_is_taken_out_alone() -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[10:20, 10:20] = 255
    mask[40:45, 60:70] = 255
    stream = io.BytesIO()
    PillowImage.fromarray(mask).save(stream, format="PNG")
    with PillowImage.open(io.BytesIO(region_of(stream.getvalue(), box=(60, 40, 10, 5)))) as alone:
        pixels = np.asarray(alone)
    assert pixels[40:45, 60:70].all()
    assert int((pixels > 0).sum()) == 50


# --- judging ----------------------------------------------------------------------------------------------------------


def test_a_judgement_stands_beside_the_models_answer_which_stays(finding: Finding, doctor: User) -> None:
    before = Finding.objects.values().get()
    judge(finding, by=doctor, verdict="corrected", outline=outline_png(), diagnosis="squamous_cell_carcinoma")
    assert Finding.objects.values().get() == before
    stored = FindingReview.objects.get()
    assert (stored.finding_id, stored.lesion_id, stored.revision, stored.by) == (finding.id, finding.id, 1, doctor)
    assert (stored.area_px, stored.box) == (96, (30, 20, 12, 8))


def test_the_latest_judgement_speaks_and_the_earlier_ones_stay(finding: Finding, doctor: User, colleague: User) -> None:
    first = judge(finding, by=doctor, verdict="accepted")
    second = judge(finding, by=colleague, verdict="rejected", seen=first)
    third = judge(finding, by=doctor, verdict="corrected", malignancy=2, is_malignancy_said=True, seen=second)
    assert list(FindingReview.objects.latest_per_finding()) == [third]
    assert list(FindingReview.objects.order_by("revision")) == [first, second, third]


def test_the_same_judgement_sent_twice_is_one(finding: Finding, doctor: User) -> None:
    first = judge(finding, by=doctor, verdict="corrected", outline=outline_png(), note="Larger.")
    again = judge(finding, by=doctor, verdict="corrected", outline=outline_png(), note="Larger.")
    assert again.id == first.id
    assert FindingReview.objects.count() == 1


def test_who_has_not_seen_the_newest_judgement_does_not_overwrite_it(
    finding: Finding, doctor: User, colleague: User
) -> None:
    judge(finding, by=colleague, verdict="rejected")
    with pytest.raises(StaleReviewError, match=str(colleague)):
        judge(finding, by=doctor, verdict="accepted")
    assert FindingReview.objects.get().by == colleague


def test_the_database_keeps_two_judgements_from_being_the_same_revision(finding: Finding, doctor: User) -> None:
    stored = judge(finding, by=doctor, verdict="accepted")
    with pytest.raises(IntegrityError), transaction.atomic():
        FindingReview.objects.create(
            lesion_id=finding.id,
            revision=stored.revision,
            image=stored.image,
            finding=finding,
            verdict="rejected",
            by=doctor,
        )


def test_a_finding_of_an_earlier_answer_is_not_judged_any_more(image: Image, finding: Finding, doctor: User) -> None:
    AnalysisFactory(image=image, is_done=True)
    with pytest.raises(StaleReviewError, match="analysed again"):
        judge(finding, by=doctor, verdict="accepted")
    assert not FindingReview.objects.exists()


def test_a_correction_that_does_not_name_the_size_keeps_the_corrected_one(finding: Finding, doctor: User) -> None:
    first = judge(finding, by=doctor, verdict="corrected", outline=outline_png())
    second = judge(finding, by=doctor, verdict="corrected", diagnosis="adenocarcinoma", seen=first)
    assert (second.area_px, second.outline.name) == (96, first.outline.name)
    # What the request names as empty is taken back, what it does not name stays.
    third = judge(finding, by=doctor, verdict="corrected", diagnosis="", seen=second)
    assert (third.diagnosis, third.area_px) == ("", 96)


def test_accepting_goes_back_to_the_models_sizes(image: Image, finding: Finding, doctor: User) -> None:
    first = judge(finding, by=doctor, verdict="corrected", outline=outline_png())
    judge(finding, by=doctor, verdict="accepted", seen=first)
    (effective,) = image.effective_findings()
    assert (effective.area_px, effective.is_resized, effective.verdict) == (finding.area_px, False, "accepted")


@pytest.mark.parametrize("diameter", [-1.0, 0.0, math.nan, math.inf, 136.0, 1e300])
@pytest.mark.parametrize("unit", ["px", "mm"])
def test_an_impossible_diameter_is_refused(finding: Finding, doctor: User, diameter: float, unit: str) -> None:
    image = with_spacing(finding.analysis.image, 1.0, 1.0)
    judgement = Judgement(verdict="corrected", **{f"diameter_{unit}": diameter})
    with pytest.raises(ReviewError, match="Please check"):
        review_finding(image, lesion_id=finding.id, by=doctor, judgement=judgement, seen=None)
    assert not FindingReview.objects.exists()


def test_a_typed_diameter_is_known_in_pixels_and_where_possible_in_millimetres(finding: Finding, doctor: User) -> None:
    plain = judge(finding, by=doctor, verdict="corrected", diameter_px=20.0)
    assert (plain.long_axis_px, plain.long_axis_mm, plain.area_px, plain.outline.name) == (20.0, None, None, "")
    image = with_spacing(finding.analysis.image, 0.5, 0.5)
    judgement = Judgement(verdict="corrected", diameter_mm=12.0)
    stored = review_finding(image, lesion_id=finding.id, by=doctor, judgement=judgement, seen=plain.id)
    assert (stored.long_axis_px, stored.long_axis_mm) == (24.0, 12.0)


def test_millimetres_need_a_known_spacing(finding: Finding, doctor: User) -> None:
    with pytest.raises(ReviewError, match="in pixels"):
        judge(finding, by=doctor, verdict="corrected", diameter_mm=12.0)


@pytest.mark.parametrize(
    ("judgement", "sentence"),
    [
        ({"verdict": "corrected"}, "what is to be corrected"),
        ({"verdict": "corrected", "diagnosis": "normal"}, "reject it"),
        ({"verdict": "accepted", "diameter_px": 9.0}, "choose “correct”"),
        ({"verdict": "rejected", "outline": b"x"}, "choose “correct”"),
        ({"verdict": "added", "diameter_px": 9.0}, "rejected or corrected"),
    ],
)
def test_a_judgement_that_says_nothing_or_two_things_is_refused(
    finding: Finding, doctor: User, judgement: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ReviewError, match=sentence):
        judge(finding, by=doctor, **judgement)
    assert not FindingReview.objects.exists()


def test_a_finding_of_another_slice_is_not_judged_here(finding: Finding, doctor: User) -> None:
    other = ImageFactory(study=finding.analysis.image.study)
    with pytest.raises(Finding.DoesNotExist):
        review_finding(other, lesion_id=finding.id, by=doctor, judgement=Judgement(verdict="accepted"), seen=None)


def test_no_outline_is_left_behind_when_a_judgement_cannot_be_stored(finding: Finding, doctor: User) -> None:
    judge(finding, by=doctor, verdict="accepted")
    before = stored_files()
    with pytest.raises(StaleReviewError):
        judge(finding, by=doctor, verdict="corrected", outline=outline_png())
    assert stored_files() == before


# --- adding -----------------------------------------------------------------------------------------------------------


def test_a_doctor_adds_a_finding_that_the_model_missed(image: Image, doctor: User) -> None:
    added = add_finding(image, by=doctor, judgement=Judgement(verdict="added", outline=outline_png(), malignancy=5))
    assert (added.finding, added.revision, added.malignancy) == (None, 1, 5)
    models, doctors = image.effective_findings()
    assert (models.source, models.number, models.probability) == ("model", 1, 0.82)
    assert (doctors.source, doctors.number, doctors.probability, doctors.box) == ("doctor", 2, None, (30, 20, 12, 8))


def test_an_added_finding_needs_an_outline_or_a_diameter(image: Image, doctor: User) -> None:
    with pytest.raises(ReviewError, match="draw around"):
        add_finding(image, by=doctor, judgement=Judgement(verdict="added", malignancy=5))


def test_adding_the_same_finding_twice_adds_one(image: Image, doctor: User) -> None:
    drawn = Judgement(verdict="added", outline=outline_png())
    token = uuid.uuid4()
    first = add_finding(image, by=doctor, judgement=drawn, token=token)
    assert add_finding(image, by=doctor, judgement=drawn, token=token).id == first.id
    assert add_finding(image, by=doctor, judgement=drawn).id == first.id
    typed = Judgement(verdict="added", diameter_px=8.0)
    add_finding(image, by=doctor, judgement=typed, token=uuid.uuid4())
    add_finding(image, by=doctor, judgement=typed, token=uuid.uuid4())
    assert FindingReview.objects.count() == 3, "two findings of the same diameter are two"


def test_a_token_that_is_taken_adds_nothing(image: Image, finding: Finding, doctor: User) -> None:
    token = uuid.uuid4()
    add_finding(image, by=doctor, judgement=Judgement(verdict="added", diameter_px=8.0), token=token)
    for taken in (token, finding.id):
        with pytest.raises(StaleReviewError, match="stored already"):
            add_finding(image, by=doctor, judgement=Judgement(verdict="added", diameter_px=9.0), token=taken)
    assert FindingReview.objects.count() == 1


def test_an_added_finding_can_be_withdrawn_and_brought_back_with_its_outline(image: Image, doctor: User) -> None:
    added = add_finding(image, by=doctor, judgement=Judgement(verdict="added", outline=outline_png()))

    def again(verdict: str, *, seen: FindingReview, **values: Any) -> FindingReview:
        judgement = Judgement(verdict=verdict, **values)
        return review_finding(image, lesion_id=added.lesion_id, by=doctor, judgement=judgement, seen=seen.id)

    rejected = again("rejected", seen=added)
    assert [found.source for found in image.effective_findings()] == ["model"]
    assert judged_findings([image])[image.id][1].is_rejected
    again("corrected", seen=rejected, diagnosis="adenocarcinoma")
    found = image.effective_findings()[1]
    assert (found.source, found.area_px, found.diagnosis) == ("doctor", 96, "adenocarcinoma")
    with pytest.raises(ReviewError, match="rejected or corrected"):
        again("accepted", seen=rejected)


# --- the class of a slice ---------------------------------------------------------------------------------------------


def test_the_class_of_a_slice_is_judged_like_a_finding(image: Image, doctor: User, colleague: User) -> None:
    first = review_image(image, by=doctor, diagnosis="normal", seen=None)
    assert review_image(image, by=doctor, diagnosis="normal", seen=None).id == first.id
    with pytest.raises(StaleReviewError, match=str(doctor)):
        review_image(image, by=colleague, diagnosis="unsure", seen=None)
    second = review_image(image, by=colleague, diagnosis="unsure", seen=first.id)
    assert list(ImageReview.objects.latest_per_image()) == [second]
    assert image.latest_success.top_class == "adenocarcinoma", "the model's answer stays"


# --- constraints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "maybe"},
        {"revision": 0},
        {"lesion_id": uuid.uuid4()},
        {"verdict": "added", "long_axis_px": 5.0},
        {"finding": None, "verdict": "accepted"},
        {"finding": None, "verdict": "added"},
        {"verdict": "corrected"},
        {"verdict": "corrected", "long_axis_px": -1.0},
        {"verdict": "corrected", "long_axis_px": math.nan},
        {"verdict": "corrected", "long_axis_px": 0.0},
        {"verdict": "corrected", "long_axis_px": 5.0, "area_px": 4},
        {"verdict": "corrected", "long_axis_px": 5.0, "outline": "reviews/x.png"},
        {"long_axis_px": 5.0},
        {"malignancy": 6},
        {"diagnosis": "flu"},
    ],
    ids=lambda change: "-".join(change),
)
def test_the_database_refuses_an_impossible_judgement(finding: Finding, doctor: User, change: dict[str, Any]) -> None:
    values = {
        "lesion_id": finding.id,
        "revision": 1,
        "image": finding.analysis.image,
        "finding": finding,
        "verdict": "accepted",
        "by": doctor,
    }
    with pytest.raises(IntegrityError), transaction.atomic():
        FindingReview.objects.create(**values | change)


# --- what counts ------------------------------------------------------------------------------------------------------


def test_effective_findings_are_the_models_until_a_doctor_says_otherwise(image: Image, finding: Finding) -> None:
    (found,) = image.effective_findings()
    assert (found.source, found.is_reviewed, found.outline, found.diagnosis) == ("model", False, None, "")
    assert (found.long_axis_px, found.area_px, found.box) == (15.6, 120, (40, 40, 10, 12))


def test_a_rejected_finding_does_not_count(image: Image, finding: Finding, doctor: User) -> None:
    judge(finding, by=doctor, verdict="rejected")
    assert image.effective_findings() == ()


def test_a_corrected_finding_counts_with_the_doctors_values_and_name(
    image: Image, finding: Finding, doctor: User
) -> None:
    judge(
        finding,
        by=doctor,
        verdict="corrected",
        outline=outline_png(),
        diagnosis="large_cell_carcinoma",
        malignancy=5,
        is_malignancy_said=True,
        note="Spiculated.",
    )
    (found,) = image.effective_findings()
    assert (found.number, found.source, found.is_corrected, found.reviewed_by) == (1, "model", True, doctor)
    assert (found.area_px, found.box, found.diagnosis, found.malignancy) == (
        96,
        (30, 20, 12, 8),
        "large_cell_carcinoma",
        5,
    )
    assert found.probability == 0.82, "what the model thought stays beside it"
    assert found.outline is not None


def test_a_typed_diameter_replaces_the_models_sizes_and_keeps_its_place(
    image: Image, finding: Finding, doctor: User
) -> None:
    judge(finding, by=doctor, verdict="corrected", diameter_px=30.0)
    (found,) = image.effective_findings()
    assert (found.long_axis_px, found.short_axis_px, found.area_px, found.box) == (30.0, None, None, (40, 40, 10, 12))


def test_a_new_answer_replaces_the_models_findings_and_keeps_the_added_ones(
    image: Image, finding: Finding, doctor: User
) -> None:
    judge(finding, by=doctor, verdict="rejected")
    add_finding(image, by=doctor, judgement=Judgement(verdict="added", diameter_px=8.0))
    two = (answer().findings[0], answer().findings[0])
    AnalysisFactory(image=image, is_done=True, result=answer(findings=two))
    assert [(f.number, f.source, f.verdict) for f in image.effective_findings()] == [
        (1, "model", ""),
        (2, "model", ""),
        (3, "doctor", "added"),
    ]


def test_the_findings_of_many_slices_cost_the_same_number_of_queries(doctor: User) -> None:
    study = StudyFactory(created_by=doctor)

    def add_slice() -> None:
        image = ImageFactory(study=study)
        AnalysisFactory(image=image, is_done=True)
        judge(Finding.objects.get(analysis__image=image), by=doctor, verdict="accepted")

    def queries() -> int:
        images = list(study.images.all())
        with CaptureQueriesContext(connection) as captured:
            found = judged_findings(images)
        assert all(len(findings) == 1 for findings in found.values())
        return len(captured)

    add_slice()
    few = queries()
    for _ in range(4):
        add_slice()
    assert queries() == few


@pytest.mark.django_db(transaction=True)
def test_of_two_doctors_at_the_same_moment_one_is_told(finding: Finding, doctor: User, colleague: User) -> None:
    skip_where_threads_share_the_database()
    answers: list[str] = []
    ready = threading.Barrier(2)

    def judge_at_once(by: User, verdict: str) -> None:
        try:
            ready.wait(timeout=20)
            judge(finding, by=by, verdict=verdict)
            answers.append("stored")
        except StaleReviewError:
            answers.append("told")
        finally:
            connection.close()

    threads = [
        threading.Thread(target=judge_at_once, args=(doctor, "accepted")),
        threading.Thread(target=judge_at_once, args=(colleague, "rejected")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["stored", "told"]
    assert FindingReview.objects.count() == 1
