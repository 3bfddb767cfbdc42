"""The trunk is Keras' VGG16, folding changes nothing, and the activation maps are Grad-CAM."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="training packages (requirements/ml.txt) are not installed")
tf = pytest.importorskip("tensorflow", reason="training packages (requirements/ml.txt) are not installed")

from ml import architectures  # noqa: E402 - only where the training packages are installed
from ml.export import deployable_classifier, deployable_outline  # noqa: E402

WIDTH = 0.06


def randomise(model, *, seed: int) -> None:
    """Give every weight, moving averages included, a value that an identity would not survive."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        values = [rng.normal(0, 0.3, value.shape) for value in layer.get_weights()]
        if isinstance(layer, keras.layers.BatchNormalization):
            values = [rng.uniform(0.5, 1.5, value.shape) for value in values]
        layer.set_weights(values)


@pytest.fixture(scope="module")
def reference():
    return keras.applications.VGG16(include_top=False, weights=None, input_shape=(None, None, 3))


def weights_of(model) -> dict[str, list[tuple[int, ...]]]:
    return {layer.name: [tuple(value.shape) for value in layer.weights] for layer in model.layers if layer.weights}


class TestTrunk:
    def test_it_has_the_layer_names_and_shapes_of_keras_applications(self, reference):
        trunk = architectures.build_trunk()
        assert weights_of(trunk) == weights_of(reference)
        names = [layer.name for layer in trunk.layers if layer.name.startswith("block")]
        assert names == [layer.name for layer in reference.layers if layer.name.startswith("block")]
        assert trunk.output_shape == reference.output_shape

    def test_it_computes_what_keras_applications_computes(self, reference):
        trunk = architectures.build_trunk()
        trunk.set_weights(reference.get_weights())
        inputs = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
        np.testing.assert_allclose(trunk(inputs), reference(inputs), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("is_normalised", [False, True])
    def test_its_convolutions_have_the_same_shapes_in_every_network(self, is_normalised, reference):
        expected = weights_of(reference)
        for build in (architectures.build_outline, lambda **k: architectures.build_classifier(class_count=4, **k)):
            found = weights_of(build(is_normalised=is_normalised))
            assert {name: found[name] for name in expected} == expected

    def test_a_picture_looks_to_imagenet_weights_as_keras_would_show_it(self, reference, tmp_path):
        path = tmp_path / "vgg16.weights.h5"
        reference.save_weights(path)
        target = architectures.build_outline()
        architectures.load_imagenet_trunk(target, weights=str(path))
        grey = np.random.default_rng(1).integers(0, 256, (1, 20, 20)).astype(np.float32)
        shown_by_keras = keras.applications.vgg16.preprocess_input(np.repeat(grey[..., np.newaxis], 3, axis=-1))
        from ml.preprocessing import to_input

        shown_by_us = to_input(grey[0].astype(np.uint8))[np.newaxis]
        expected = tf.nn.conv2d(shown_by_keras, *kernel_of(reference), strides=1, padding="VALID")
        found = tf.nn.conv2d(shown_by_us, *kernel_of(target), strides=1, padding="VALID")
        difference = (expected + reference.get_layer("block1_conv1").get_weights()[1]) - (
            found + target.get_layer("block1_conv1").get_weights()[1]
        )
        assert float(np.abs(difference).max()) < 1e-2 * float(np.abs(expected).max())


def kernel_of(model) -> list[np.ndarray]:
    return [model.get_layer("block1_conv1").get_weights()[0]]


class TestFolding:
    def test_the_folded_outline_network_gives_the_same_numbers(self):
        model = architectures.build_outline(width=WIDTH)
        randomise(model, seed=2)
        folded = architectures.build_outline(is_normalised=False, width=WIDTH)
        architectures.fold_normalisation(source=model, target=folded)
        inputs = np.random.default_rng(3).normal(size=(1, 32, 48, 3)).astype(np.float32)
        expected, found = model(inputs, training=False), folded(inputs, training=False)
        for name in ("outline", "coarse", "malignancy"):
            scale = float(np.abs(expected[name]).max())
            assert float(np.abs(expected[name] - found[name]).max()) < 1e-4 * scale
        assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)

    def test_the_deployable_outline_doubles_pixels_as_the_trained_one(self):
        model = architectures.build_outline(width=WIDTH)
        inputs = np.random.default_rng(4).normal(size=(1, 32, 32, 3)).astype(np.float32)
        expected = tf.sigmoid(model(inputs, training=False)["outline"])
        found = deployable_outline(model, width=WIDTH)(inputs)["outline"]
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_a_trunk_is_copied_whole(self):
        source, target = architectures.build_outline(width=WIDTH), None
        randomise(source, seed=5)
        target = architectures.build_classifier(class_count=4, width=WIDTH)
        assert architectures.copy_trunk(source=source, target=target) == 26  # 13 convolutions, 13 normalisations
        for name in ("block1_conv1", "block5_conv3", "block5_conv3_bn"):
            for one, other in zip(source.get_layer(name).weights, target.get_layer(name).weights, strict=True):
                np.testing.assert_array_equal(one, other)


def readout(model, *, features, head):
    """Return the logits (classes,) of features by level, as the network's own last layers make them."""
    parts = []
    for level, values in features.items():
        if "grid" in head:
            cell = head.get("cell_px", 32) // 2 ** (level - 1)
            parts.append(tf.nn.avg_pool2d(values, cell, cell, "VALID"))
        else:
            parts.append(tf.reduce_mean(values, axis=(1, 2)))
    layer = model.get_layer("logits")
    averages = tf.concat(parts, axis=-1)
    return tf.tensordot(tf.reshape(averages, (-1,)), tf.reshape(layer.kernel, (-1, 4)), 1) + layer.bias


class TestActivationMaps:
    @pytest.mark.parametrize(
        ("head", "shape"),
        [
            ({}, (48, 64)),
            ({"grid": 2}, (64, 64)),
            ({"grid": 4}, (128, 128)),
            ({"levels": (3, 4, 5)}, (48, 64)),
            ({"grid": 2, "cell_px": 64, "levels": (3, 4, 5)}, (128, 128)),
            ({"grid": 2, "cell_px": 64, "levels": (3, 4)}, (128, 128)),
        ],
    )
    def test_they_are_grad_cam(self, head, shape):
        model = architectures.build_classifier(class_count=4, width=WIDTH, **head)
        randomise(model, seed=6)
        plain = architectures.build_classifier(class_count=4, is_normalised=False, width=WIDTH, **head)
        architectures.fold_normalisation(source=model, target=plain)
        inputs = tf.constant(np.random.default_rng(7).normal(size=(1, *shape, 3)), tf.float32)
        found = deployable_classifier(model, width=WIDTH, **head)(inputs)["activation_maps"][0]
        levels = head.get("levels", (5,))
        outputs = plain(inputs)
        features = {level: outputs[f"features{level}"] for level in levels}
        deepest = features[max(levels)]
        positions = deepest.shape[1] * deepest.shape[2]
        for class_index in range(4):
            with tf.GradientTape() as tape:
                tape.watch(features)
                logit = readout(plain, features=features, head=head)[class_index]
            gradients = tape.gradient(logit, features)
            expected = tf.zeros((1, *deepest.shape[1:3]))
            for level in levels:
                weights = tf.reduce_mean(gradients[level], axis=(1, 2), keepdims=True)
                part = tf.reduce_sum(weights * features[level], axis=-1, keepdims=True)
                ratio = 2 ** (max(levels) - level)
                # A position of a finer level is one of ratio * ratio under a position of the deepest.
                expected += tf.nn.avg_pool2d(part, ratio, ratio, "VALID")[..., 0] * ratio**2
            expected = tf.nn.relu(expected)[0]
            scale = float(np.abs(expected).max())
            np.testing.assert_allclose(found[:, :, class_index] / positions, expected, atol=1e-4 * scale + 1e-12)

    def test_the_readout_of_the_test_is_that_of_the_network(self):
        for head in ({}, {"grid": 2, "cell_px": 64, "levels": (3, 4, 5)}):
            model = architectures.build_classifier(class_count=4, is_normalised=False, width=WIDTH, **head)
            randomise(model, seed=6)
            outputs = model(np.random.default_rng(7).normal(size=(1, 128, 128, 3)))
            features = {level: outputs[f"features{level}"] for level in head.get("levels", (5,))}
            found = readout(model, features=features, head=head)
            np.testing.assert_allclose(found, outputs["logits"][0], rtol=1e-3, atol=1e-5)

    @pytest.mark.parametrize("head", [{}, {"grid": 2}, {"grid": 1, "levels": (3, 4, 5)}, {"grid": 2, "levels": (4, 5)}])
    def test_logits_survive_deployment(self, head):
        model = architectures.build_classifier(class_count=4, width=WIDTH, **head)
        randomise(model, seed=8)
        inputs = np.random.default_rng(9).normal(size=(1, 64, 64, 3)).astype(np.float32)
        expected = np.asarray(model(inputs, training=False)["logits"])
        found = np.asarray(deployable_classifier(model, width=WIDTH, **head)(inputs)["logits"])
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
