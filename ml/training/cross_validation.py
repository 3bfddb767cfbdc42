"""The slice class without leaks: grouped cross-validation, recorded with the data that it was measured on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from ml.backbones import ENSEMBLE
from ml.data import CLASSES, ChestImage, without_conflicts
from ml.errors import TrainingDataError
from ml.export import Figure
from ml.metrics import classification_figures
from ml.training import classifier as classifying
from ml.training.parameters import Parameters

CROSS_VALIDATION_NAME = "cross_validation.json"


def cross_validate(
    pictures: Sequence[ChestImage],
    *,
    parameters: Parameters,
    trunk: keras.Model,
    out: Path,
    data_fingerprint: str,
    report: Callable[[str], None],
) -> dict[str, Figure]:
    """Measure the slice class without leaks: grouped 5-fold over all unique pictures, no group on both sides of a fold.

    Every fold shares the pretrained trunk and fits the dense head on the frozen features of its own training groups
    alone, regularisation and temperature included. Where no phase of the trunk's training shows it negatives, it has
    seen no picture of this set at all. The result is kept in `out` with `data_fingerprint`.
    """
    if parameters.classifier.backbone == ENSEMBLE:
        raise TrainingDataError(
            "An ensemble is not cross-validated as a whole. Set classifier.backbone to one of its members."
        )
    images = without_conflicts(pictures)
    if any(one.patient_group_id is None for one in images):
        raise TrainingDataError("Cross-validation needs groups.csv beside Data/. Run the ingest pipeline to infer it.")
    side = parameters.classifier.phases[-1].side
    data = classifying.load_classifier_data(images, side=side)
    model = classifying.initial_classifier(parameters.classifier, trunk=trunk, seed=parameters.seed)
    features, _ = classifying.frozen_features(
        model,
        data=data,
        side=side,
        versions=parameters.classifier.frozen_recipe_versions,
        seed=parameters.seed,
        cache=out / "features",
        parameters=parameters.classifier,
    )
    versions = features.reshape(-1, len(images), features.shape[-1])
    probabilities = np.zeros((len(images), len(CLASSES)))
    folds = classifying.grouped_folds(labels=data.labels, groups=data.groups, seed=parameters.seed)
    for number, (train, held_out) in enumerate(folds, start=1):
        head, temperature = classifying.fit_grouped_head(
            features=versions[:, train],
            labels=data.labels[train],
            groups=[data.groups[place] for place in train],
            seed=parameters.seed,
            balance=classifying.level_balance(parameters.classifier),
        )
        logits = versions[0, held_out] @ head.kernel + head.bias
        probabilities[held_out] = classifying.shares_of(logits, temperature=temperature)
        accuracy = float((logits.argmax(axis=1) == data.labels[held_out]).mean())
        report(f"cross-validation: fold {number} of {len(folds)}: accuracy {accuracy:.3f}")
    on = (
        f"{len(images)} unique pictures of chest-ctscan-images, StratifiedGroupKFold over {len(set(data.groups))} "
        f"inferred patient groups, 5 folds, seed {parameters.seed}; frozen CT-pretrained trunk, dense head. "
        f"{_what_the_trunk_has_seen(parameters)}"
    )
    measured = classification_figures(
        labels=data.labels, probabilities=probabilities, groups=data.groups, class_names=CLASSES, seed=parameters.seed
    )
    figures = {f"grouped_cv_{name}": Figure(**value, on=on) for name, value in measured.items() if "value" in value}
    record = {
        "fingerprint": data_fingerprint,
        "figures": {name: vars(figure) for name, figure in figures.items()},
    }
    path = out / CROSS_VALIDATION_NAME
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
    partial.replace(path)
    return figures


def _what_the_trunk_has_seen(parameters: Parameters) -> str:
    if parameters.classifier.trunk != "outline":
        return "The trunk was not trained on this set."
    if any(phase.negatives for phase in parameters.outline.phases_of_trunk):
        return "The trunk has seen the set's normal training pictures, as slices without tumour, and no other."
    return "The trunk has seen no picture of this set."


def cross_validated_figures(out: Path, *, data_fingerprint: str) -> dict[str, Figure]:
    """Return the recorded figures of `cross_validate`, if there are any and they are of the same data."""
    path = out / CROSS_VALIDATION_NAME
    if not path.is_file():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["fingerprint"] != data_fingerprint:
        return {}
    return {name: Figure(**figure) for name, figure in record["figures"].items()}
