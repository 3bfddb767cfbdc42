"""Which pixels spoke for and against a class, by expected gradients of the float classifier (SHAP).

For the training machine: the activation map comes out of the forward pass that serves, this takes hundreds of passes
forwards and backwards, and pictures to compare with. Shown as where the model looked, never as evidence.

Source: Lundberg & Lee 2017 (SHAP); Erion et al. 2021 (expected gradients).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ml.errors import MissingDependencyError, TrainingDataError
from ml.preprocessing import classifier_slice, to_input


@dataclass(frozen=True)
class Explanation:
    """What one picture's pixels contributed to the logit of a class against the background's mean.

    `pixels` uint8 (s, s) as the network sees the body; `contributions` float32 (s, s), which add up to about
    `logit` - `background_logit`; `class_index` is the class with the largest logit.
    """

    pixels: np.ndarray
    contributions: np.ndarray
    class_index: int
    logit: float
    background_logit: float


def explain(
    model: keras.Model,
    *,
    pictures: Sequence[np.ndarray],
    background: Sequence[np.ndarray],
    side: int,
    samples: int = 200,
    seed: int = 0,
) -> tuple[Explanation, ...]:
    """Explain the most probable class of each of `pictures`, slices uint8 (H, W), against `background` slices.

    `model` is a classifier with an output `logits`. More `samples` are slower and less noisy. Raises
    MissingDependencyError without the package shap, TrainingDataError without background.
    """
    if not background:
        raise TrainingDataError("An explanation compares with other slices. Name the data folder with --data.")
    shown = [classifier_slice(one, side=side)[0] for one in pictures]
    inputs = np.stack([to_input(one) for one in shown])
    others = np.stack([to_input(classifier_slice(one, side=side)[0]) for one in background])
    # SHAP reshapes what it is given to the network's input, so that must name its size; and it looks for the answer at
    # the output of the last layer, which must be one tensor.
    sized = keras.Input((side, side, 3))
    scorer = keras.Model(sized, keras.layers.Activation("linear")(model(sized)["logits"]))
    logits = np.asarray(scorer(inputs, training=False))
    base = np.asarray(scorer(others, training=False)).mean(axis=0)
    explainer = _gradient_explainer(scorer, background=others)
    # (n, s, s, 3, classes): the three channels hold the same grey, so their contributions belong together.
    values = np.asarray(explainer.shap_values(inputs, nsamples=samples, rseed=seed)).sum(axis=3)
    chosen = logits.argmax(axis=1)
    return tuple(
        Explanation(
            pixels=pixels,
            contributions=values[number, :, :, chosen[number]].astype(np.float32),
            class_index=int(chosen[number]),
            logit=float(logits[number, chosen[number]]),
            background_logit=float(base[chosen[number]]),
        )
        for number, pixels in enumerate(shown)
    )


def _gradient_explainer(model: keras.Model, *, background: np.ndarray) -> Any:
    try:
        from shap import GradientExplainer
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "Explaining needs the package shap. Install requirements/ml.txt and try again."
        ) from error
    return GradientExplainer(model, background)


def draw(explanation: Explanation, *, class_name: str, path: Path) -> None:
    """Write a PNG: the slice, and beside it what spoke for the class (red) and against it (blue), by rename."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    largest = float(np.percentile(np.abs(explanation.contributions), 99.8)) or 1.0
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
    left.imshow(explanation.pixels, cmap="gray", vmin=0, vmax=255)
    left.set_title("What the network sees")
    right.imshow(explanation.pixels, cmap="gray", vmin=0, vmax=255, alpha=0.35)
    shown = right.imshow(explanation.contributions, cmap="bwr", vmin=-largest, vmax=largest, alpha=0.75)
    right.set_title(f"For (red) and against (blue) {class_name.replace('_', ' ')}")
    figure.colorbar(shown, ax=right, shrink=0.8, label="contribution to the logit")
    figure.suptitle("Where the model looked; no evidence of disease")
    for axes in (left, right):
        axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        figure.savefig(partial, dpi=110, format="png")
        partial.replace(path)
    finally:
        pyplot.close(figure)
        partial.unlink(missing_ok=True)
