"""The patient's examinations over time: figures, plot, and what may be compared at all."""

import datetime
import re
from xml.etree import ElementTree

import pytest
from django.template.loader import render_to_string
from django.urls import reverse

from reports.comparison import Examination, compare, comparison_sentence, plots_of
from reports.content import ReportContent
from reports.drafting import draft_report
from studies.models import StudyUserObjectPermission
from tests.factories import AnalysisFactory, FirstImpressionFactory, ImageFactory, ReportFactory, StudyFactory, answer
from tests.reports.conftest import finding, pdf_text

pytestmark = pytest.mark.django_db
SPACING = {"row_spacing_mm": 0.7, "column_spacing_mm": 0.7}


def examined(doctor, patient, day: str, *, long_mm: float | None = None, area_mm2: float = 60.0, findings=None):
    """Return a study of that day whose largest region has this diameter; without one, sizes in pixels."""
    study = StudyFactory(created_by=doctor, patient=patient, study_date=datetime.date.fromisoformat(day))
    if findings is None:
        sizes = {"long_axis_mm": long_mm, "short_axis_mm": long_mm, "area_mm2": area_mm2} if long_mm else {}
        findings = (finding(**sizes),)
    image = ImageFactory(study=study, **(SPACING if long_mm else {}))
    AnalysisFactory(image=image, is_done=True, result=answer(findings=findings))
    return study


def one(day: str, *, long_mm: float | None = 10.0, area_mm2: float | None = 60.0, is_this: bool = False) -> Examination:
    return Examination(
        study_id="s",
        study_date=datetime.date.fromisoformat(day),
        is_this=is_this,
        slice_number=1,
        long_axis_px=15.0,
        area_px=120,
        long_axis_mm=long_mm,
        area_mm2=area_mm2,
    )


def test_diameter_and_area_are_compared_by_date(doctor, patient):
    examined(doctor, patient, "2026-03-01", long_mm=8.0, area_mm2=50.0)
    examined(doctor, patient, "2025-09-01", long_mm=6.0)
    examined(doctor, patient, "2026-12-01", long_mm=40.0)
    now = examined(doctor, patient, "2026-06-01", long_mm=12.0, area_mm2=110.0)
    found = compare(now, reader=doctor)
    assert [(str(part.study_date), part.long_axis_mm, part.is_this) for part in found] == [
        ("2025-09-01", 6.0, False),
        ("2026-03-01", 8.0, False),
        ("2026-06-01", 12.0, True),
    ]
    sentence = comparison_sentence(found)
    assert "CT of 1 March 2026: largest outlined region 8.0 mm then, 12.0 mm now (+50%)" in sentence
    assert "for the reader to judge" in sentence
    assert sentence in draft_report(now, by=doctor).findings_text


def test_the_largest_region_of_each_examination_counts(doctor, patient):
    small = finding(long_axis_mm=3.0, short_axis_mm=3.0, area_mm2=8.0, malignancy=0.9)
    large = finding(long_axis_mm=9.0, short_axis_mm=7.0, area_mm2=50.0, malignancy=0.1)
    examined(doctor, patient, "2026-01-01", long_mm=1.0, findings=(small, large))
    found = compare(examined(doctor, patient, "2026-02-01", long_mm=12.0), reader=doctor)
    assert found[0].long_axis_mm == 9.0


def test_there_is_nothing_to_compare_with_one_examination_or_without_reader(doctor, patient):
    now = examined(doctor, patient, "2026-02-01", long_mm=12.0)
    assert compare(now, reader=doctor) == ()
    examined(doctor, patient, "2026-01-01", long_mm=12.0)
    assert compare(now, reader=None) == ()
    assert len(compare(now, reader=doctor)) == 2


def test_what_the_reader_may_not_see_is_not_compared(doctor, patient):
    before = examined(doctor, patient, "2026-01-01", long_mm=8.0)
    now = examined(doctor, patient, "2026-02-01", long_mm=12.0)
    StudyUserObjectPermission.objects.filter(content_object=before).delete()
    assert compare(now, reader=doctor) == ()


def test_another_patients_examination_is_never_compared(doctor, patient):
    examined(doctor, StudyFactory(created_by=doctor).patient, "2026-01-01", long_mm=8.0)
    assert compare(examined(doctor, patient, "2026-02-01", long_mm=12.0), reader=doctor) == ()


def test_answers_that_are_still_hidden_are_not_compared(doctor, patient):
    before = examined(doctor, patient, "2026-01-01", long_mm=8.0)
    now = examined(doctor, patient, "2026-02-01", long_mm=12.0)
    doctor.hospital.reads_first = True
    doctor.hospital.save()
    now = type(now).objects.get(id=now.id)
    FirstImpressionFactory(study=now)
    assert compare(now, reader=doctor) == ()
    FirstImpressionFactory(study=before)
    assert len(compare(now, reader=doctor)) == 2


def test_pixels_of_two_examinations_are_listed_but_not_drawn_together(doctor, patient):
    examined(doctor, patient, "2026-01-01")
    found = compare(examined(doctor, patient, "2026-02-01", long_mm=12.0), reader=doctor)
    assert found[0].diameter_text == "16 pixels"
    assert plots_of(found) == ()
    assert "same zoom" in comparison_sentence(found)


def test_an_examination_without_region_is_told(doctor, patient):
    examined(doctor, patient, "2026-01-01", findings=())
    found = compare(examined(doctor, patient, "2026-02-01", long_mm=12.0), reader=doctor)
    assert found[0].diameter_text == "no region outlined"
    assert "no region outlined; now: 12.0 mm" in comparison_sentence(found)


def test_the_plot_lies_inside_its_frame_and_says_in_words_what_it_draws():
    days = ["2025-01-01", "2025-01-03", "2025-06-01", "2026-01-01"]
    sizes = [4.0, 4.5, 9.0, 31.0]
    plots = plots_of(tuple(one(day, long_mm=size, area_mm2=size**2) for day, size in zip(days, sizes, strict=True)))
    assert [plot.title for plot in plots] == ["Longest diameter, mm", "Area, mm²"]
    for plot in plots:
        assert [point.x for point in plot.points] == sorted(point.x for point in plot.points)
        assert all(48 <= point.x <= 352 and 24 <= point.y <= 184 for point in plot.points)
        assert plot.points[-1].y == min(point.y for point in plot.points)
    assert "1 January 2026: 31.0" in plots[0].summary
    # Two days lie on top of each other: only one of them has a label.
    assert [bool(point.label) for point in plots[0].points] == [True, False, True, True]


def test_this_examination_keeps_its_label():
    (diameters, _areas) = plots_of((one("2020-01-01"), one("2026-01-01"), one("2026-01-05", is_this=True)))
    assert [bool(point.label) for point in diameters.points] == [True, False, True]


@pytest.mark.parametrize("size", [0.02, 1.0, 3.7, 19.9, 99.0, 950.0])
def test_scales_are_round_and_hold_every_size(size):
    (plot, _areas) = plots_of((one("2025-01-01", long_mm=size), one("2026-01-01", long_mm=size / 2)))
    top = float(plot.ticks[-1].label)
    assert size < top <= size * 2.3
    assert all(len(tick.label) <= 6 for tick in plot.ticks)


def test_the_drawing_is_well_formed_and_has_a_name():
    (plot, _areas) = plots_of((one("2025-01-01"), one("2026-01-01", long_mm=12.0, is_this=True)))
    html = render_to_string("reports/_plot.html", {"plot": plot})
    svg = ElementTree.fromstring(re.search(r"<svg.*</svg>", html, re.DOTALL)[0])  # noqa: S314 - our own drawing
    assert svg.attrib["role"] == "img"
    assert "12.0" in svg.attrib["aria-label"]
    assert len(svg.findall("circle")) == 2


def test_the_signed_report_keeps_the_comparison_on_page_and_paper(doctor, patient, reader, log_in):
    before = examined(doctor, patient, "2026-01-01", long_mm=8.0)
    now = examined(doctor, patient, "2026-02-01", long_mm=12.0)
    report = ReportFactory(study=now, is_released=True)
    assert ReportContent.from_json(report.signed_content).examinations == compare(now, reader=doctor)
    text = pdf_text(report.read_pdf())
    for words in ("Comparison with earlier examinations", "1 January 2026", "8.0 mm", "12.0 mm"):
        assert words in text
    StudyUserObjectPermission.objects.filter(content_object=before).delete()
    for person, name in ((doctor, "report_detail"), (reader, "my_report")):
        page = log_in(person).get(reverse(f"reports:{name}", args=[report.id])).content.decode()
        assert "<svg" in page
        assert "8.0 mm" in page
