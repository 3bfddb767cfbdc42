"""The patient's page in plain words, made from the frozen content alone."""

import dataclasses
import re

import pytest

from reports.content import ModelPart, class_label, percent
from reports.explanation import Explanation, explain
from studies.model_card import Figure, describe_model, figure_label
from tests.factories import AnalysisFactory, ImageFactory, ReportFactory, StudyFactory, answer
from tests.reports.conftest import CARD, finding

pytestmark = pytest.mark.django_db


def words_of(explanation: Explanation) -> str:
    parts = explanation.looked_at + explanation.found + explanation.certainty + explanation.next_steps
    return " ".join([*parts, *(f"{term.word}: {term.meaning}" for term in explanation.terms)])


def explained(doctor, result=None, *, study=None, **image) -> str:
    study = study or StudyFactory(created_by=doctor)
    AnalysisFactory(image=ImageFactory(study=study, **image), is_done=True, result=result)
    return words_of(explain(ReportFactory(study=study, is_signed=True).content))


def test_it_says_what_was_looked_at_found_how_sure_and_what_next(signed):
    text = words_of(explain(signed.content))
    for words in (
        "One picture of a CT of your chest, taken on 9 March 2026",
        "Robin Hale looked at the pictures",
        "The computer marked 1 place",
        "not a diagnosis",
        "Talk about this report with the doctor",
        "emergency number",
    ):
        assert words in text


def test_no_percentage_stands_alone(signed):
    """Every figure is told as so many of 100, with what it does not mean and how often the software is wrong."""
    text = words_of(explain(signed.content))
    assert "%" not in text
    assert "about 88 points" in text
    assert "These points are not your chance of having cancer" in text
    assert "right kind of picture in 67 of 100 and was wrong in 33" in text
    assert "between 60 and 74" in text
    assert "Of 100 tumours on test pictures it missed about 22" in text
    assert "On 100 test pictures without a tumour it marked about 21 places by mistake" in text


def test_without_figures_it_says_that_they_are_not_known(doctor):
    text = explained(doctor, answer(model_version="another"))
    assert "is not known here" in text
    assert "67 of 100" not in text


def test_figures_are_those_of_the_day_of_signing(signed, model_card):
    before = words_of(explain(signed.content))
    model_card(CARD | {"version": "test-1", "figures": {"accuracy": {"value": 0.1}}})
    signed.refresh_from_db()
    assert words_of(explain(signed.content)) == before


def test_nothing_marked_is_no_promise(doctor):
    text = explained(doctor, answer(findings=(), malignant_probability=0.03))
    assert "marked nothing" in text
    assert "no proof that everything is fine" in text
    assert "nothing stood out" in text


@pytest.mark.parametrize(
    ("size_mm", "thing"),
    [(4, "a grain of rice"), (9, "a pea"), (20, "a grape"), (40, "a walnut"), (120, "120 mm long.")],
)
def test_a_size_is_compared_with_a_thing(doctor, size_mm, thing):
    result = answer(findings=(finding(long_axis_mm=float(size_mm), short_axis_mm=3.0, area_mm2=9.0),))
    assert thing in explained(doctor, result, row_spacing_mm=1.0, column_spacing_mm=1.0)


def test_without_pixel_spacing_no_size_is_claimed(signed):
    assert "cannot be told from this kind of picture" in words_of(explain(signed.content))


def test_none_is_called_the_largest_where_one_size_is_unknown(doctor):
    study = StudyFactory(created_by=doctor)
    AnalysisFactory(
        image=ImageFactory(study=study), is_done=True, result=answer(findings=(finding(long_axis_px=40.0),))
    )
    measured = answer(findings=(finding(millimetres=True),))
    text = explained(doctor, measured, study=study, number=2, row_spacing_mm=0.7, column_spacing_mm=0.7)
    assert "marked 2 places" in text
    assert "largest" not in text
    assert "cannot be told from these pictures" in text


def test_a_normal_slice_gets_no_lecture_on_tumour_types(doctor):
    calm = {"adenocarcinoma": 0.05, "large_cell_carcinoma": 0.02, "normal": 0.9, "squamous_cell_carcinoma": 0.03}
    text = explained(doctor, answer(probabilities=calm, findings=(), malignant_probability=0.05))
    assert "most reminded of" not in text


def test_only_words_that_occur_are_explained(signed):
    content = dataclasses.replace(signed.content, findings_text="Small effusion.", impression="Biopsy.")
    words = [term.word for term in explain(content).terms]
    assert "effusion" in words
    assert "biopsy" in words
    assert "metastasis" not in words


def test_extreme_estimates_are_never_told_as_certain(doctor):
    text = explained(doctor, answer(malignant_probability=1.0))
    assert "about 99 points" in text
    assert not re.search(r"\b(100|0) points\b", text)


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.0, "below 1%"), (0.0099, "below 1%"), (0.01, "1%"), (0.5, "50%"), (0.99, "99%"), (0.9951, "above 99%")],
)
def test_percent_is_never_bare_certainty(probability, text):
    assert percent(probability) == text


def test_unknown_classes_and_figures_are_still_readable():
    assert class_label("small_cell_carcinoma") == "small cell carcinoma"
    assert figure_label("some_set.some_measure") == "Some measure, some set"
    assert figure_label("test_unseen_accuracy") == figure_label("test_unseen.accuracy")


def test_the_most_believable_accuracy_speaks():
    def figure(name: str) -> Figure:
        return Figure(name=name, value=0.5, low=None, high=None, on="")

    names = [
        "official_valid.accuracy",
        "official_test.accuracy",
        "test_unseen.accuracy",
        "official_test.balanced_accuracy",
    ]
    model = ModelPart(name="m", version="1", figures=tuple(figure(name) for name in names), note="")
    assert model.accuracy.name == "test_unseen.accuracy"
    assert ModelPart(name="m", version="1", figures=(figure("ece"),), note="").accuracy is None


def test_the_shipped_cards_names_are_understood():
    names = ["slice_sensitivity", "false_positives_per_normal_slice", "test_unseen_accuracy", "lidc_dice_ge30px"]
    figures = tuple(Figure(name=name, value=0.5, low=None, high=None, on="") for name in names)
    model = ModelPart(name="m", version="1", figures=figures, note="")
    assert model.lesion_sensitivity.name == "slice_sensitivity"
    assert model.false_positives.name == "false_positives_per_normal_slice"
    assert {figure.name for figure in model.printed_figures} == set(names)
    assert figure_label("lidc_dice_ge30px") == "Outline: Dice, nodules of 30 pixels or more, LIDC nodules"


@pytest.mark.parametrize("value", [None, "0.9", True, float("nan"), float("inf"), [1]])
def test_a_figure_that_is_no_number_is_left_out(model_card, value):
    model_card(CARD | {"figures": {"accuracy": {"value": value, "on": "x"}}})
    assert describe_model("test-1").figures == ()
    assert "names no measured figures" in describe_model("test-1").note


def test_a_figure_without_interval_is_told_without_one(model_card):
    model_card(CARD | {"figures": {"accuracy": {"value": 0.5, "low": None, "high": "x"}}})
    (figure,) = describe_model("test-1").figures
    assert not figure.has_interval
    assert figure.text == "0.50"
