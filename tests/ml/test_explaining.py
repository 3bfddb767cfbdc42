"""SHAP on a narrow network: contributions that add up, a picture that opens, sentences where something is missing."""

import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from PIL import Image

keras = pytest.importorskip("keras", reason="training packages (requirements/ml.txt) are not installed")
pytest.importorskip("shap", reason="training packages (requirements/ml.txt) are not installed")

from ml.architectures import build_classifier  # noqa: E402 - only where the training packages are installed
from ml.errors import MissingDependencyError, TrainingDataError  # noqa: E402
from ml.explaining import draw, explain  # noqa: E402
from tests.sets import save_pixels  # noqa: E402

SIDE = 32
NARROW = """
seed: 0
splits: {valid_share: 0.2, test_share: 0.2}
outline: {width: 0.05, weights: none, valid_slices: 1, steps_per_epoch: 1, patience_epochs: 1, malignancy_weight: 0.3,
  coarse_weight: 0.3, phases: []}
classifier: {width: 0.05, trunk: none, dropout: 0.0, label_smoothing: 0.0, steps_per_epoch: 1, patience_epochs: 1,
  frozen_recipe_versions: 0,
  phases: [{name: small, side: 32, batch: 1, steps: 1, learning_rate: 0.1, frozen_blocks: 0}]}
"""


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (90, 100)).astype(np.uint8)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_classifier(class_count=4, width=0.05)


def test_contributions_add_up_and_the_picture_opens(model, tmp_path):
    background = [noise(seed) for seed in range(4)]
    (found,) = explain(model, pictures=[noise(9)], background=background, side=SIDE, samples=150, seed=1)
    assert found.contributions.shape == found.pixels.shape == (SIDE, SIDE)
    difference = found.logit - found.background_logit
    spread = float(np.abs(found.contributions).sum())
    assert abs(found.contributions.sum() - difference) < 0.25 * spread + 1e-6
    draw(found, class_name="normal", path=tmp_path / "deep/x.png")
    with Image.open(tmp_path / "deep/x.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.png"]


def test_without_slices_to_compare_with_it_says_what_to_name(model):
    with pytest.raises(TrainingDataError, match="--data"):
        explain(model, pictures=[noise(1)], background=[], side=SIDE)


def test_without_shap_it_says_what_to_install(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(MissingDependencyError, match="shap"):
        explain(model, pictures=[noise(1)], background=[noise(2)], side=SIDE)


class TestCommand:
    @pytest.fixture
    def trained(self, model, tmp_path) -> Path:
        (tmp_path / "params.yaml").write_text(NARROW)
        (tmp_path / "train").mkdir()
        model.save_weights(tmp_path / "train/classifier.weights.h5")
        for number in range(3):
            save_pixels(tmp_path / f"data/chest-ctscan-images/Data/train/normal/{number}.png", noise(number))
        save_pixels(tmp_path / "slice.png", noise(7))
        return tmp_path

    def explain(self, folder: Path, *pictures: str, **options: object) -> str:
        output = StringIO()
        values = {"data": folder / "data", "trained": folder / "train", "params": folder / "params.yaml", "samples": 4}
        names = [str(folder / name) for name in pictures]
        call_command("explain", *names, out=folder / "out", stdout=output, **(values | options))
        return output.getvalue()

    def test_it_draws_a_picture_for_each_slice(self, trained):
        said = self.explain(trained, "slice.png")
        assert "slice.png: " in said
        assert (trained / "out/slice.png").is_file()

    @pytest.mark.parametrize(
        ("pictures", "options", "reason"),
        [
            (["slice.png"], {"data": None}, "--data"),
            (["slice.png"], {"samples": 0}, "--samples"),
            (["none.png"], {}, "no such file"),
            (["params.yaml"], {}, "can be read"),
            (["slice.png", "data/slice.jpg"], {}, "same name"),
        ],
    )
    def test_what_cannot_be_is_refused_in_a_sentence(self, trained, monkeypatch, pictures, options, reason):
        monkeypatch.delenv("IRA_DATA_DIR", raising=False)
        with pytest.raises(CommandError, match=reason):
            self.explain(trained, *pictures, **options)

    def test_a_model_that_was_not_trained_is_named(self, trained):
        with pytest.raises(CommandError, match=r"Run manage\.py train"):
            self.explain(trained, "slice.png", trained=trained / "elsewhere")
