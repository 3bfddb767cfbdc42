"""What the model card says about the model that answered, in the words that a report prints.

Only registry and card are read here, never the model: a web process that signs a report needs no network in memory.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from ml.errors import ModelFileError
from ml.models import ModelVersion
from ml.runtime import model_directory, read_card

logger = logging.getLogger(__name__)

# The measures of a model's card that a letter prints, in this order.
PRINTED_MEASURES = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "macro_auc",
    "malignancy_auc",
    "dice",
    "dice_ge30px",
    "sensitivity",
    "false_positives_per_normal_slice",
    "false_positives_per_negative_slice",
)
MODEL_NAME = "Chest-CT slice model (VGG16)"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured figure of a model: a value, its 95 % interval, and a sentence about what it was measured on."""

    name: str
    value: float
    low: float | None
    high: float | None
    on: str

    @property
    def label(self) -> str:
        """The figure's name as people read it."""
        return figure_label(self.name)

    @property
    def has_interval(self) -> bool:
        """Whether the 95 % interval is known."""
        return self.low is not None and self.high is not None

    @property
    def text(self) -> str:
        """Value with its interval, as printed in a table."""
        if self.low is None or self.high is None:
            return f"{self.value:.2f}"
        return _("%(value).2f (95%% interval %(low).2f to %(high).2f)") % {
            "value": self.value,
            "low": self.low,
            "high": self.high,
        }


@dataclass(frozen=True, kw_only=True)
class ModelPart:
    """The model that answered, with its honest figures; ``note`` says why there are none."""

    name: str
    version: str
    figures: tuple[Figure, ...]
    note: str

    @property
    def printed_figures(self) -> tuple[Figure, ...]:
        """The figures a letter has room for: one of each measure that matters to a reader, best evidence first."""
        chosen = (self._figure(measure) for measure in PRINTED_MEASURES)
        printed = tuple(figure for figure in chosen if figure is not None)
        return printed or self.figures[:8]

    @property
    def accuracy(self) -> Figure | None:
        """How often the slice class is right, measured on the pictures that the model knows least."""
        return self._figure("accuracy")

    @property
    def lesion_sensitivity(self) -> Figure | None:
        """Which share of the lesions is outlined."""
        return self._figure("sensitivity")

    @property
    def false_positives(self) -> Figure | None:
        """How many regions are outlined on a slice without a tumour."""
        return self._figure("false_positives_per_normal_slice") or self._figure("false_positives_per_negative_slice")

    def _figure(self, measure: str) -> Figure | None:
        named = [figure for figure in self.figures if _measure_of(figure.name) == measure]
        return min(named, key=lambda figure: _trust(figure.name), default=None)


# What a figure was measured on, the most believable first: pictures never seen in training, then the official test set
# (of which some pictures also stand in training), then cross-validation (of sister models), validation last.
SETS_BY_TRUST = (
    "test_unseen",
    "whole_slices",
    "slice",
    "lidc_nodules",
    "lidc",
    "official_test",
    "grouped_cv",
    "",
    "official_valid",
    "valid",
)


def _split_name(name: str) -> tuple[str, str]:
    set_name, _dot, measure = name.replace("/", ".").rpartition(".")
    if not set_name:
        for known in filter(None, SETS_BY_TRUST):
            if name.startswith(f"{known}_"):
                return known, name.removeprefix(f"{known}_")
    return set_name.replace("-", "_"), measure


def _measure_of(name: str) -> str:
    return _split_name(name)[1]


def _trust(name: str) -> int:
    set_name = _split_name(name)[0]
    return SETS_BY_TRUST.index(set_name) if set_name in SETS_BY_TRUST else len(SETS_BY_TRUST) - 2


def figure_label(name: str) -> str:
    """Return a figure's name as people read it: ``test_unseen.macro_f1`` → "Slice class: macro F1, unseen pictures"."""
    set_name, measure = _split_name(name)
    measures = {
        "accuracy": _("Slice class: accuracy"),
        "balanced_accuracy": _("Slice class: balanced accuracy"),
        "macro_f1": _("Slice class: macro F1"),
        "macro_auc": _("Slice class: macro AUC"),
        "ece": _("Slice class: calibration error"),
        "malignancy_auc": _("Benign or malignant: AUC"),
        "dice": _("Outline: Dice"),
        "dice_ge30px": _("Outline: Dice, nodules of 30 pixels or more"),
        "iou": _("Outline: IoU"),
        "sensitivity": _("Share of tumours outlined"),
        "false_positives_per_normal_slice": _("Regions outlined by mistake on a tumour-free slice"),
        "false_positives_per_negative_slice": _("Regions outlined by mistake on a tumour-free slice"),
    }
    sets = {
        "test_unseen": _("test pictures unlike any in training"),
        "official_test": _("official test set"),
        "official_valid": _("official validation set"),
        "grouped_cv": _("grouped cross-validation"),
        "lidc_nodules": _("LIDC nodules"),
        "lidc": _("LIDC nodules"),
        "whole_slices": _("whole slices"),
        "slice": _("whole slices"),
    }
    label = measures.get(measure, measure.replace("_", " ").capitalize())
    set_label = sets.get(set_name, set_name.replace("_", " "))
    return f"{label}, {set_label}" if set_label else label


def describe_model(version: str) -> ModelPart:
    """Return name, version and measured figures of the model that wrote ``version`` into an analysis.

    Of a registered version they stand in the registry, however many have answered since; of one that never was, in
    the card beside the model in use. Where neither has them the figures stay empty and ``note`` says so: figures of
    one model are never printed beside answers of another.
    """
    card = _card_of(version)
    if card is None:
        return ModelPart(
            name=MODEL_NAME,
            version=version,
            figures=(),
            note=_("The measured figures of this version are not at hand. Please ask the hospital for its model card."),
        )
    figures = card.get("figures")
    parts = tuple(_figures(figures)) if isinstance(figures, Mapping) else ()
    note = "" if parts else _("The card of this model names no measured figures.")
    return ModelPart(name=str(card.get("name") or MODEL_NAME), version=version, figures=parts, note=note)


def _card_of(version: str) -> Mapping[str, Any] | None:
    registered = ModelVersion.objects.filter(version=version).first()
    if registered is not None:
        return {"name": registered.name, "figures": registered.figures}
    try:
        card = read_card(model_directory())
    except ModelFileError:
        # A report can be written about answers that are stored, also on a day when the model's folder is broken.
        logger.exception("The model card cannot be read.")
        return None
    return card if card.get("version") == version else None


def _figures(figures: Mapping[str, Any]) -> list[Figure]:
    parts = []
    for name, figure in figures.items():
        if not isinstance(figure, Mapping) or not _is_number(figure.get("value")):
            continue
        low, high = figure.get("low"), figure.get("high")
        parts.append(
            Figure(
                name=str(name),
                value=round(float(figure["value"]), 6),
                low=_number(low),
                high=_number(high),
                on=str(figure.get("on") or ""),
            )
        )
    return parts


def _number(value: Any) -> float | None:
    return round(float(value), 6) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
