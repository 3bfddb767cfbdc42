"""Whether the exported files say what the float networks say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ml.data import read_grey
from ml.export import MalignancyCalibration, compare
from ml.preprocessing import classifier_slice, outline_slice
from ml.runtime import Thresholds


@dataclass(frozen=True)
class Settings:
    """What is found out after export and before the card is written."""

    thresholds: Thresholds
    temperature: float
    malignancy: MalignancyCalibration
    classifier_side_px: int


class KerasNetwork:
    """A deployable Keras network in the place of the LiteRT file made of it."""

    def __init__(self, model: keras.Model) -> None:
        self._call = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)

    def __call__(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self._call(tf.convert_to_tensor(inputs)).items()}


def parity_of_outputs(
    paths: Sequence[Path], *, contents: Mapping[str, bytes], floats: Mapping[str, keras.Model], side: int
) -> dict[str, Any]:
    """Return largest and mean difference of each network's main output over the pictures `paths`."""
    pixels = [read_grey(path) for path in paths]
    cases = {
        "classifier": (lambda one: classifier_slice(one, side=side)[0], "logits"),
        "outline": (lambda one: outline_slice(one)[0], "outline"),
    }
    return {
        name: vars(
            compare(
                content=contents[name],
                model=floats[name],
                pictures=[prepared(one) for one in pixels],
                output=output,
            )
        )
        for name, (prepared, output) in cases.items()
        if pixels and name in contents
    }
