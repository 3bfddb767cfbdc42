"""Loading the model: only the files that the card describes; and what the shipped one answers."""

import json
import math
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from ml import runtime
from ml.errors import ModelFileError
from ml.phantom import NoduleSpec, PhantomSpec, make_phantom
from ml.preprocessing import Box, resize, stretch
from ml.runtime import CROP_VIEWS, STARTER_DIRECTORY, SliceClass, load_model


@pytest.fixture
def copied(tmp_path) -> Path:
    return Path(shutil.copytree(STARTER_DIRECTORY, tmp_path / "model"))


@pytest.fixture(scope="module")
def model():
    return load_model(STARTER_DIRECTORY)


@pytest.fixture(scope="module")
def phantom():
    spec = PhantomSpec(size=256, level=0.5, window="wide", nodules=(NoduleSpec(28, "solid", "inner", "left"),))
    return make_phantom(77, spec=spec)


def edit_card(folder: Path, change) -> None:
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    change(card)
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")


class TestHashes:
    @pytest.mark.parametrize("name", ["classifier.tflite", "outline.tflite"])
    def test_a_file_with_one_bit_changed_is_refused(self, copied, name):
        content = bytearray((copied / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copied / name).write_bytes(bytes(content))
        with pytest.raises(ModelFileError, match="SHA-256 differs"):
            load_model(copied)

    def test_a_changed_file_is_refused_even_after_the_good_one_was_loaded(self, copied):
        load_model(copied)
        (copied / "outline.tflite").write_bytes(b"")
        edit_card(copied, lambda card: card["files"]["outline"].update(sha256="0" * 64))
        with pytest.raises(ModelFileError, match="SHA-256 differs"):
            load_model(copied)

    def test_a_missing_file_is_named(self, copied):
        (copied / "outline.tflite").unlink()
        with pytest.raises(ModelFileError, match=r"outline\.tflite is missing"):
            load_model(copied)

    @pytest.mark.parametrize("path", ["../outline.tflite", "/etc/passwd", "a/b.tflite"])
    def test_a_file_outside_the_folder_is_not_read(self, copied, path):
        edit_card(copied, lambda card: card["files"]["outline"].update(path=path))
        with pytest.raises(ModelFileError, match="outside its folder"):
            load_model(copied)

    def test_a_file_that_is_no_network_is_refused_in_a_sentence(self, copied):
        import hashlib

        (copied / "outline.tflite").write_bytes(b"not a network")
        digest = hashlib.sha256(b"not a network").hexdigest()
        edit_card(copied, lambda card: card["files"]["outline"].update(sha256=digest))
        with pytest.raises(ModelFileError, match="cannot be loaded"):
            load_model(copied)


class TestCard:
    @pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 99}', "\x00"])
    def test_a_damaged_card_is_refused_in_a_sentence(self, copied, content):
        (copied / "model.json").write_text(content)
        with pytest.raises(ModelFileError, match="model card"):
            load_model(copied)

    def test_a_card_without_files_is_refused(self, copied):
        edit_card(copied, lambda card: card.pop("files"))
        with pytest.raises(ModelFileError, match="names no classifier"):
            load_model(copied)

    @pytest.mark.parametrize("key", ["thresholds", "temperature", "malignancy", "input", "classes", "version"])
    def test_a_card_that_lacks_a_part_is_refused(self, copied, key):
        edit_card(copied, lambda card: card.pop(key))
        with pytest.raises(ModelFileError, match="cannot be loaded"):
            load_model(copied)

    def test_no_folder_at_all_is_said_with_what_to_do(self, tmp_path):
        with pytest.raises(ModelFileError, match="IRA_MODEL_DIR"):
            load_model(tmp_path / "nowhere")

    def test_the_environment_names_the_folder(self, copied, monkeypatch):
        edit_card(copied, lambda card: card.update(version="mine"))
        monkeypatch.setenv("IRA_MODEL_DIR", str(copied))
        assert load_model().version == "mine"
        monkeypatch.delenv("IRA_MODEL_DIR")
        assert load_model().version != "mine"


class TestStarterModel:
    def test_it_is_small_enough_to_ship(self):
        assert sum(path.stat().st_size for path in STARTER_DIRECTORY.iterdir()) <= 40_000_000

    def test_its_card_carries_measured_figures_with_their_data(self, model):
        assert model.card["figures"]
        for figure in model.card["figures"].values():
            assert set(figure) == {"value", "low", "high", "on"}
            assert math.isfinite(figure["value"])
            assert len(figure["on"]) > 20
        assert len(model.card["training"]["fingerprint"]) == 64

    def test_no_held_out_patient_was_trained_on(self):
        import csv

        with (STARTER_DIRECTORY / "manifest.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["set"] != "chest-ctscan-images"]
        splits: dict[tuple[str, str], set[str]] = {}
        for row in rows:
            splits.setdefault((row["set"], row["group"]), set()).add(row["split"])
        assert splits
        assert all(len(split) == 1 for split in splits.values())

    @pytest.mark.parametrize("shape", [(64, 64), (65, 300), (1000, 70), (512, 512), (800, 1200)])
    def test_any_size_is_outlined_at_its_own_size(self, model, shape):
        pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        probability = model.outline(pixels)
        assert probability.shape == shape
        assert probability.dtype == np.float32
        assert 0 <= probability.min() <= probability.max() <= 1

    @pytest.mark.parametrize("grey", [0, 128, 255])
    def test_a_blank_picture_is_answered(self, model, grey):
        pixels = np.full((128, 200), grey, np.uint8)
        assert np.isfinite(model.outline(pixels)).all()
        assert float(model.classify(pixels).probabilities.sum()) == pytest.approx(1.0, abs=1e-5)

    @pytest.mark.parametrize("scale", ["auto", "slice", "crop"])
    def test_every_scale_keeps_the_size(self, model, phantom, scale):
        crop = np.ascontiguousarray(phantom.pixels[50:178, 30:158])
        assert model.outline(crop, scale=scale).shape == (128, 128)

    def test_a_crop_is_looked_at_several_times_and_the_outlines_are_averaged(self, model, phantom):
        crop = stretch(np.ascontiguousarray(phantom.pixels[50:178, 30:130]))
        views = []
        for scale, mirror in CROP_VIEWS:
            small = resize(crop, width=round(scale * 100), height=round(scale * 128))
            outline = model.outline_maps(np.ascontiguousarray(small[mirror]))[0][mirror]
            views.append(resize(np.ascontiguousarray(outline), width=100, height=128))
        assert len({view.tobytes() for view in views}) == len(CROP_VIEWS), "each view says something of its own"
        np.testing.assert_allclose(model.outline(crop), np.mean(views, axis=0), atol=1e-6)

    def test_a_larger_picture_is_looked_at_once(self, model, phantom):
        expected = model.outline_maps(stretch(phantom.pixels))[0]
        np.testing.assert_array_equal(model.outline(phantom.pixels, scale="crop"), expected)

    def test_the_same_slice_gives_the_same_answer(self, model, phantom):
        one, other = model.classify(phantom.pixels), model.classify(phantom.pixels)
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
        np.testing.assert_array_equal(model.outline(phantom.pixels), model.outline(phantom.pixels))

    def test_margin_around_a_slice_hardly_changes_the_classes(self, model, phantom):
        padded = np.pad(phantom.pixels, ((30, 60), (50, 10)))
        one, other = model.classify(phantom.pixels).probabilities, model.classify(padded).probabilities
        assert float(np.abs(one - other).max()) < 0.25

    def test_malignancy_is_a_probability_for_large_and_tiny_findings(self, model, phantom):
        for size in (1, 3, 40, 200):
            mask = np.zeros(phantom.pixels.shape, bool)
            mask[40 : 40 + size, 40 : 40 + size] = True
            assert 0 <= model.malignancy(phantom.pixels, mask=mask) <= 1

    def test_malignancy_at_the_border_of_the_picture(self, model, phantom):
        mask = np.zeros(phantom.pixels.shape, bool)
        mask[-3:, -3:] = True
        assert 0 <= model.malignancy(phantom.pixels, mask=mask) <= 1

    @pytest.mark.parametrize("shape", [(256, 256), (128, 128)])
    def test_malignancy_of_nothing_is_refused(self, model, phantom, shape):
        with pytest.raises(ValueError, match="Received"):
            model.malignancy(phantom.pixels, mask=np.zeros(shape, bool))

    def test_threads_share_it_safely(self, model, phantom):
        expected = model.outline(phantom.pixels)
        found = []
        shapes = [phantom.pixels, np.ascontiguousarray(phantom.pixels[:128, :128])] * 3
        threads = [threading.Thread(target=lambda p=p: found.append((p, model.outline(p)))) for p in shapes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 6
        for pixels, probability in found:
            if pixels.shape == expected.shape:
                np.testing.assert_array_equal(probability, expected)


class TestActivation:
    def test_it_lies_over_the_body_and_is_nothing_outside(self):
        maps = np.ones((2, 3, 4), np.float32)
        box = Box(left=10, top=20, right=40, bottom=60)
        slice_class = SliceClass(np.full(4, 0.25), maps, np.zeros(512), box)
        area = slice_class.activation_over(1, height=80, width=50)
        assert area.shape == (80, 50)
        assert (area[20:60, 10:40] == 1).all()
        assert area.sum() == 40 * 30


class TestPooledLogit:
    def test_it_is_the_mean_over_the_cells_of_the_finding(self):
        malignancy = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
        mask = np.zeros((16, 16), bool)
        mask[:8, 8:] = True
        assert runtime.pooled_logit(malignancy, mask=mask) == pytest.approx(2.0)
        mask[8:, 8:] = True
        assert runtime.pooled_logit(malignancy, mask=mask) == pytest.approx(3.0)

    def test_padding_counts_for_nothing(self):
        malignancy = np.array([[1.0, 9.0], [9.0, 9.0]], np.float32)
        assert runtime.pooled_logit(malignancy, mask=np.ones((8, 8), bool)) == pytest.approx(1.0)


class TestProcess:
    def run(self, code: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip().splitlines()[-1]

    def test_serving_loads_no_training_package(self):
        code = (
            "import sys, numpy as np; from ml.runtime import load_model; m = load_model(); "
            "m.outline(np.zeros((64, 64), np.uint8)); "
            "print([n for n in ('tensorflow', 'keras', 'sklearn', 'cv2', 'matplotlib', 'mlflow', 'pandas') "
            "if n in sys.modules])"
        )
        assert self.run(code) == "[]"

    def test_importing_loads_no_network(self):
        code = "import sys, ml.runtime; print([n for n in sys.modules if n.startswith('ai_edge_litert')])"
        assert self.run(code) == "[]"

    def test_a_forked_child_loads_its_own(self):
        code = (
            "import os, numpy as np\nfrom ml.runtime import load_model\n"
            "m = load_model(); x = np.zeros((64, 64), np.uint8); m.outline(x)\n"
            "pid = os.fork()\n"
            "if pid == 0:\n    n = load_model(); n.outline(x); os._exit(0 if n is not m else 3)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
        )
        assert self.run(code) == "0"
