"""The PDF of a report, made from the frozen content alone."""

import dataclasses
import datetime
import io
import logging
from pathlib import Path

import pytest
from pypdf import PdfReader

from accounts.models import User
from reports import pdf as pdf_module
from reports.content import ReportContent
from reports.errors import PdfError
from reports.models import Report
from reports.pdf import MAX_PICTURED_SLICES, pictured_slices, read_pictures, render_pdf, unprintable_characters
from studies.models import Analysis, Image
from tests.factories import AnalysisFactory, ImageFactory, PatientFactory, ReportFactory, StudyFactory, answer
from tests.reports.conftest import finding, pdf_text

pytestmark = pytest.mark.django_db

HOSTILE = (
    '<img src="file:///etc/passwd"> <img src="http://127.0.0.1:9/x.png"> <pdf:pagenumber> <style>p{color:red}</style> '
    "&lt; & {{ report }} {% now %} <script>alert(1)</script> ]]> <!-- picture:1:plain"
)


def frozen(report: Report, **changes) -> ReportContent:
    return dataclasses.replace(report.content, **changes)


def pdf_of(content: ReportContent) -> bytes:
    return render_pdf(content, pictures=read_pictures(content))


def test_the_letter_says_everything_a_reader_needs(signed, doctor):
    text = pdf_text(signed.read_pdf())
    content = signed.content
    for words in (
        content.hospital.name,
        content.patient.full_name,
        content.patient.record_number,
        "17 May 1960",
        "9 March 2026",
        "Nodule in the left upper lobe?",
        "Findings",
        "Impression",
        "Robin Hale, licence number L-77",
        "Signed electronically on",
        "(UTC)",
        "Adenocarcinoma",
        "71%",
        "version test-1",
        "0.67",
        "0.60 \u2013 0.74",
        "214 pictures unlike any in training",
        "as taken, 96 \u00d7 96 pixels",
        "with the regions the software outlined",
        "Decision support, not a diagnosis; not a medical device.",
        "Page 1 of 2",
        "Page 2 of 2",
        signed.content_sha256,
    ):
        assert words in text, words


def test_it_is_an_a4_letter_with_both_pictures(signed):
    pages = PdfReader(io.BytesIO(signed.read_pdf())).pages
    assert [round(float(side)) for side in (pages[0].mediabox.width, pages[0].mediabox.height)] == [595, 842]
    assert sum(len(page.images) for page in pages) == 2


@pytest.mark.parametrize(
    ("given_name", "family_name"),
    [
        ("\u0141ukasz \u00d6zg\u00fcr", "\u0164a\u017ek\u00fd"),
        ("\u0418\u0432\u0430\u043d", "\u0418\u0432\u0430\u043d\u043e\u0432"),
        ("\u0395\u03bb\u03ad\u03bd\u03b7", "\u03a0\u03b1\u03c0\u03b1\u03b4\u03ac\u03ba\u03b7"),
        ("Zo\u00eb", "\u0110\u1eb7ng"),
    ],
)
def test_names_beyond_latin_1_are_printed(doctor, given_name, family_name):
    patient = PatientFactory(created_by=doctor, given_name=given_name, family_name=family_name)
    report = ReportFactory(study=StudyFactory(created_by=doctor, patient=patient), is_signed=True)
    assert f"{given_name} {family_name}" in pdf_text(report.read_pdf())
    assert unprintable_characters(given_name + family_name) == ""


def test_the_fonts_travel_with_the_file(signed):
    fonts = {
        str(font.get_object()["/BaseFont"]): font.get_object()
        for page in PdfReader(io.BytesIO(signed.read_pdf())).pages
        for font in page["/Resources"]["/Font"].values()
    }
    embedded = [name for name, font in fonts.items() if "/FontFile2" in font.get("/FontDescriptor", {})]
    assert any("FiraGO-Regular" in name for name in embedded)
    assert any("FiraGO-Bold" in name for name in embedded)


def test_what_the_font_cannot_draw_is_told_each_once():
    assert unprintable_characters("a\u4e2d b\u6587 \u4e2d\n\t\u0141") == "\u4e2d\u6587"


def test_the_same_content_gives_the_same_bytes(signed):
    assert pdf_of(signed.content) == signed.read_pdf()


def test_the_files_date_is_the_signatures(signed):
    created = PdfReader(io.BytesIO(signed.read_pdf())).metadata.creation_date
    assert created == signed.signed_at.replace(microsecond=0)


def test_a_date_in_another_time_zone_is_the_same_moment(signed):
    elsewhere = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    signature = dataclasses.replace(
        signed.content.signature, at=signed.signed_at.astimezone(elsewhere), time_zone="Asia/Kolkata"
    )
    pdf = pdf_of(frozen(signed, signature=signature))
    assert PdfReader(io.BytesIO(pdf)).metadata.creation_date == signed.signed_at.replace(microsecond=0)
    assert "(Asia/Kolkata, UTC+05:30)" in pdf_text(pdf)


def test_markup_in_a_text_is_printed_and_never_followed(signed, monkeypatch):
    opened = []
    monkeypatch.setattr("socket.socket.connect", lambda self, address: opened.append(address))
    pdf = pdf_of(frozen(signed, findings_text=HOSTILE, impression=HOSTILE))
    text = pdf_text(pdf)
    assert '<img src="file:///etc/passwd">' in text
    assert "<script>alert(1)</script>" in text
    assert "root:" not in text
    assert opened == []
    assert sum(len(page.images) for page in PdfReader(io.BytesIO(pdf)).pages) == 2


@pytest.mark.parametrize("field", ["given_name", "family_name", "record_number"])
def test_markup_in_the_patients_data_is_printed_too(signed, field):
    patient = dataclasses.replace(signed.content.patient, **{field: '<img src="x"> & <b>'})
    assert '<img src="x"> & <b>' in pdf_text(pdf_of(frozen(signed, patient=patient)))


def test_an_address_that_is_not_ours_is_refused_even_if_a_template_asks(signed, monkeypatch):
    for address in ("file:///etc/passwd", "/etc/passwd", "http://127.0.0.1:9/x.png", "picture:99:plain"):
        monkeypatch.setattr(pdf_module, "render_to_string", lambda *_, a=address: f'<p>x</p><img src="{a}">')
        with pytest.raises(PdfError, match="not its own"):
            pdf_of(signed.content)


def test_a_draft_is_never_printed(draft):
    with pytest.raises(ValueError, match="signature=None"):
        render_pdf(draft.content, pictures={})


@pytest.mark.parametrize(
    "text", ["W" * 10_000, "word " * 1_990, "line\n" * 400, "\n\n\n\u00a0\n", "\u202eturned \u200b \u0301"]
)
def test_long_and_odd_texts_make_a_letter(signed, text):
    assert pdf_of(frozen(signed, findings_text=text, impression=text)).startswith(b"%PDF-")


def test_a_word_longer_than_a_line_stays_whole_in_number(signed):
    text = pdf_text(pdf_of(frozen(signed, impression="\u0416" * 300)))
    assert text.count("\u0416") == 300


def test_what_takes_too_long_is_given_up_with_a_sentence_and_no_text_in_the_log(signed, monkeypatch, caplog):
    monkeypatch.setattr(pdf_module, "MAX_RENDER_S", 0)
    with caplog.at_level(logging.DEBUG), pytest.raises(PdfError, match="Please shorten"):
        pdf_of(signed.content)
    assert signed.content.report_id in caplog.text
    assert signed.content.patient.family_name not in caplog.text


def test_the_renderer_logs_no_text_of_a_report(signed, caplog):
    with caplog.at_level(logging.DEBUG):
        pdf_of(frozen(signed, impression="\u4e2d Secretname"))
    assert "Secretname" not in caplog.text


def test_many_slices_give_a_letter_with_the_pictures_of_most_concern(signed):
    first = signed.content.slices[0]
    calm = dataclasses.replace(first.analysis, findings=(), malignant_probability=0.1)
    slices = [dataclasses.replace(first, number=number, analysis=calm) for number in range(1, 16)]
    slices[13] = dataclasses.replace(first, number=14)
    content = frozen(signed, slices=tuple(slices))
    numbers = [slice_.number for slice_ in pictured_slices(content)]
    assert len(numbers) == MAX_PICTURED_SLICES
    assert 14 in numbers
    assert numbers == sorted(numbers)
    assert "Only the slices of most concern are pictured" in pdf_text(pdf_of(content))


def test_a_letter_without_regions_says_so(doctor: User):
    study = StudyFactory(created_by=doctor)
    AnalysisFactory(image=ImageFactory(study=study), is_done=True, result=answer(findings=()))
    text = pdf_text(ReportFactory(study=study, is_signed=True).read_pdf())
    assert "The software outlined no region" in text
    assert "the software outlined nothing here" in text


def test_millimetres_are_printed_where_known(doctor: User):
    study = StudyFactory(created_by=doctor)
    image = ImageFactory(study=study, row_spacing_mm=0.7, column_spacing_mm=0.7)
    AnalysisFactory(image=image, is_done=True, result=answer(findings=(finding(millimetres=True),)))
    text = pdf_text(ReportFactory(study=study, is_signed=True).read_pdf())
    assert "10.9 \u00d7 9.7 mm" in text
    assert "59 mm\u00b2" in text
    assert "size of a pixel unknown" not in text


@pytest.mark.parametrize("model", [Image, Analysis])
def test_a_picture_that_was_swapped_is_noticed(signed, model):
    row = model.objects.get()
    stored = row.file if model is Image else row.overlay
    Path(stored.path).write_bytes(b"another picture")
    with pytest.raises(PdfError, match="has changed"):
        read_pictures(signed.content)


def test_a_missing_picture_gets_a_sentence(signed):
    image = Image.objects.get()
    image.file.storage.delete(image.file.name)
    with pytest.raises(PdfError, match="cannot be read"):
        read_pictures(signed.content)
