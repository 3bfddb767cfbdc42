"""The serving path composes reading, model, findings and verdict, and says no more than it knows."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.errors import ImageError, ModelFileError
from ml.inference import analyse, judge
from ml.management.commands.make_fixtures import RECIPES
from ml.metrics import dice
from ml.phantom import make_phantom
from ml.runtime import STARTER_DIRECTORY

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("adenocarcinoma", "large_cell_carcinoma", "normal", "squamous_cell_carcinoma")


def slice_with_bright_squares(*squares, shape=(200, 220)) -> bytes:
    pixels = np.zeros(shape, np.uint8)
    pixels[30:-30, 30:-30] = 60
    for x, y, side in squares:
        pixels[y : y + side, x : x + side] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def test_result_is_in_pixels_of_the_file(hand_made_model):
    result = analyse(slice_with_bright_squares((60, 70, 20)), model=hand_made_model)
    assert (result.width, result.height) == (220, 200)
    assert result.mask.shape == result.activation.shape == (200, 220)
    assert set(np.unique(result.mask)) == {0, 255}
    (finding,) = result.findings
    assert finding.box == (60, 70, 20, 20)
    assert finding.area_px == 400
    assert finding.long_axis_px == pytest.approx(20 * np.sqrt(2))
    assert finding.malignancy == 0.8
    assert (finding.area_mm2, finding.long_axis_mm, finding.short_axis_mm) == (None, None, None)
    assert result.model_version == "hand-made-1"
    assert result.top_class == "adenocarcinoma"


def test_malignancy_is_asked_for_each_finding_by_itself(hand_made_model):
    analyse(slice_with_bright_squares((60, 70, 20), (120, 90, 10)), model=hand_made_model)
    assert [int(mask.sum()) for mask in hand_made_model.asked_masks] == [400, 100]


def test_spacing_gives_millimetres(hand_made_model):
    data = slice_with_bright_squares((60, 70, 20))
    (finding,) = analyse(data, pixel_spacing_mm=(0.5, 2.0), model=hand_made_model).findings
    assert finding.area_mm2 == pytest.approx(400.0)
    assert finding.long_axis_mm == pytest.approx(np.hypot(10, 40))


def test_small_pieces_are_no_findings_and_not_in_the_mask(make_hand_made_model):
    model = make_hand_made_model(minimum_area_px=200)
    result = analyse(slice_with_bright_squares((60, 70, 30), (120, 90, 5)), model=model)
    assert len(result.findings) == 1
    assert np.count_nonzero(result.mask) == 900


def test_no_finding_is_a_result_too(hand_made_model):
    result = analyse(slice_with_bright_squares(), model=hand_made_model)
    assert result.findings == ()
    assert result.mask.max() == 0
    assert result.malignant_probability == pytest.approx(0.4)
    assert "nothing was outlined" in result.malignant_basis


def test_activation_is_that_of_the_most_probable_class(make_hand_made_model):
    data = slice_with_bright_squares()
    first = analyse(data, model=make_hand_made_model())
    assert first.activation[:100].min() == 255
    assert first.activation[100:].max() == 0
    second = analyse(data, model=make_hand_made_model(probabilities=(0.1, 0.1, 0.7, 0.1)))
    assert second.activation.max() == 0


def test_json_has_exactly_the_promised_keys(hand_made_model):
    line = analyse(slice_with_bright_squares((60, 70, 20)), model=hand_made_model).to_json()
    assert list(line) == ["model_version", "probabilities", "malignant_probability", "findings", "duration_ms"]
    assert tuple(line["probabilities"]) == CLASSES
    assert list(line["findings"][0]) == [
        "box",
        "area_px",
        "long_axis_px",
        "short_axis_px",
        "malignancy",
        "area_mm2",
        "long_axis_mm",
        "short_axis_mm",
    ]
    again = json.loads(json.dumps(line, allow_nan=False))
    assert again["findings"][0]["box"] == [60, 70, 20, 20]
    assert sum(again["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_times_add_up(hand_made_model):
    result = analyse(slice_with_bright_squares((60, 70, 20)), model=hand_made_model)
    assert set(result.step_ms) == {"read", "classify", "outline", "findings", "compose", "measure"}
    assert result.duration_ms == pytest.approx(sum(result.step_ms.values()), abs=1.5)


@pytest.mark.parametrize(
    ("normal", "malignancies", "expected"),
    [(1.0, [], 0.0), (0.0, [], 0.5), (0.0, [1.0], 1.0), (0.5, [0.2, 0.7], 0.6), (1.2, [0.0], 0.0), (1.0, [1.0], 0.5)],
)
def test_verdict_is_the_mean_of_class_and_worst_finding(normal, malignancies, expected):
    rest = (1 - normal) / 3
    probabilities = dict(zip(CLASSES, (rest, rest, normal, rest), strict=True))
    value, basis = judge(probabilities, malignancies=malignancies)
    assert value == pytest.approx(expected)
    assert basis.startswith("The mean of")
    assert basis.endswith(".")


def test_bad_files_raise_their_own_sentence(hand_made_model, tmp_path):
    with pytest.raises(ImageError):
        analyse(b"no picture", model=hand_made_model)
    with pytest.raises(ImageError):
        analyse(tmp_path / "absent.png", model=hand_made_model)


def test_missing_model_folder_is_a_sentence(monkeypatch, tmp_path, phantom_png):
    monkeypatch.setenv("IRA_MODEL_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(ModelFileError):
        analyse(phantom_png)


def test_serving_modules_import_nothing_of_the_training_stack():
    heavy = ["tensorflow", "keras", "sklearn", "matplotlib", "cv2", "mlflow", "pandas", "django", "pydicom"]
    code = (
        "import sys, ml.inference, ml.overlay, ml.images, ml.phantom, ml.findings; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.skipif(not (STARTER_DIRECTORY / "model.json").exists(), reason="the starter model is not in this checkout")
def test_the_starter_model_outlines_the_planted_mass_of_the_sample_series():
    recipe = next(recipe for recipe in RECIPES if recipe.name == "series-a-3.png")
    planted = make_phantom(recipe.seed, spec=recipe.spec)
    first = analyse(ROOT / "fixtures" / recipe.name)
    assert dice(first.mask > 0, planted.mask > 0) > 0.3
    assert first.model_version
    assert sum(first.probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert 0 <= first.malignant_probability <= 1
    again = analyse((ROOT / "fixtures" / recipe.name).read_bytes())
    assert again.findings == first.findings
    assert np.array_equal(again.activation, first.activation)
