"""Going on from an exported model: its folded int8 weights back into a network that can be trained."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import numpy as np

from ml.architectures import NORMALISATION_SUFFIX
from ml.errors import TrainingDataError
from ml.runtime import read_card, read_checked

# LiteRT names a tensor after the operations that it belongs to: "functional_1/block1_conv1_1/Relu;…".
_KERNEL = re.compile(r"^(?:[^/;]+/)*(?P<layer>[a-z][a-z0-9]*(?:_[a-z]+[0-9]*)?)_\d+/convolution$")
_BIAS = re.compile(r"^(?:[^/;]+/)*(?P<layer>[a-z][a-z0-9]*(?:_[a-z]+[0-9]*)?)_\d+/(?:Relu|BiasAdd|Add)(?:;|$)")


def exported_weights(content: bytes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return kernel float32 (h, w, in, out) and bias float32 (out,) of every convolution in a LiteRT file, by layer.

    int8 kernels come back as the numbers that serving computes with, which lie within half a step of those trained.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    kernels: dict[str, np.ndarray] = {}
    biases: dict[str, np.ndarray] = {}
    for detail in interpreter.get_tensor_details():
        kernel, bias = _KERNEL.match(detail["name"]), _BIAS.match(detail["name"])
        if kernel is None and bias is None:
            continue
        try:
            values = interpreter.get_tensor(detail["index"])
        except ValueError:
            # The result of an operation, not a constant of the file.
            continue
        if kernel is not None and values.ndim == 4:
            scales = detail["quantization_parameters"]["scales"]
            steps = scales.reshape(-1, 1, 1, 1) if scales.size else np.float32(1)
            kernels[kernel["layer"]] = (values.astype(np.float32) * steps).transpose(1, 2, 3, 0)
        elif bias is not None and values.ndim == 1:
            biases[bias["layer"]] = values.astype(np.float32)
    absent = {name: np.zeros(kernel.shape[-1], np.float32) for name, kernel in kernels.items()}
    return {name: (kernel, (absent | biases)[name]) for name, kernel in kernels.items()}


def load_exported(model: keras.Model, *, folder: Path, inputs: Iterable[np.ndarray]) -> None:
    """Give an outline network with normalisations the weights of the exported model in `folder`.

    At export each normalisation was folded into its convolution. Here each gets the mean and the spread that the folded
    convolution has over `inputs`, batches (n, h, w, 3), both as its statistics and as its own scale and offset: the
    network computes what the exported one does, and goes on learning as one with normalisations. What is not exported
    (the coarse outline) stays as it is. Raises TrainingDataError where the model is of another shape, and
    ModelFileError where it cannot be read.
    """
    weights = exported_weights(read_checked(folder, card=read_card(folder), name="outline"))
    normalised = [layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    convolutions = [name.removesuffix(NORMALISATION_SUFFIX) for name in normalised]
    for name in [*convolutions, "outline", "malignancy"]:
        layer = model.get_layer(name)
        if name not in weights or weights[name][0].shape != tuple(layer.kernel.shape):
            raise TrainingDataError(
                f"The model in {folder} has no layer {name} of the shape {tuple(layer.kernel.shape)}, so training "
                "cannot go on from it. Set outline.weights in params.yaml to none, or name another model."
            )
        layer.set_weights(list(weights[name]))
    for name in normalised:
        layer = model.get_layer(name)
        filters = layer.gamma.shape[0]
        neutral = np.sqrt(1.0 + layer.epsilon)
        layer.set_weights([np.full(filters, neutral), np.zeros(filters), np.zeros(filters), np.ones(filters)])
    for name, (mean, variance) in _statistics(model, layers=convolutions, inputs=inputs).items():
        layer = model.get_layer(name + NORMALISATION_SUFFIX)
        layer.set_weights([np.sqrt(variance + layer.epsilon), mean, mean, variance])


def _statistics(
    model: keras.Model, *, layers: list[str], inputs: Iterable[np.ndarray]
) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    """Return mean and variance of each named layer's output over all pictures and places, (filters,) each."""
    probe = keras.Model(model.input, {name: model.get_layer(name).output for name in layers})
    sums: dict[str, list[np.ndarray]] = {}
    count = 0
    for batch in inputs:
        count += 1
        for name, values in probe(batch, training=False).items():
            flat = np.asarray(values, dtype=np.float64).reshape(-1, values.shape[-1])
            parts = sums.setdefault(name, [np.zeros(flat.shape[1]), np.zeros(flat.shape[1])])
            parts[0] += flat.mean(axis=0)
            parts[1] += (flat**2).mean(axis=0)
    return {
        name: (first / count, np.maximum(second / count - (first / count) ** 2, 0.0))
        for name, (first, second) in sums.items()
    }
