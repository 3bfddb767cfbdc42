"""Other trunks and the ensemble: Keras' networks by name and shape, exact maps, an exported file that serving loads."""

from dataclasses import replace

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="training packages (requirements/ml.txt) are not installed")
tf = pytest.importorskip("tensorflow", reason="training packages (requirements/ml.txt) are not installed")

from ml import backbones, export  # noqa: E402 - only where the training packages are installed
from ml.architectures import build_classifier  # noqa: E402
from ml.data import CLASSES  # noqa: E402
from ml.errors import TrainingDataError  # noqa: E402
from ml.preprocessing import INPUT_CENTRE, INPUT_SPREAD, to_input  # noqa: E402
from ml.runtime import Model, Network  # noqa: E402
from ml.training import run  # noqa: E402
from ml.training.classifier import freeze_blocks, initial_classifier  # noqa: E402
from ml.training.parameters import DEFAULT_PATH, load_parameters  # noqa: E402

WIDTH = 0.03
SIDE = 64
OTHERS = ("resnet50", "densenet121")


def narrow(name: str) -> keras.Model:
    """An untrained classifier whose normalisations and head are not the identity."""
    keras.utils.set_random_seed(1)
    if name == backbones.VGG16:
        model = build_classifier(class_count=4, width=WIDTH)
    else:
        model = backbones.build_backbone_classifier(name, class_count=4, width=WIDTH)
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.6, 1.4, weight.shape) for weight in layer.get_weights()])
    return model


@pytest.fixture(scope="module")
def deployed() -> dict[str, keras.Model]:
    return {name: backbones.deployable(narrow(name), width=WIDTH) for name in backbones.NAMES}


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(1, SIDE, SIDE, 3)).astype(np.float32)


class TestNetworks:
    @pytest.mark.parametrize("name", OTHERS)
    def test_layers_are_those_of_keras(self, name):
        """So that Keras' ImageNet weights fit."""
        reference = backbones.BACKBONES[name].reference(include_top=False, weights=None, input_shape=(None, None, 3))
        ours = backbones.build_backbone_classifier(name, class_count=4)
        shapes = [
            {layer.name: [tuple(weight.shape) for weight in layer.weights] for layer in model.layers if layer.weights}
            for model in (reference, ours)
        ]
        shapes[1].pop("logits")
        assert shapes[0] == shapes[1]

    def test_keras_weights_give_keras_features(self, monkeypatch, tmp_path):
        """Narrow on both sides: what Keras' network sees and says, ours sees and says."""
        source = narrow("resnet50")
        source.save_weights(tmp_path / "x.weights.h5")
        target = backbones.build_backbone_classifier("resnet50", class_count=4, width=WIDTH)
        backbones.load_backbone(target, weights=str(tmp_path / "x.weights.h5"))
        pixels = np.random.default_rng(4).normal(size=(1, SIDE, SIDE, 3)).astype(np.float32)
        np.testing.assert_allclose(
            target(pixels, training=False)["features"], source(pixels, training=False)["features"], rtol=1e-4, atol=1e-5
        )

    def test_the_input_is_what_imagenet_weights_were_taught_on(self):
        grey = np.random.default_rng(1).integers(0, 256, (8, 8)).astype(np.uint8)
        rgb = np.repeat(grey[np.newaxis, :, :, np.newaxis].astype(np.float32), 3, axis=-1)
        expected = {
            "resnet50": keras.applications.resnet50.preprocess_input(rgb.copy()),
            "densenet121": keras.applications.densenet.preprocess_input(rgb.copy()),
        }
        for name, backbone in backbones.BACKBONES.items():
            shown = to_input(grey)[np.newaxis] * np.array(backbone.scale) + np.array(backbone.offset)
            np.testing.assert_allclose(shown, expected[name], rtol=1e-3, atol=1e-2)
        assert INPUT_SPREAD > 0 < INPUT_CENTRE

    def test_weights_that_do_not_fit_are_a_sentence(self, tmp_path):
        model = backbones.build_backbone_classifier("resnet50", class_count=4, width=WIDTH)
        (tmp_path / "x.weights.h5").write_bytes(b"no weights")
        with pytest.raises(TrainingDataError, match=r"classifier\.trunk"):
            backbones.load_backbone(model, weights=str(tmp_path / "x.weights.h5"))

    @pytest.mark.parametrize("name", OTHERS)
    def test_blocks_are_frozen_from_the_input_on(self, name):
        model = narrow(name)
        freeze_blocks(model, count=4)
        free = {layer.name.split("_")[0] for layer in model.layers if layer.weights and layer.trainable}
        assert free == {"conv5", "logits"} | ({"bn"} if name == "densenet121" else set())
        freeze_blocks(model, count=0)
        assert all(layer.trainable for layer in model.layers if layer.weights)


class TestDeployment:
    @pytest.mark.parametrize("name", OTHERS)
    def test_maps_are_grad_cam(self, name, inputs):
        model = narrow(name)
        found = backbones.deployable(model, width=WIDTH)(inputs, training=False)
        features = tf.convert_to_tensor(model(inputs, training=False)["features"])
        tail = keras.Model(model.output["features"], model.output["logits"])
        positions = features.shape[1] * features.shape[2]
        for class_index in range(4):
            with tf.GradientTape() as tape:
                tape.watch(features)
                logit = tail(features, training=False)[0, class_index]
            weights = tf.reduce_mean(tape.gradient(logit, features), axis=(1, 2), keepdims=True)
            expected = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1))[0]
            maps = found["activation_maps"][0, :, :, class_index] / positions
            np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-5 * float(np.abs(expected).max()) + 1e-12)

    def test_the_ensemble_is_the_mean_of_the_probabilities(self, deployed, inputs):
        members = list(deployed.values())
        outputs = [member(inputs, training=False) for member in members]
        joint = backbones.build_ensemble(members)(inputs, training=False)
        expected = np.mean([tf.nn.softmax(output["logits"]) for output in outputs], axis=0)
        np.testing.assert_allclose(tf.nn.softmax(joint["logits"]), expected, rtol=1e-4, atol=1e-6)
        assert joint["activation_maps"].shape == (1, SIDE // 16, SIDE // 16, 4)
        # The mean over positions, which is the mean contribution to the logit, survives the doubling of coarse maps.
        means = [np.asarray(output["activation_maps"]).mean(axis=(1, 2)) for output in outputs]
        np.testing.assert_allclose(
            np.asarray(joint["activation_maps"]).mean(axis=(1, 2)), np.mean(means, axis=0), rtol=1e-3, atol=1e-6
        )
        assert joint["embedding"].shape[1] == sum(output["embedding"].shape[1] for output in outputs)

    def test_an_ensemble_of_nobody_is_refused(self):
        with pytest.raises(ValueError, match="at least one"):
            backbones.build_ensemble([])

    @pytest.mark.parametrize("name", ["resnet50", "ensemble"])
    def test_the_exported_file_is_served(self, name, deployed):
        """One file with the names that the runtime knows, whatever is inside; what it says is what the float says."""
        network = deployed["resnet50"] if name == "resnet50" else backbones.build_ensemble(list(deployed.values())[:2])
        content = export.to_litert(network)
        pixels = np.random.default_rng(5).integers(0, 256, (150, 160)).astype(np.uint8)
        card = {
            "version": "1",
            "classes": CLASSES,
            "thresholds": {"outline": 0.5, "minimum_area_px": 1, "malignant": 0.5},
            "temperature": 1.0,
            "malignancy": {"intercept": 0.0, "logit": 1.0, "log_area": 0.0},
            "input": export.input_description(classifier_side_px=SIDE),
        }
        model = Model(card=card, classifier=Network(content, threads=1), outline=None)
        answer = model.classify(pixels)
        assert answer.probabilities.sum() == pytest.approx(1.0, abs=1e-5)
        assert answer.activation_over(0, height=150, width=160).shape == (150, 160)
        parity = export.compare(content=content, model=network, pictures=[pixels[:SIDE, :SIDE]], output="logits")
        assert parity.largest < 0.2


class TestParameters:
    def parameters(self, tmp_path, **changes):
        text = DEFAULT_PATH.read_text(encoding="utf-8")
        for name, value in changes.items():
            (line,) = [line for line in text.splitlines() if line.startswith(f"  {name}:")]
            text = text.replace(line, f"  {name}: {value}")
        (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
        return load_parameters(tmp_path / "p.yaml")

    def test_the_ensembles_members_are_trained_as_themselves(self, tmp_path):
        parameters = self.parameters(tmp_path, backbone="ensemble", members="[vgg16, resnet50]")
        assert parameters.classifier.members == ("vgg16", "resnet50")
        assert run.of_member(parameters, name="resnet50").classifier.backbone == "resnet50"

    @pytest.mark.parametrize(
        "changes",
        [
            {"backbone": "alexnet"},
            {"backbone": "ensemble", "members": "[]"},
            {"backbone": "ensemble", "members": "[vgg16, vgg16]"},
            {"backbone": "ensemble", "members": "[vgg16, ensemble]"},
        ],
    )
    def test_what_cannot_be_is_refused_in_a_sentence(self, tmp_path, changes):
        with pytest.raises(TrainingDataError, match="Correct the file"):
            self.parameters(tmp_path, **changes)

    def test_training_starts_on_the_backbone_that_is_named(self, tmp_path):
        parameters = self.parameters(tmp_path, backbone="resnet50")
        settings = replace(parameters.classifier, width=WIDTH)
        model = initial_classifier(settings, trunk=None, seed=0)
        assert model.name == "resnet50"
        model.save_weights(tmp_path / "classifier.weights.h5")
        loaded = run.load_classifier(tmp_path, parameters=replace(parameters, classifier=settings))
        assert set(loaded.output) == {"logits", "activation_maps", "embedding"}
        with pytest.raises(TrainingDataError, match=r"Run manage\.py train"):
            run.load_classifier(tmp_path / "none", parameters=parameters)
        with pytest.raises(TrainingDataError, match="--params"):
            run.load_classifier(tmp_path, parameters=replace(parameters, classifier=replace(settings, width=0.1)))
