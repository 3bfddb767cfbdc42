"""The picture of a signed slice: the outlines that count, a doctor's in a colour of its own, none that was rejected."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.urls import reverse
from numpy.typing import NDArray
from PIL import Image as PillowImage

from accounts.models import User
from ml.overlay import DOCTOR_COLOUR, OUTLINE_COLOUR
from reports.content import FORMAT, ReportContent
from reports.drawing import outlined_picture
from reports.errors import PdfError
from reports.models import Report
from reports.pdf import read_pictures
from studies.models import Analysis, Finding, FindingReview, Image
from studies.reviewing import Judgement, add_finding, review_finding
from tests.factories import AnalysisFactory, ImageFactory, ReportFactory, StudyFactory, outline_png
from tests.reports.conftest import pdf_text

pytestmark = pytest.mark.django_db


@pytest.fixture
def image(doctor: User) -> Image:
    """A slice of 96 pixels on which the software outlined (40, 40, 10, 12)."""
    slice_ = ImageFactory(study=StudyFactory(created_by=doctor))
    AnalysisFactory(image=slice_, is_done=True)
    return slice_


def judge(image: Image, *, by: User, **judgement: Any) -> None:
    finding = Finding.objects.get(analysis__image=image)
    review_finding(image, lesion_id=finding.id, by=by, judgement=Judgement(**judgement), seen=None)


def signed_report(image: Image) -> Report:
    return ReportFactory(study=image.study, created_by=image.study.created_by, is_signed=True)


def pixels_of(png: bytes) -> NDArray[np.uint8]:
    with PillowImage.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))


def lines(png: bytes, colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return where a picture has lines of a colour; it is six times as large as the slice."""
    return np.asarray((pixels_of(png) == colour).all(axis=2))


def test_a_corrected_outline_is_the_one_that_is_signed_printed_and_shown(image: Image, doctor: User, log_in) -> None:
    judge(image, by=doctor, verdict="corrected", outline=outline_png(box=(10, 60, 20, 20)))
    report = signed_report(image)
    browser = log_in(doctor)
    shown = browser.get(reverse("reports:report_overlay", args=[report.id, 1]))
    assert shown["Cache-Control"] == "private, no-store"
    # Below its number, which stands at the upper right corner.
    rows, columns = np.nonzero(lines(shown.content, DOCTOR_COLOUR)[390:])
    assert (columns.min(), columns.max()) == pytest.approx((60, 180), abs=3)
    assert rows.max() + 390 == pytest.approx(480, abs=3)
    assert not lines(shown.content, OUTLINE_COLOUR).any(), "the software's outline is drawn as well"
    assert read_pictures(report.content)[1].outlined == shown.content
    assert "blue lines were drawn by a doctor" in pdf_text(report.read_pdf())
    assert "Blue lines were drawn by a doctor" in browser.get(reverse("reports:report_detail", args=[report.id])).text


def test_what_nobody_redrew_is_the_stored_picture_of_the_answer(image: Image, doctor: User) -> None:
    judge(image, by=doctor, verdict="accepted")
    report = signed_report(image)
    stored = Path(Analysis.objects.get().overlay.path).read_bytes()
    assert read_pictures(report.content)[1].outlined == stored
    text = pdf_text(report.read_pdf())
    assert "with the regions the software outlined" in text
    assert "Blue" not in text


def test_a_rejected_region_is_not_drawn(image: Image, doctor: User) -> None:
    judge(image, by=doctor, verdict="rejected")
    report = signed_report(image)
    picture = read_pictures(report.content)[1].outlined
    assert not lines(picture, OUTLINE_COLOUR).any()
    assert "without the regions that the doctor rejected" in pdf_text(report.read_pdf())


def test_an_added_outline_stands_beside_the_softwares_each_in_its_colour(image: Image, doctor: User) -> None:
    add_finding(image, by=doctor, judgement=Judgement(verdict="added", outline=outline_png(box=(10, 70, 12, 8))))
    picture = read_pictures(signed_report(image).content)[1].outlined
    assert lines(picture, OUTLINE_COLOUR).any()
    assert lines(picture, DOCTOR_COLOUR).any()


def test_an_outline_on_a_slice_without_an_answer_is_pictured(image: Image, doctor: User) -> None:
    other = ImageFactory(study=image.study)
    AnalysisFactory(image=other, has_failed=True)
    add_finding(other, by=doctor, judgement=Judgement(verdict="added", outline=outline_png()))
    report = signed_report(image)
    assert lines(read_pictures(report.content)[2].outlined, DOCTOR_COLOUR).any()


def test_a_judgement_after_the_signature_changes_no_picture(image: Image, doctor: User) -> None:
    judge(image, by=doctor, verdict="corrected", outline=outline_png())
    report = signed_report(image)
    before = read_pictures(report.content)[1].outlined
    finding = Finding.objects.get()
    latest = FindingReview.objects.get()
    review_finding(image, lesion_id=finding.id, by=doctor, judgement=Judgement(verdict="rejected"), seen=latest.id)
    assert read_pictures(Report.objects.get().content)[1].outlined == before


def test_an_outline_that_was_swapped_is_neither_signed_nor_shown(image: Image, doctor: User, log_in) -> None:
    judge(image, by=doctor, verdict="corrected", outline=outline_png())
    report = signed_report(image)
    Path(FindingReview.objects.get().outline.path).write_bytes(outline_png(box=(1, 1, 50, 50)))
    with pytest.raises(PdfError, match="cannot be read"):
        read_pictures(report.content)
    assert log_in(doctor).get(reverse("reports:report_overlay", args=[report.id, 1])).status_code == 404


def test_a_report_signed_before_outlines_were_kept_shows_what_was_signed(image: Image, doctor: User) -> None:
    judge(image, by=doctor, verdict="corrected", outline=outline_png())
    frozen = signed_report(image).signed_content
    assert frozen is not None
    assert frozen["format"] == FORMAT == 3
    (slice_,) = frozen["slices"]
    del slice_["is_redrawn"]
    for finding in slice_["analysis"]["findings"]:
        del finding["outline_review_id"], finding["outline_sha256"]
    (old,) = ReportContent.from_json(frozen | {"format": 2}).slices
    assert outlined_picture(old) == Path(Analysis.objects.get().overlay.path).read_bytes()
