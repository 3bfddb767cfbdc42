"""From trained Keras networks to the files that serving loads: fold, quantise, compare, hash, describe.

Imports TensorFlow; only training code imports this module.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from ml.architectures import VGG16_BLOCKS, build_classifier, build_outline, fold_normalisation
from ml.errors import ModelFileError
from ml.preprocessing import (
    CLASSIFIER_SIDE_PX,
    HIGH_PERCENTILE,
    INPUT_CENTRE,
    INPUT_SPREAD,
    LOW_PERCENTILE,
    SLICE_SIDE_PX,
    pad_to_stride,
    to_input,
)
from ml.runtime import CARD_NAME, FORMAT, Network, Thresholds


@dataclass(frozen=True)
class Figure:
    """A measured figure, its 95 % interval (None where it has none) and, in a sentence, on what data."""

    value: float
    low: float | None
    high: float | None
    on: str


@dataclass(frozen=True)
class MalignancyCalibration:
    """Logistic calibration of a finding's malignancy: intercept + logit * map mean + log_area * ln(pixels)."""

    intercept: float
    logit: float
    log_area: float


@dataclass(frozen=True)
class Parity:
    """Largest and mean absolute difference between the exported and the float network over some pictures."""

    largest: float
    mean: float
    pictures: int


@keras.saving.register_keras_serializable(package="ml")
class RepeatPixels(layers.Layer):
    """Nearest-neighbour doubling without any size in the graph, so that one file serves every picture size.

    UpSampling2D writes its output size into the exported graph; copies of the channels followed by depth-to-space give
    the same numbers and follow the input's size.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.nn.depth_to_space(tf.concat([inputs] * 4, axis=-1), 2)


@keras.saving.register_keras_serializable(package="ml")
class FloatHead(layers.Layer):
    """The linear head over cells of averages, as products and sums, which the converter leaves in float32.

    As a convolution it would be rounded to int8 together with the averages that it reads, whose sizes differ a
    hundredfold between channels: two of 72 pictures changed their class by that alone. Input (n, h, w, channels) with
    h, w >= grid; output (n, classes): the mean over all positions of the grid, of which there is one at the side that
    the head was fitted at. `kernel` (grid, grid, channels, classes), `bias` (classes,).
    """

    def __init__(self, *, grid: int, class_count: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.grid, self.class_count = grid, class_count

    def build(self, shape: Sequence[int | None]) -> None:
        self.kernel = self.add_weight(shape=(self.grid, self.grid, shape[-1], self.class_count), name="kernel")
        self.bias = self.add_weight(shape=(self.class_count,), name="bias")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        total = self.bias[tf.newaxis]
        for row in range(self.grid):
            for column in range(self.grid):
                height, width = tf.shape(inputs)[1], tf.shape(inputs)[2]
                seen = inputs[:, row : height - (self.grid - 1 - row), column : width - (self.grid - 1 - column)]
                average = tf.reduce_mean(seen, axis=(1, 2))
                total += tf.reduce_sum(average[:, :, tf.newaxis] * self.kernel[row, column][tf.newaxis], axis=1)
        return total


def deployable_classifier(
    model: keras.Model, *, width: float = 1.0, grid: int = 1, cell_px: int = 32, levels: Sequence[int] = (5,)
) -> keras.Model:
    """Return the trained classifier without normalisation, with outputs `logits`, `activation_maps` and `embedding`.

    For a linear layer w on the average of h*w positions of features A, the gradient of a class's logit with respect to
    A is w / (h*w) everywhere, so relu(sum_k w_k A_k) / (h*w) is Grad-CAM exactly. Over a grid each cell has its own w,
    and the gradient's mean is the sum of the cells' w over h*w. Where several levels are read, each has such a map,
    taken with the features of all levels held fixed; they are averaged down to the deepest level's size and added
    before the relu. The network gives the sum; the runtime divides by the number of positions, which the file, made
    for any size, does not know.
    """
    class_count = model.output["logits"].shape[-1]
    folded = build_classifier(
        class_count=class_count, is_normalised=False, width=width, grid=grid, cell_px=cell_px, levels=levels
    )
    fold_normalisation(source=model, target=folded)
    deepest = max(levels)
    kernel, _ = folded.get_layer("logits").get_weights()
    kernel = kernel.reshape(-1, folded.output["averages"].shape[-1], class_count).sum(axis=0)
    parts, start = [], 0
    for level in levels:
        features = folded.output[f"features{level}"]
        stop = start + features.shape[-1]
        layer = layers.Conv2D(class_count, 1, use_bias=False, name=f"maps{level}")
        part = layer(features)
        layer.set_weights([kernel[np.newaxis, np.newaxis, start:stop]])
        if level < deepest:
            part = layers.AveragePooling2D(2 ** (deepest - level))(part)
        parts.append(part)
        start = stop
    maps = layers.Activation("relu", name="maps")(layers.Add()(parts) if len(parts) > 1 else parts[0])
    embedding = layers.GlobalAveragePooling2D()(folded.output[f"features{len(VGG16_BLOCKS)}"])
    averages = folded.output["averages"]
    cells = averages if grid > 1 else layers.Reshape((1, 1, averages.shape[-1]))(averages)
    head = FloatHead(grid=grid, class_count=class_count, name="head")
    logits = head(cells)
    weights, bias = folded.get_layer("logits").get_weights()
    head.set_weights([weights.reshape(grid, grid, averages.shape[-1], class_count), bias])
    return keras.Model(folded.input, {"logits": logits, "activation_maps": maps, "embedding": embedding})


def exported_averages(model: keras.Model, **shape: Any) -> Network:
    """Return the exported, int8 trunk of a trained classifier, with one output `averages`: what serving's head sees.

    `shape` is that of `deployable_classifier`. A head that is fitted on these loses nothing at export.
    """
    folded = build_classifier(class_count=model.output["logits"].shape[-1], is_normalised=False, **shape)
    fold_normalisation(source=model, target=folded)
    return Network(to_litert(keras.Model(folded.input, {"averages": folded.output["averages"]})), threads=2)


def deployable_outline(model: keras.Model, *, width: float = 1.0) -> keras.Model:
    """Return the trained outline network without normalisation: `outline` as probability, `malignancy` as logit map."""
    plain = build_outline(is_normalised=False, width=width)
    fold_normalisation(source=model, target=plain)

    def without_sizes(layer: layers.Layer) -> layers.Layer:
        if isinstance(layer, layers.UpSampling2D):
            return RepeatPixels(name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    sized = keras.models.clone_model(plain, clone_function=without_sizes)
    sized.set_weights(plain.get_weights())
    probability = layers.Activation("sigmoid", name="probability")(sized.output["outline"])
    return keras.Model(sized.input, {"outline": probability, "malignancy": sized.output["malignancy"]})


def to_litert(model: keras.Model, *, is_quantised: bool = True) -> bytes:
    """Return the LiteRT file of a network with a single picture as input; weights int8 per channel when quantised."""
    specification = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="pixels")
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", lambda pixels: model(pixels, training=False), input_signature=[specification])
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if is_quantised:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return converter.convert()


def compare(*, content: bytes, model: keras.Model, pictures: Sequence[np.ndarray], output: str) -> Parity:
    """Run exported file and float network on the same uint8 (h, w) pictures and return how far `output` differs."""
    network = Network(content, threads=2)
    differences = []
    for picture in pictures:
        inputs = to_input(pad_to_stride(picture))[np.newaxis]
        expected = np.asarray(model(inputs, training=False)[output])
        differences.append(np.abs(network(inputs)[output] - expected))
    return Parity(
        largest=float(max(difference.max() for difference in differences)),
        mean=float(np.mean([difference.mean() for difference in differences])),
        pictures=len(differences),
    )


@dataclass(frozen=True)
class ModelDescription:
    """Everything of model.json that is not derived from the files themselves."""

    version: str
    classes: tuple[str, ...]
    thresholds: Thresholds
    temperature: float
    malignancy: MalignancyCalibration
    training: Mapping[str, Any]
    figures: Mapping[str, Figure]
    export: Mapping[str, Any]
    classifier_side_px: int = CLASSIFIER_SIDE_PX


def input_description(*, classifier_side_px: int) -> dict[str, float]:
    """Return the `input` block of model.json: the sizes and constants of the preprocessing it was taught on."""
    return {
        "classifier_side_px": classifier_side_px,
        "slice_side_px": SLICE_SIDE_PX,
        "centre": INPUT_CENTRE,
        "spread": INPUT_SPREAD,
        "low_percentile": LOW_PERCENTILE,
        "high_percentile": HIGH_PERCENTILE,
    }


def write_model(directory: Path, *, contents: Mapping[str, bytes], description: ModelDescription) -> Path:
    """Write the network files and model.json into `directory`; the card comes last, each file by rename.

    Raises ModelFileError where the folder cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        files = {}
        for name, content in contents.items():
            path = directory / f"{name}.tflite"
            _replace(path, content)
            digest = hashlib.sha256(content).hexdigest()
            files[name] = {"path": path.name, "sha256": digest, "bytes": len(content)}
        card = {
            "format": FORMAT,
            "version": description.version,
            "created_at": datetime.now(tz=UTC).isoformat(timespec="seconds"),
            "classes": list(description.classes),
            "files": files,
            "input": input_description(classifier_side_px=description.classifier_side_px),
            "thresholds": asdict(description.thresholds),
            "temperature": description.temperature,
            "malignancy": asdict(description.malignancy),
            "training": dict(description.training),
            "figures": {name: asdict(figure) for name, figure in description.figures.items()},
            "export": dict(description.export),
        }
        _replace(directory / CARD_NAME, (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise ModelFileError(
            f"The model could not be written to {directory}: {error}. Check space and rights."
        ) from error
    return directory / CARD_NAME


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
