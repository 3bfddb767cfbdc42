"""Going on from an exported model: the same answers at once, and normalisations that training can move."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="training packages (requirements/ml.txt) are not installed")
pytest.importorskip("tensorflow", reason="training packages (requirements/ml.txt) are not installed")

from ml import architectures, export  # noqa: E402 - only where the training packages are installed
from ml.errors import TrainingDataError  # noqa: E402
from ml.preprocessing import to_input  # noqa: E402
from ml.runtime import STARTER_DIRECTORY, Network, Thresholds, read_card, read_checked  # noqa: E402
from ml.training import outline as outlining  # noqa: E402
from ml.training.parameters import DEFAULT_PATH, load_parameters  # noqa: E402
from ml.training.warm_start import exported_weights, load_exported  # noqa: E402

WIDTH = 0.05


def pictures(count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    return np.stack([to_input(rng.integers(0, 256, (48, 48), dtype=np.uint8)) for _ in range(count)])


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    """A narrow network whose normalisations are far from neutral."""
    keras.utils.set_random_seed(3)
    model = architectures.build_outline(width=WIDTH)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            filters = layer.gamma.shape[0]
            layer.set_weights(
                [
                    rng.uniform(0.5, 2, filters),
                    rng.normal(0, 0.5, filters),
                    rng.normal(0, 1, filters),
                    rng.uniform(0.3, 3, filters),
                ]
            )
    return model


@pytest.fixture(scope="module")
def folder(trained: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported")
    content = export.to_litert(export.deployable_outline(trained, width=WIDTH))
    description = export.ModelDescription(
        version="narrow",
        classes=("a", "b"),
        thresholds=Thresholds.of_card({"outline": 0.5, "minimum_area_px": 12, "malignant": 0.5}),
        temperature=1.0,
        malignancy=export.MalignancyCalibration(intercept=0.0, logit=1.0, log_area=0.0),
        training={},
        figures={},
        export={},
    )
    export.write_model(path, contents={"outline": content}, description=description)
    return path


def test_a_loaded_network_answers_as_the_exported_one(trained, folder):
    model = architectures.build_outline(width=WIDTH)
    load_exported(model, folder=folder, inputs=[pictures(4)])
    inputs = pictures(1)
    expected = Network(read_checked(folder, card=read_card(folder), name="outline"), threads=1)(inputs)
    found, untouched = (
        np.abs(keras.ops.sigmoid(one(inputs, training=False)["outline"]) - expected["outline"]).mean()
        for one in (model, architectures.build_outline(width=WIDTH))
    )
    # What is left is the rounding of activations to int8, which a network this narrow feels.
    assert found < 0.02
    assert untouched > 5 * found


def test_statistics_are_those_of_the_pictures_so_that_training_starts_where_serving_is(folder):
    model = architectures.build_outline(width=WIDTH)
    inputs = pictures(6)
    load_exported(model, folder=folder, inputs=[inputs])
    calm, training = (model(inputs, training=is_training)["malignancy"].numpy() for is_training in (False, True))
    assert np.abs(calm - training).max() < 1e-2 * max(1.0, np.abs(calm).max())


def test_every_convolution_of_the_starter_model_is_found():
    content = read_checked(STARTER_DIRECTORY, card=read_card(STARTER_DIRECTORY), name="outline")
    found = exported_weights(content)
    model = architectures.build_outline(is_normalised=False)
    expected = {
        layer.name: tuple(layer.kernel.shape) for layer in model.layers if layer.weights and layer.name != "coarse"
    }
    assert {name: kernel.shape for name, (kernel, _) in found.items()} == expected
    assert found["outline"][1][0] != 0


def test_a_model_of_another_shape_is_refused_in_a_sentence(folder):
    with pytest.raises(TrainingDataError, match=r"no layer block1_conv1 .* Set outline.weights"):
        load_exported(architectures.build_outline(width=2 * WIDTH), folder=folder, inputs=[pictures(1)])


def test_precision_changes_how_a_network_computes_and_not_its_weights(trained):
    mixed = outlining.with_precision(trained, width=WIDTH, precision="mixed_bfloat16")
    assert mixed.get_layer("block1_conv1").compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    for mine, other in zip(trained.get_weights(), mixed.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    outputs = mixed(pictures(1), training=False)
    assert {values.dtype.name for values in outputs.values()} == {"float32"}


@pytest.mark.parametrize(("name", "value"), [("precision", "float8"), ("trunk_phase", "nowhere")])
def test_a_wrong_parameter_is_named(tmp_path, name, value):
    path = tmp_path / "params.yaml"
    text = DEFAULT_PATH.read_text(encoding="utf-8")
    path.write_text(text.replace(f"  {name}: ", f"  {name}: {value} # "), encoding="utf-8")
    with pytest.raises(TrainingDataError, match=f"outline.{name} is '{value}'"):
        load_parameters(path)


def test_the_trunk_of_the_class_went_through_the_phases_up_to_the_one_named():
    parameters = load_parameters().outline
    names = [phase.name for phase in parameters.phases]
    of_second = replace(parameters, trunk_phase=names[1])
    assert [phase.name for phase in of_second.phases_of_trunk] == names[:2]
    assert [phase.name for phase in replace(parameters, trunk_phase="").phases_of_trunk] == names
