"""params.yaml as frozen dataclasses: the one place where numbers and seeds of training come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ml.errors import TrainingDataError

# Known here by name, so that parameters can be read without the training packages.
BACKBONES = ("vgg16", "resnet50", "densenet121")
PRECISIONS = ("float32", "mixed_bfloat16")
DEFAULT_PATH = Path(__file__).resolve().parents[2] / "params.yaml"


@dataclass(frozen=True)
class SplitParameters:
    """Shares of patients kept out of training, for sets without an official split."""

    valid_share: float
    test_share: float


@dataclass(frozen=True)
class OutlinePhase:
    """A stretch of outline training: patch side, batch, steps, peak learning rate, the sources' shares of a batch.

    `hard_weight`: how much the most tumour-like pixels away from tumours count beside the mean over all pixels.
    """

    name: str
    side: int
    batch: int
    steps: int
    learning_rate: float
    nodules: float
    slices: float
    negatives: float
    phantoms: float
    hard_weight: float = 0.0


@dataclass(frozen=True)
class OutlineParameters:
    """`weights`: `none`, `imagenet`, a file of Keras weights, or an exported model's folder (`starter`: that shipped).

    `precision`: Keras' dtype policy in training, `float32` or `mixed_bfloat16`. `trunk_phase`: the phase whose trunk
    the slice class gets; empty for the last.
    """

    weights: str
    valid_slices: int
    steps_per_epoch: int
    patience_epochs: int
    malignancy_weight: float
    coarse_weight: float
    phases: tuple[OutlinePhase, ...]
    width: float = 1.0
    precision: str = "float32"
    trunk_phase: str = ""

    @property
    def phases_of_trunk(self) -> tuple[OutlinePhase, ...]:
        """The phases that the slice class's trunk went through."""
        names = [phase.name for phase in self.phases]
        return self.phases[: names.index(self.trunk_phase) + 1] if self.trunk_phase else self.phases


@dataclass(frozen=True)
class ClassifierPhase:
    """A stretch of fine-tuning: side of the pictures, batch, steps, peak learning rate, blocks held as they are."""

    name: str
    side: int
    batch: int
    steps: int
    learning_rate: float
    frozen_blocks: int


@dataclass(frozen=True)
class ClassifierParameters:
    """`trunk`: `outline` (the trunk pretrained here), `imagenet`, `none` or a weights file.

    The head reads the last features of the trunk's blocks `levels`, averaged over `grid` x `grid` cells of `cell_px`.
    `backbone`: `vgg16`, `resnet50`, `densenet121`, or `ensemble` of `members`. The trunk pretrained here, levels and
    grid are VGG16's: the others start from random weights where `trunk` is `outline`, and average globally.
    """

    trunk: str
    dropout: float
    label_smoothing: float
    steps_per_epoch: int
    patience_epochs: int
    frozen_recipe_versions: int
    phases: tuple[ClassifierPhase, ...]
    width: float = 1.0
    grid: int = 1
    cell_px: int = 32
    levels: tuple[int, ...] = (5,)
    backbone: str = "vgg16"
    members: tuple[str, ...] = ()

    def of_member(self, name: str) -> ClassifierParameters:
        """Return the parameters with which `name` is trained within the ensemble."""
        return replace(self, backbone=name, members=())


@dataclass(frozen=True)
class Parameters:
    """All of params.yaml."""

    seed: int
    splits: SplitParameters
    outline: OutlineParameters
    classifier: ClassifierParameters


def load_parameters(path: Path = DEFAULT_PATH) -> Parameters:
    """Read params.yaml. Raises TrainingDataError where the file is missing or a name in it is unknown or absent."""
    try:
        raw: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        outline = dict(raw["outline"])
        classifier = dict(raw["classifier"])
        outline_phases = tuple(OutlinePhase(**phase) for phase in outline.pop("phases"))
        classifier["levels"] = tuple(classifier.get("levels", (5,)))
        classifier_phases = tuple(ClassifierPhase(**phase) for phase in classifier.pop("phases"))
        classifier["members"] = tuple(classifier.get("members", ()))
        _check_outline(outline, phases=outline_phases)
        _check_backbones(classifier.get("backbone", "vgg16"), members=classifier["members"])
        return Parameters(
            seed=raw["seed"],
            splits=SplitParameters(**raw["splits"]),
            outline=OutlineParameters(**outline, phases=outline_phases),
            classifier=ClassifierParameters(**classifier, phases=classifier_phases),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise TrainingDataError(f"The parameters in {path} cannot be used: {error}. Correct the file.") from error


def _check_outline(outline: dict[str, Any], *, phases: tuple[OutlinePhase, ...]) -> None:
    if outline.get("precision", "float32") not in PRECISIONS:
        raise ValueError(f"outline.precision is {outline['precision']!r}, none of {', '.join(PRECISIONS)}")
    if outline.get("trunk_phase", "") not in ("", *(phase.name for phase in phases)):
        raise ValueError(f"outline.trunk_phase is {outline['trunk_phase']!r}, the name of no phase")


def _check_backbones(backbone: str, *, members: tuple[str, ...]) -> None:
    if backbone not in (*BACKBONES, "ensemble"):
        raise ValueError(f"classifier.backbone is {backbone!r}, none of {', '.join(BACKBONES)} and ensemble")
    if backbone == "ensemble" and (
        not members or len(set(members)) < len(members) or not set(members) <= set(BACKBONES)
    ):
        raise ValueError(f"classifier.members must name each of some of {', '.join(BACKBONES)} once")


def limited(parameters: Parameters, *, limit: int) -> Parameters:
    """Return parameters for a quick look: at most `limit` steps a phase, epochs to match."""
    outline = replace(
        parameters.outline,
        phases=tuple(replace(phase, steps=min(phase.steps, limit)) for phase in parameters.outline.phases),
        steps_per_epoch=min(parameters.outline.steps_per_epoch, limit),
        valid_slices=min(parameters.outline.valid_slices, limit),
    )
    classifier = replace(
        parameters.classifier,
        phases=tuple(replace(phase, steps=min(phase.steps, limit)) for phase in parameters.classifier.phases),
        steps_per_epoch=min(parameters.classifier.steps_per_epoch, limit),
        frozen_recipe_versions=0,
    )
    return replace(parameters, outline=outline, classifier=classifier)
