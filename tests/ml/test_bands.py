"""A figure that cannot be right stops an evaluation with a sentence; a small set and an unmeasured figure do not."""

import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from ml.bands import Bands
from ml.errors import EvaluationError, OutOfBandError
from ml.management.commands import evaluate as evaluate_command
from ml.models import Event
from tests.sets import draw_all_layouts

ROOT = Path(__file__).resolve().parents[2]
BANDS = Bands(images=30, by_layout={"chest-ctscan": {"test_unseen.accuracy": (0.5, 0.98)}})


def report(value: float | None, *, low: float | None, high: float | None, images: int = 100) -> dict[str, object]:
    figure = {"value": value, "low": low, "high": high}
    return {"layout": "chest-ctscan", "test_unseen": {"images": images, "accuracy": figure}}


@pytest.mark.parametrize(
    ("value", "low", "high", "side"),
    [(0.3, 0.25, 0.35, "below"), (0.997, 0.99, 1.0, "above"), (0.2, None, None, "below")],
)
def test_a_figure_whose_whole_interval_is_outside_is_refused(value, low, high, side) -> None:
    with pytest.raises(OutOfBandError, match=rf"test_unseen\.accuracy is {value:.3f} .* {side} the expected 0\.5 to"):
        BANDS.check(report(value, low=low, high=high))


@pytest.mark.parametrize(
    "fine",
    [
        report(0.8, low=0.7, high=0.9),
        report(0.3, low=0.1, high=0.5),
        report(0.2, low=0.1, high=0.3, images=29),
        report(None, low=None, high=None),
        {"layout": "chest-ctscan", "test_unseen": None},
        {"layout": "lidc-nodules", "dice": {"value": 0.0, "low": 0.0, "high": 0.0}},
    ],
)
def test_what_reaches_the_band_or_was_not_measured_is_let_through(fine) -> None:
    BANDS.check(fine)


@pytest.mark.parametrize(
    "text", ["", "- a", "chest-ctscan: 3", "chest-ctscan: {accuracy: [0.9, 0.5]}", "a: {b: [x, 1]}"]
)
def test_bands_that_cannot_be_used_are_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bands.yaml"
    path.write_text(text)
    with pytest.raises(EvaluationError, match="cannot be used"):
        Bands.read(path)


def test_the_starter_models_recorded_figures_lie_within_the_bands_of_the_repository() -> None:
    bands = Bands.read(ROOT / "bands.yaml")
    figures = json.loads((ROOT / "ml/starter/model.json").read_text())["figures"]
    assert bands.by_layout["chest-ctscan"]["test_unseen.accuracy"]
    for layout, names in bands.by_layout.items():
        for name, (lowest, highest) in names.items():
            recorded = figures.get({"dice": "lidc_dice"}.get(name, name.replace(".", "_")))
            if recorded is not None and layout != "whole-slices":
                assert lowest < recorded["low"] < recorded["high"] < highest, name


@pytest.mark.django_db
def test_the_command_measures_writes_and_then_refuses(
    tmp_path: Path, hand_made_model, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_all_layouts(tmp_path / "sets", nodule_patients=2, pictures_a_class=0, has_groups=False)
    monkeypatch.setattr(evaluate_command, "load_model", lambda: hand_made_model)
    bands = tmp_path / "bands.yaml"
    bands.write_text("whole-slices: {dice: [0.9999, 1.0]}")
    asked = {"layout": "whole-slices", "data": tmp_path / "sets/msd-lung-slices"}
    with pytest.raises(CommandError, match=r"dice is .*, below the expected"):
        call_command("evaluate", bands=bands, out=tmp_path / "out", **asked)
    assert (tmp_path / "out/report.json").is_file()
    assert Event.objects.get(problem="OutOfBandError").kind == "evaluation"
    assert "dice" in Event.objects.get(message="A model was measured.").details["figures"]
    bands.write_text("whole-slices: {dice: [0.0, 1.0]}")
    call_command("evaluate", bands=bands, **asked)
