"""The honest figures of the model that answered, as its card beside the model file tells them."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml.errors import ModelFileError
from ml.runtime import model_directory, read_card

logger = logging.getLogger(__name__)

ABBREVIATIONS = {"f1": "F1", "auc": "AUC", "ece": "calibration error", "iou": "IoU", "cv": "cross-validation"}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured figure with its 95 % interval, and the sentence that says on what it was measured."""

    label: str
    value: float
    low: float | None
    high: float | None
    on: str


def figures_of(model_version: str) -> tuple[Figure, ...]:
    """Return the measured figures of a model version; empty unless it is the one in use.

    Figures of one model never stand beside the answers of another. Only the card is read, never the networks.
    """
    try:
        card = read_card(model_directory())
    except ModelFileError as error:
        logger.warning("The model card cannot be read: %s", error)
        return ()
    figures = card.get("figures")
    if card.get("version") != model_version or not isinstance(figures, Mapping):
        return ()
    return tuple(_figure(name, figure) for name, figure in figures.items() if _is_figure(figure))


def _is_figure(figure: Any) -> bool:
    return isinstance(figure, Mapping) and _is_number(figure.get("value"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _figure(name: str, figure: Mapping[str, Any]) -> Figure:
    low, high = figure.get("low"), figure.get("high")
    has_interval = _is_number(low) and _is_number(high)
    words = " ".join(ABBREVIATIONS.get(word, word) for word in name.replace(".", ", ").replace("_", " ").split(" "))
    return Figure(
        label=words[:1].upper() + words[1:],
        value=float(figure["value"]),
        low=float(low) if has_interval and low is not None else None,
        high=float(high) if has_interval and high is not None else None,
        on=str(figure.get("on") or ""),
    )
