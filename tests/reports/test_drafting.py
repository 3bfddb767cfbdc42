"""The draft that the system writes."""

import pytest
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError

from reports import drafting
from reports.drafting import draft_report
from reports.errors import NothingToReportError, ReportExistsError
from reports.models import Report
from tests.factories import AnalysisFactory, DoctorFactory, ImageFactory, StudyFactory, UserFactory, answer
from tests.reports.conftest import finding

pytestmark = pytest.mark.django_db


def study_with(result=None, **image):
    study = StudyFactory()
    AnalysisFactory(image=ImageFactory(study=study, **image), is_done=True, result=result)
    return study


def text_of(report: Report) -> str:
    return f"{report.findings_text}\n{report.impression}"


def test_the_draft_tells_measurements_probabilities_and_model():
    report = draft_report(study := study_with(), by=study.created_by)
    text = text_of(report)
    for words in ("Slice 1", "96 \u00d7 96 pixels", "outlined 1 region", "adenocarcinoma 71%", "version test-1"):
        assert words in text
    assert "accuracy of 0.67 (95% interval 0.60 to 0.74)" in text
    assert "not a diagnosis" in report.impression
    assert report.state == Report.State.DRAFT
    assert report.created_by == study.created_by


def test_sizes_are_in_pixels_and_say_so_where_the_spacing_is_unknown():
    text = text_of(draft_report(study := study_with(), by=study.created_by))
    assert "longest diameter 16 pixels" in text
    assert "no pixel spacing in the file" in text
    assert " mm" not in text.replace("not in millimetres", "")


def test_sizes_are_in_millimetres_where_the_spacing_is_known():
    result = answer(findings=(finding(millimetres=True),))
    study = study_with(result, row_spacing_mm=0.7, column_spacing_mm=0.7)
    text = text_of(draft_report(study, by=study.created_by))
    assert "longest diameter 10.9 mm, perpendicular 9.7 mm, area 59 mm\u00b2" in text
    assert "10.9 \u00d7 9.7 mm" in text
    assert "no pixel spacing" not in text


def test_an_empty_outline_is_said_and_excludes_nothing():
    result = answer(findings=(), malignant_probability=0.2)
    report = draft_report(study := study_with(result), by=study.created_by)
    assert "outlined no region. This does not exclude a lesion" in report.findings_text
    assert "No region was outlined" in report.impression
    assert "below the decision threshold of 50%" in report.impression


def test_a_high_estimate_says_on_which_side_of_the_threshold_it_lies():
    report = draft_report(study := study_with(), by=study.created_by)
    assert "above the decision threshold of 50%" in report.impression


def test_a_close_race_between_classes_is_called_undecided():
    close = {"adenocarcinoma": 0.4, "large_cell_carcinoma": 0.1, "normal": 0.15, "squamous_cell_carcinoma": 0.35}
    report = draft_report(study := study_with(answer(probabilities=close)), by=study.created_by)
    assert "model is undecided" in report.findings_text
    assert "undecided between adenocarcinoma (40%) and squamous cell carcinoma (35%)" in report.impression


def test_no_probability_is_told_as_certain():
    sure = {"adenocarcinoma": 1.0, "large_cell_carcinoma": 0.0, "normal": 0.0, "squamous_cell_carcinoma": 0.0}
    text = text_of(draft_report(study := study_with(answer(probabilities=sure)), by=study.created_by))
    assert "adenocarcinoma above 99%" in text
    assert "normal below 1%" in text
    assert "100%" not in text


def test_slices_without_an_answer_are_named():
    study = study_with()
    AnalysisFactory(image=ImageFactory(study=study), has_failed=True)
    report = draft_report(study, by=study.created_by)
    assert "Slice 2: This slice was not analysed" in report.findings_text
    assert "Not analysed: slice 2" in report.impression


def test_the_newest_answer_of_a_slice_counts():
    study = study_with()
    AnalysisFactory(image=study.images.get(), is_done=True, result=answer(model_version="test-2"))
    AnalysisFactory(image=study.images.get(), has_failed=True)
    text = text_of(draft_report(study, by=study.created_by))
    assert "version test-2" in text
    assert "version test-1" not in text


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((0, 0, 4, 4), "upper left"),
        ((46, 46, 4, 4), "centre"),
        ((92, 92, 4, 4), "lower right"),
        ((90, 46, 4, 4), "right"),
    ],
)
def test_the_place_of_a_region_is_told_as_in_the_picture(box, place):
    report = draft_report(study := study_with(answer(findings=(finding(box=box),))), by=study.created_by)
    assert f"in the {place}" in report.findings_text


def test_synthetic_pictures_are_named_as_such():
    study = study_with()
    study.is_synthetic = True
    study.save()
    assert "synthetic" in draft_report(study, by=study.created_by).findings_text


def test_figures_of_another_model_version_are_never_told():
    report = draft_report(study := study_with(answer(model_version="older")), by=study.created_by)
    assert "0.67" not in report.findings_text
    assert "not at hand" in report.findings_text


@pytest.mark.parametrize("card", [None, "{", "[]", '{"format": 1, "version": "test-1", "figures": "none"}'])
def test_a_broken_or_missing_card_stops_no_draft(model_card, card):
    model_card(card)
    report = draft_report(study := study_with(), by=study.created_by)
    assert "version test-1" in report.findings_text
    assert "0.67" not in report.findings_text


@pytest.mark.parametrize("state", [{}, {"has_failed": True}, {"is_running": True}])
def test_nothing_is_drafted_while_no_analysis_has_succeeded(state):
    study = StudyFactory()
    AnalysisFactory(image=ImageFactory(study=study), **state)
    with pytest.raises(NothingToReportError, match="Please wait"):
        draft_report(study, by=study.created_by)
    assert not Report.objects.exists()


def test_a_study_has_one_report():
    report = draft_report(study := study_with(), by=study.created_by)
    with pytest.raises(ReportExistsError, match="has a report already"):
        draft_report(study, by=study.created_by)
    assert Report.objects.get() == report


@pytest.mark.django_db(transaction=True)
def test_of_two_doctors_who_draft_at_once_one_gets_a_sentence(monkeypatch):
    study = study_with()
    prose = drafting.findings_prose

    def the_other_is_faster(*args, **kwargs):
        Report.objects.create(study=study, created_by=study.created_by, impression="Faster.")
        return prose(*args, **kwargs)

    monkeypatch.setattr(drafting, "findings_prose", the_other_is_faster)
    with pytest.raises(ReportExistsError) as caught:
        draft_report(study, by=study.created_by)
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert Report.objects.get().impression == "Faster."


@pytest.mark.parametrize("person", [lambda: UserFactory(), lambda: DoctorFactory(approved_at=None)])
def test_only_approved_doctors_draft(person):
    with pytest.raises(PermissionDenied):
        draft_report(study_with(), by=person())
    assert not Report.objects.exists()
