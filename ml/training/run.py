"""Training from data folders to an exported model: the stages that `manage.py train` runs."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ml.architectures import build_outline
from ml.backbones import ENSEMBLE, build_ensemble, deployable
from ml.data import (
    CLASSES,
    SPLITS,
    ChestImage,
    DataFolders,
    ManifestEntry,
    find_folders,
    fingerprint,
    read_chest_ctscan,
    without_conflicts,
)
from ml.errors import TrainingDataError
from ml.export import (
    Figure,
    MalignancyCalibration,
    ModelDescription,
    deployable_outline,
    input_description,
    to_litert,
    write_model,
)
from ml.runtime import Model, Network, Runnable, Thresholds
from ml.training import classifier as classifying
from ml.training import figures as measuring
from ml.training.cross_validation import cross_validated_figures
from ml.training.datasets import (
    NORMAL,
    OutlineSplits,
    evenly_spread,
    load_outline_data,
    outline_manifest,
    split_normals,
    split_outline_sets,
)
from ml.training.outline import OUTLINE_WEIGHTS, train_outline
from ml.training.parameters import Parameters
from ml.training.parity import KerasNetwork, Settings, parity_of_outputs

Report = Callable[[str], None]
OnEpoch = Callable[[int, Mapping[str, float]], None]
TRUNK_WEIGHTS = "trunk.weights.h5"
MANIFEST_NAME = "manifest.csv"
# Pictures on which exported and float networks are compared.
PARITY_PICTURES = 8
THREADS = 2


@dataclass(frozen=True)
class Sets:
    """The data of a training run: folders, splits of the outline sets, pictures of the class set."""

    folders: DataFolders
    outline: OutlineSplits
    chest: tuple[ChestImage, ...]

    def chest_split(self, split: str) -> tuple[ChestImage, ...]:
        return tuple(one for one in self.chest if one.split == split)


def read_sets(root: Path, *, parameters: Parameters, limit: int | None = None) -> Sets:
    """Find and list the data below `root`; `limit` keeps the first so many nodule rows, slices and pictures a class."""
    folders = find_folders(root)
    chest = read_chest_ctscan(folders.chest_ctscan) if folders.chest_ctscan else ()
    if limit is not None:
        taken: Counter[tuple[str, int]] = Counter()
        kept = []
        for one in chest:
            taken[one.split, one.label] += 1
            if taken[one.split, one.label] <= limit:
                kept.append(one)
        chest = tuple(kept)
    return Sets(folders=folders, outline=split_outline_sets(folders, parameters=parameters, limit=limit), chest=chest)


def run_outline(
    sets: Sets,
    *,
    parameters: Parameters,
    out: Path,
    report: Report,
    limit: int | None = None,
    is_resumed: bool = True,
    on_epoch: OnEpoch | None = None,
) -> keras.Model:
    """Train the outline network; its weights end up in `out/outline.weights.h5`."""
    if not (sets.outline.nodules["train"] or sets.outline.slices["train"]):
        raise TrainingDataError("Outline training needs lidc-nodules or msd-lung-slices below the data folder.")
    data = load_outline_data(sets.folders, splits=sets.outline, parameters=parameters, limit=limit)
    model, _ = train_outline(
        data=data,
        parameters=parameters.outline,
        seed=parameters.seed,
        out=out,
        report=report,
        is_resumed=is_resumed,
        on_epoch=on_epoch,
    )
    model.save_weights(out / OUTLINE_WEIGHTS)
    if parameters.outline.phases:
        phase = parameters.outline.phases_of_trunk[-1].name
        shutil.copyfile(out / f"{phase}-{OUTLINE_WEIGHTS}", out / TRUNK_WEIGHTS)
    return model


def load_trunk(out: Path, *, parameters: Parameters) -> keras.Model:
    """Return the outline network as it was after `outline.trunk_phase`: the slice class's trunk.

    Raises TrainingDataError where there is none.
    """
    return _load_outline(out / TRUNK_WEIGHTS, parameters=parameters)


def load_outline(out: Path, *, parameters: Parameters) -> keras.Model:
    """Return the outline network trained earlier into `out`. Raises TrainingDataError where there is none."""
    return _load_outline(out / OUTLINE_WEIGHTS, parameters=parameters)


def _load_outline(path: Path, *, parameters: Parameters) -> keras.Model:
    if not path.is_file():
        raise TrainingDataError(f"There is no outline network in {path.parent} yet. Run --stage outline first.")
    model = build_outline(width=parameters.outline.width)
    model.load_weights(path)
    return model


@dataclass(frozen=True)
class TrainedClassifier:
    """The classifier, the side it was taught at, and what the frozen recipe alone reached on validation pictures."""

    model: keras.Model
    side: int
    frozen_valid_accuracy: float


def run_classifier(
    sets: Sets,
    *,
    parameters: Parameters,
    trunk: keras.Model | None,
    out: Path,
    report: Report,
    is_resumed: bool = True,
    on_epoch: OnEpoch | None = None,
) -> TrainedClassifier:
    """Train the slice classifier: the frozen recipe, fine-tuning, the head fitted anew; the best on validation wins.

    An ensemble's members are trained one after the other, each in a folder of its own name below `out`.
    """
    if parameters.classifier.backbone == ENSEMBLE:
        members = [
            run_classifier(
                sets,
                parameters=of_member(parameters, name=name),
                trunk=trunk,
                out=out / name,
                report=report,
                is_resumed=is_resumed,
                on_epoch=on_epoch,
            )
            for name in parameters.classifier.members
        ]
        return TrainedClassifier(
            model=build_ensemble([deployable_member(one.model, parameters=parameters) for one in members]),
            side=members[0].side,
            frozen_valid_accuracy=max(one.frozen_valid_accuracy for one in members),
        )
    train_images = without_conflicts(sets.chest_split("train"))
    valid_images = sets.chest_split("valid")
    if not train_images or not valid_images:
        raise TrainingDataError("Classifier training needs chest-ctscan-images with train and valid folders.")
    settings = parameters.classifier
    train = classifying.load_classifier_data(train_images)
    side = settings.phases[-1].side
    # As serving shows them: what is fitted without augmentation and what is judged.
    train_as_served = classifying.load_classifier_data(train_images, side=side)
    valid = classifying.load_classifier_data(valid_images, side=side)
    report(
        f"classifier: {len(train.labels)} training pictures after duplicates and conflicts, {len(valid.labels)} valid"
    )
    base = classifying.initial_classifier(settings, trunk=trunk, seed=parameters.seed)
    head = run_frozen_recipe(base, train=train_as_served, valid=valid, parameters=parameters, side=side, out=out)
    report(f"classifier: frozen recipe reaches {head.valid_accuracy:.3f} on validation pictures")
    model, _ = classifying.train_classifier(
        model=classifying.initial_classifier(settings, trunk=trunk, seed=parameters.seed),
        train=train,
        valid=valid,
        parameters=settings,
        seed=parameters.seed,
        out=out,
        report=report,
        is_resumed=is_resumed,
        on_epoch=on_epoch,
    )
    tuned_accuracy = classifying.validate_classifier(model, data=valid, side=side)["accuracy"]
    report(f"classifier: fine-tuning reaches {tuned_accuracy:.3f} on validation pictures")
    # The dense head of a short fine-tuning lags behind its features: fitted anew on them, it often gains.
    refitted = run_frozen_recipe(model, train=train_as_served, valid=valid, parameters=parameters, side=side, out=out)
    report(f"classifier: its head fitted anew reaches {refitted.valid_accuracy:.3f}")
    best = max(tuned_accuracy, refitted.valid_accuracy, head.valid_accuracy)
    if tuned_accuracy < best and refitted.valid_accuracy == best:
        classifying.set_head(model, refitted)
    elif tuned_accuracy < best:
        report("classifier: neither beats the frozen recipe, which is kept")
        classifying.set_head(base, head)
        model = base
    model.save_weights(out / classifying.CLASSIFIER_WEIGHTS)
    return TrainedClassifier(model=model, side=side, frozen_valid_accuracy=head.valid_accuracy)


def of_member(parameters: Parameters, *, name: str) -> Parameters:
    """Return the parameters with which an ensemble's member is trained."""
    return replace(parameters, classifier=parameters.classifier.of_member(name))


def deployable_member(model: keras.Model, *, parameters: Parameters) -> keras.Model:
    """Return a trained classifier as it is exported."""
    return deployable(model, **classifying.shape_of(parameters.classifier))


def load_classifier(out: Path, *, parameters: Parameters) -> keras.Model:
    """Return the float classifier trained earlier into `out`, as it is exported. Raises TrainingDataError for none."""
    settings = parameters.classifier
    if settings.backbone == ENSEMBLE:
        return build_ensemble(
            [load_classifier(out / name, parameters=of_member(parameters, name=name)) for name in settings.members]
        )
    path = out / classifying.CLASSIFIER_WEIGHTS
    if not path.is_file():
        raise TrainingDataError(f"There is no slice classifier in {out} yet. Run manage.py train first.")
    untrained = replace(settings, trunk="none")
    model = classifying.initial_classifier(untrained, trunk=None, seed=parameters.seed)
    try:
        model.load_weights(path)
    except (OSError, ValueError) as error:
        raise TrainingDataError(
            f"The weights {path} do not fit the network of params.yaml: {error}. Name the parameters that they were "
            "trained with, by --params."
        ) from error
    return deployable_member(model, parameters=parameters)


def run_frozen_recipe(
    model: keras.Model,
    *,
    train: classifying.ClassifierData,
    valid: classifying.ClassifierData,
    parameters: Parameters,
    side: int,
    out: Path,
) -> classifying.FrozenHead:
    """Fit the dense head on cached features of the frozen trunk."""
    cache = out / "features"
    versions = parameters.classifier.frozen_recipe_versions
    features, labels = classifying.frozen_features(
        model,
        data=train,
        side=side,
        versions=versions,
        seed=parameters.seed,
        cache=cache,
        parameters=parameters.classifier,
    )
    valid_features, valid_labels = classifying.frozen_features(
        model,
        data=valid,
        side=side,
        versions=0,
        seed=parameters.seed,
        cache=cache,
        parameters=parameters.classifier,
    )
    return classifying.fit_frozen_head(
        features=features,
        labels=labels,
        valid_features=valid_features,
        valid_labels=valid_labels,
        seed=parameters.seed,
        balance=classifying.level_balance(parameters.classifier),
    )


def manifest_of(sets: Sets) -> tuple[ManifestEntry, ...]:
    """Return an entry for every picture of every set and split."""
    chest = tuple(
        ManifestEntry(
            set="chest-ctscan-images",
            path=one.relative_path,
            split=one.split,
            group=one.patient_group_id or "",
            sha256=hashlib.sha256(one.image.read_bytes()).hexdigest(),
        )
        for one in sets.chest
    )
    return (*outline_manifest(sets.outline), *chest)


def write_manifest(entries: Sequence[ManifestEntry], *, path: Path) -> None:
    """Write the training manifest as CSV, by rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("set", "path", "split", "group", "sha256"))
        writer.writerows((one.set, one.path, one.split, one.group, one.sha256) for one in entries)
    partial.replace(path)


def finish(
    sets: Sets,
    *,
    parameters: Parameters,
    outline: keras.Model,
    classifier: TrainedClassifier,
    out: Path,
    report: Report,
    limit: int | None = None,
) -> Path:
    """Export both networks, choose thresholds on validation data, measure on held-out data, write `out/model/`."""
    report("export: folding and quantising")
    floats = {
        "classifier": deployable_member(classifier.model, parameters=parameters),
        "outline": deployable_outline(outline, width=parameters.outline.width),
    }
    contents = {name: to_litert(model) for name, model in floats.items()}
    networks = {name: Network(content, threads=THREADS) for name, content in contents.items()}
    identity = MalignancyCalibration(intercept=0.0, logit=1.0, log_area=0.0)
    settings = Settings(
        thresholds=Thresholds.of_card({"outline": 0.5, "minimum_area_px": 12, "malignant": 0.5}),
        temperature=1.0,
        malignancy=identity,
        classifier_side_px=classifier.side,
    )
    model = provisional_model(networks, settings=settings)

    report("export: temperature and thresholds from validation data")
    valid_images = sets.chest_split("valid")
    if valid_images:
        logits = np.log(np.clip(measuring.classify_all(model, valid_images), 1e-9, 1.0))
        labels = np.array([one.label for one in valid_images])
        settings = replace(settings, temperature=classifying.fit_temperature(logits, labels=labels))
    seen = identities(without_conflicts(sets.chest_split("train")))
    settings = with_thresholds(sets, parameters=parameters, networks=networks, settings=settings, limit=limit)
    model = provisional_model(networks, settings=settings)

    report("export: figures from held-out data")
    judged = (*valid_images, *sets.chest_split("test"))
    figures = measuring.class_figures(
        images=judged, probabilities=measuring.classify_all(model, judged), seen=seen, seed=parameters.seed
    )
    figures |= held_out_outline_figures(sets, parameters=parameters, model=model, settings=settings, limit=limit)
    entries = manifest_of(sets)
    print_of_data = fingerprint(entries)
    figures |= cross_validated_figures(out, data_fingerprint=print_of_data)
    report_figures(figures, report=report)
    directory = out / "model"
    write_manifest(entries, path=directory / MANIFEST_NAME)
    write_model(
        directory,
        contents=contents,
        description=ModelDescription(
            version=datetime.now(tz=UTC).strftime("%Y.%m.%d.%H%M"),
            classes=CLASSES,
            thresholds=settings.thresholds,
            temperature=settings.temperature,
            malignancy=settings.malignancy,
            training=training_description(sets, entries=entries, data_fingerprint=print_of_data, parameters=parameters),
            figures=figures,
            export=export_description(
                sets, parameters=parameters, contents=contents, floats=floats, settings=settings, figures=figures
            ),
            classifier_side_px=classifier.side,
        ),
    )
    report(f"export: model written to {directory}")
    return directory


def export_description(
    sets: Sets,
    *,
    parameters: Parameters,
    contents: Mapping[str, bytes],
    floats: Mapping[str, keras.Model],
    settings: Settings,
    figures: Mapping[str, Figure],
) -> dict[str, Any]:
    """Return the `export` block of model.json: how far the exported files are from the float networks.

    Output by output on some pictures, and figure by figure on the data that `figures` were measured on: the float
    networks with the same thresholds, temperature and calibration, through the same code.
    """
    described: dict[str, Any] = parity_of_outputs(
        [one.image for one in evenly_spread(sets.chest, count=PARITY_PICTURES)]
        + [one.image for one in evenly_spread(sets.outline.slices["valid"], count=PARITY_PICTURES)],
        contents=contents,
        floats=floats,
        side=settings.classifier_side_px,
    )
    if "classifier" not in floats:
        return described
    networks = {name: KerasNetwork(model) for name, model in floats.items()}
    model = provisional_model(networks, settings=settings)
    judged = (*sets.chest_split("valid"), *sets.chest_split("test"))
    seen = identities(without_conflicts(sets.chest_split("train")))
    measured = measuring.class_figures(
        images=judged, probabilities=measuring.classify_all(model, judged), seen=seen, seed=parameters.seed
    )
    measured |= held_out_outline_figures(sets, parameters=parameters, model=model, settings=settings, limit=None)
    described["figures"] = {
        name: {"float": figure.value, "exported": figures[name].value}
        for name, figure in measured.items()
        if name in figures
    }
    return described


def with_thresholds(
    sets: Sets, *, parameters: Parameters, networks: Mapping[str, Network], settings: Settings, limit: int | None
) -> Settings:
    """Return `settings` with the calibration of malignancy and the thresholds that validation data ask for."""
    model = provisional_model(networks, settings=settings)
    seen = identities(without_conflicts(sets.chest_split("train")))
    nodules, rated = measuring.score_nodules(model, sets.outline.nodules["valid"][:limit])
    calibration, malignant = measuring.calibrate_malignancy(rated)
    unseen = unseen_normals(sets.chest_split("valid"), seen=seen)
    normals = normals_for_thresholds(sets, parameters=parameters, valid=unseen)
    thresholds = measuring.choose_thresholds(
        nodules=nodules,
        slices=measuring.score_slices(model, sets.outline.slices["valid"][:limit]),
        normals=measuring.score_normals(model, normals[:limit]),
        malignant=malignant,
    )
    return replace(settings, malignancy=calibration, thresholds=thresholds)


def held_out_outline_figures(
    sets: Sets, *, parameters: Parameters, model: Model, settings: Settings, limit: int | None
) -> dict[str, Figure]:
    """Return the card's figures of outline and malignancy, on test patients."""
    seen = identities(without_conflicts(sets.chest_split("train")))
    nodules, rated = measuring.score_nodules(model, sets.outline.nodules["test"][:limit])
    return measuring.outline_figures(
        nodules=nodules,
        slices=measuring.score_slices(model, sets.outline.slices["test"][:limit]),
        normals=measuring.score_normals(model, unseen_normals(sets.chest_split("test"), seen=seen)[:limit]),
        rated=rated,
        calibration=settings.malignancy,
        thresholds=settings.thresholds,
        seed=parameters.seed,
    )


def report_figures(figures: Mapping[str, Figure], *, report: Report) -> None:
    """Report each figure in a line."""
    for name, figure in figures.items():
        interval = "" if figure.low is None else f" ({figure.low:.3f}-{figure.high:.3f})"
        report(f"figure: {name} {figure.value:.3f}{interval}, {figure.on}")


def provisional_model(networks: Mapping[str, Runnable], *, settings: Settings) -> Model:
    """Return networks as the model that serving would make of them."""
    card = {
        "version": "being measured",
        "classes": CLASSES,
        "thresholds": vars(settings.thresholds),
        "temperature": settings.temperature,
        "malignancy": vars(settings.malignancy),
        "input": input_description(classifier_side_px=settings.classifier_side_px),
    }
    return Model(card=card, classifier=networks["classifier"], outline=networks["outline"])


def identities(images: Sequence[ChestImage]) -> frozenset[str]:
    """Return the contents and slices that a set of pictures has shown to a model."""
    contents = {f"sha1:{one.sha1}" for one in images}
    return frozenset(contents | {f"slice:{one.same_slice_id}" for one in images if one.same_slice_id is not None})


def unseen_normals(images: Sequence[ChestImage], *, seen: frozenset[str]) -> list[ChestImage]:
    """Return the normal pictures, each content once, whose content and slice are not in `seen`."""
    unique = {one.sha1: one for one in images if one.label == NORMAL}
    return [one for one in unique.values() if not identities([one]) & seen]


def normals_for_thresholds(sets: Sets, *, parameters: Parameters, valid: Sequence[ChestImage]) -> list[ChestImage]:
    """Return normal slices, each once, by which false findings are judged when thresholds are chosen.

    Those of `valid`, and those of the training split that the outline was not taught on: the class was, but not what is
    chosen here. Three slices alone would say nothing.
    """
    taught, kept = split_normals(without_conflicts(sets.chest_split("train")))
    if any(phase.negatives for phase in parameters.outline.phases):
        return [*valid, *kept]
    return [*valid, *taught, *kept]


def training_description(
    sets: Sets, *, entries: Sequence[ManifestEntry], data_fingerprint: str, parameters: Parameters
) -> dict[str, Any]:
    """Return the `training` block of model.json: fingerprint, counts a set and split, held-out patients, seed."""
    counts: dict[str, dict[str, int]] = {}
    for entry in entries:
        counts.setdefault(entry.set, dict.fromkeys(SPLITS, 0))[entry.split] += 1
    held_out = {
        name: {split: sorted({one.group for one in entries if (one.set, one.split) == (name, split)})}
        for name in ("lidc-nodules", "whole-slices")
        for split in ("test",)
    }
    return {
        "fingerprint": data_fingerprint,
        "manifest": MANIFEST_NAME,
        "data": counts,
        "classifier_pictures_used": len(without_conflicts(sets.chest_split("train"))),
        "patients_held_out": held_out,
        "seed": parameters.seed,
    }
