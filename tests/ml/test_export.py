"""What is exported is what was trained."""

import hashlib
import json

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="training packages (requirements/ml.txt) are not installed")

from ml import architectures, export  # noqa: E402 - only where the training packages are installed
from ml.data import CLASSES  # noqa: E402
from ml.errors import ModelFileError  # noqa: E402
from ml.export import Figure, MalignancyCalibration, ModelDescription  # noqa: E402
from ml.preprocessing import to_input  # noqa: E402
from ml.runtime import Network, Thresholds, load_model  # noqa: E402

WIDTH = 0.06


def description(**changes) -> ModelDescription:
    values = {
        "version": "test-1",
        "classes": CLASSES,
        "thresholds": Thresholds.of_card({"outline": 0.4, "minimum_area_px": 9, "malignant": 0.6}),
        "temperature": 1.5,
        "malignancy": MalignancyCalibration(intercept=-1.0, logit=0.5, log_area=0.25),
        "training": {"fingerprint": "f" * 64, "data": {}},
        "figures": {"accuracy": Figure(value=0.5, low=None, high=None, on="a sentence")},
        "export": {},
        "classifier_side_px": 64,
    }
    return ModelDescription(**(values | changes))


@pytest.fixture(scope="module")
def networks() -> dict:
    keras.utils.set_random_seed(0)
    return {
        "classifier": export.deployable_classifier(
            architectures.build_classifier(class_count=4, width=WIDTH), width=WIDTH
        ),
        "outline": export.deployable_outline(architectures.build_outline(width=WIDTH), width=WIDTH),
    }


@pytest.fixture(scope="module")
def contents(networks) -> dict[str, bytes]:
    return {name: export.to_litert(network) for name, network in networks.items()}


@pytest.fixture
def directory(contents, tmp_path):
    export.write_model(tmp_path / "model", contents=contents, description=description())
    return tmp_path / "model"


def pictures(*shapes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, shape).astype(np.uint8) for shape in shapes]


class TestParity:
    @pytest.mark.parametrize(("name", "output"), [("classifier", "logits"), ("outline", "outline")])
    def test_the_int8_file_stays_near_the_float_network(self, name, output, networks, contents):
        shown = pictures((64, 64), (64, 64))
        parity = export.compare(content=contents[name], model=networks[name], pictures=shown, output=output)
        scale = max(float(np.abs(networks[name](to_input(one)[np.newaxis])[output]).max()) for one in shown)
        assert parity.mean < 0.1 * scale
        assert parity.largest < 0.3 * scale
        assert parity.pictures == 2

    def test_a_float_file_is_the_float_network(self, networks):
        content = export.to_litert(networks["outline"], is_quantised=False)
        parity = export.compare(
            content=content, model=networks["outline"], pictures=pictures((48, 64)), output="outline"
        )
        assert parity.largest < 1e-4

    def test_one_outline_file_serves_every_size_in_turn(self, networks, contents):
        parity = export.compare(
            content=contents["outline"],
            model=networks["outline"],
            pictures=pictures((64, 64), (16, 160), (128, 32), (64, 64)),
            output="outline",
        )
        assert parity.pictures == 4
        assert parity.largest < 0.05

    def test_compare_notices_another_network(self, contents):
        keras.utils.set_random_seed(99)
        other = architectures.build_outline(width=WIDTH)
        layer = other.get_layer("outline")
        layer.set_weights([value + 3.0 for value in layer.get_weights()])
        parity = export.compare(
            content=contents["outline"],
            model=export.deployable_outline(other, width=WIDTH),
            pictures=pictures((64, 64)),
            output="outline",
        )
        assert parity.largest > 0.2

    def test_outputs_have_the_agreed_shapes(self, contents):
        outputs = Network(contents["outline"], threads=1)(np.zeros((1, 32, 64, 3), np.float32))
        assert outputs["outline"].shape == (1, 32, 64, 1)
        assert outputs["malignancy"].shape == (1, 4, 8, 1)
        outputs = Network(contents["classifier"], threads=1)(np.zeros((1, 64, 64, 3), np.float32))
        assert outputs["logits"].shape == (1, 4)
        assert outputs["activation_maps"].shape == (1, 4, 4, 4)


class TestWrittenModel:
    def test_the_card_describes_the_files(self, directory, contents):
        card = json.loads((directory / "model.json").read_text(encoding="utf-8"))
        assert card["format"] == 1
        assert card["classes"] == list(CLASSES)
        assert card["thresholds"]["outline"] == card["thresholds"]["peak"] == 0.4
        assert card["figures"]["accuracy"] == {"value": 0.5, "low": None, "high": None, "on": "a sentence"}
        for name, content in contents.items():
            entry = card["files"][name]
            assert entry["sha256"] == hashlib.sha256(content).hexdigest()
            assert (directory / entry["path"]).stat().st_size == entry["bytes"] == len(content)

    def test_no_partial_file_is_left(self, directory):
        assert sorted(path.name for path in directory.iterdir()) == [
            "classifier.tflite",
            "model.json",
            "outline.tflite",
        ]

    def test_the_runtime_serves_it(self, directory):
        model = load_model(directory)
        pixels = pictures((90, 120))[0]
        slice_class = model.classify(pixels)
        assert slice_class.probabilities.shape == (4,)
        assert float(slice_class.probabilities.sum()) == pytest.approx(1.0, abs=1e-5)
        assert model.version == "test-1"

    def test_a_folder_that_cannot_be_written_is_named(self, contents, tmp_path):
        (tmp_path / "file").write_text("not a folder")
        with pytest.raises(ModelFileError, match="could not be written"):
            export.write_model(tmp_path / "file", contents=contents, description=description())
