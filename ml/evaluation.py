"""Measures the exported model through the serving code on a folder in one of the three layouts of ``ml.data``.

Pictures that took part in training are counted and left out, except in the blocks that are by definition the official
ones. Every figure comes with a 95 % interval over groups (patients where they are known).
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ml.data import (
    MASK_THRESHOLD,
    ChestImage,
    NoduleSlice,
    WholeSlice,
    read_chest_ctscan,
    read_grey,
    read_lidc_nodules,
    read_whole_slices,
    without_conflicts,
)
from ml.errors import ImageError, TrainingDataError
from ml.findings import Region, find_regions, findings_cut, union_mask
from ml.images import Limits, read_slice
from ml.metrics import (
    Figure,
    Resamples,
    auc_figure,
    classification_figures,
    dice,
    figures_json,
    intersection_over_union,
    mean_figure,
)
from ml.runtime import Model
from ml.shortcuts import probe_shortcuts
from ml.windows import WINDOWS, simulate_window

Layout = Literal["chest-ctscan", "lidc-nodules", "whole-slices"]
LAYOUTS: Final[tuple[Layout, ...]] = ("chest-ctscan", "lidc-nodules", "whole-slices")
MANIFEST_NAME: Final = "manifest.csv"
SIZE_EDGES_PX: Final = (0, 30, 100, 300, 1_000_000_000)
# A lesion counts as found when a finding and it share at least this part of their union.
FOUND_AT_IOU: Final = 0.1
WORST_CASES: Final = 12
RECORD_PREFIX: Final = "grouped_cv_"
HEADLINE_FIGURES: Final = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "ece")
NO_RECORD: Final = (
    "Leak-free cross-validation has not been recorded for this model. "
    "Run manage.py train --cross-validate on a training machine."
)
# Training crops may be smaller than what users may upload.
_ANY_SIZE: Final = Limits(min_side_px=16, max_side_ratio=100.0)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainingManifest:
    """SHA-256 of the pictures that the model was fitted on, and of those that chose its thresholds."""

    fitted: frozenset[str]
    selected: frozenset[str]
    is_present: bool

    def was_fitted_on(self, path: Path) -> bool:
        return sha256_of(path) in self.fitted

    def has_seen(self, path: Path) -> bool:
        """Whether the picture took part in fitting or selection."""
        return sha256_of(path) in self.fitted | self.selected


@dataclass(frozen=True)
class OutlineCase:
    """One evaluated outline with its true mask bool (H,W), kept for the picture of the worst cases."""

    path: Path
    dice: float
    truth: NDArray[np.bool_]


@dataclass(frozen=True)
class Evaluation:
    """``report`` is the JSON; the rest is what the figures are drawn from."""

    report: dict[str, Any]
    blocks: Mapping[str, "ClassifiedBlock"] = field(default_factory=dict)
    malignancy: tuple[NDArray[np.bool_], NDArray[np.float64]] | None = None
    outline_cases: tuple[OutlineCase, ...] = ()


@dataclass(frozen=True)
class ClassifiedBlock:
    """Truth (n,) and probabilities (n, classes) of the pictures of one block."""

    images: tuple[ChestImage, ...]
    labels: NDArray[np.int_]
    probabilities: NDArray[np.float64]

    @property
    def groups(self) -> list[Hashable]:
        return [image.patient_group_id or image.sha1 for image in self.images]


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_manifest(directory: Path) -> TrainingManifest:
    """The training manifest beside the model: a CSV with (at least) the columns ``split`` and ``sha256``."""
    path = directory / MANIFEST_NAME
    if not path.is_file():
        return TrainingManifest(fitted=frozenset(), selected=frozenset(), is_present=False)
    by_split: dict[str, set[str]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            by_split.setdefault(row["split"], set()).add(row["sha256"])
    return TrainingManifest(
        fitted=frozenset(by_split.get("train", ())),
        selected=frozenset(by_split.get("valid", ())),
        is_present=True,
    )


def evaluate(
    layout: Layout,
    *,
    data: Path,
    model: Model,
    manifest: TrainingManifest,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Measure ``model`` on the folder ``data``. Raises ``TrainingDataError`` where the folder is not in the layout."""
    if not data.is_dir():
        raise TrainingDataError(f"The folder {data} does not exist. Please name the folder of the data with --data.")
    run = _Run(root=data, model=model, manifest=manifest, seed=seed, progress=progress)
    if layout == "chest-ctscan":
        result = run.chest_ctscan(data)
    elif layout == "lidc-nodules":
        result = run.lidc_nodules(data)
    else:
        result = run.whole_slices(data)
    head = {
        "layout": layout,
        "data": data.name,
        "model_version": model.version,
        "thresholds": asdict(model.thresholds),
    }
    tail = {"unreadable": [{"file": name, "error": message} for name, message in run.unreadable]}
    return Evaluation(
        report=head | result.report | tail,
        blocks=result.blocks,
        malignancy=result.malignancy,
        outline_cases=result.outline_cases,
    )


@dataclass
class _Run:
    """One evaluation: the model, what it has seen, and the files that could not be read."""

    root: Path
    model: Model
    manifest: TrainingManifest
    seed: int
    progress: Progress
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    # --- class --------------------------------------------------------------------------------------------------------

    def chest_ctscan(self, data: Path) -> Evaluation:
        images = read_chest_ctscan(data)
        probabilities: dict[Path, NDArray[np.float64]] = {}
        measured = [image for image in images if image.split != "train"]
        for number, image in enumerate(measured, start=1):
            pixels = self._read(image.image)
            if pixels is not None:
                probabilities[image.image] = self.model.classify(pixels).probabilities.astype(float)
            self.progress(number, len(measured))
        readable = [image for image in measured if image.image in probabilities]
        valid = [image for image in readable if image.split == "valid"]
        test = [image for image in readable if image.split == "test"]
        # Pictures whose label is in doubt were left out of training, so they are not known from there.
        known = _identities(without_conflicts([image for image in images if image.split == "train"]))
        seen = [image for image in test if self.manifest.was_fitted_on(image.image) or known & _identities([image])]
        seen_paths = {image.image for image in seen}
        unseen = [image for image in test if image.image not in seen_paths]
        chosen = {"official_valid": valid, "official_test": test, "test_unseen": unseen}
        blocks = {name: _block(pictures, probabilities=probabilities) for name, pictures in chosen.items() if pictures}
        report: dict[str, Any] = {
            "images": dict(Counter(image.split for image in images)),
            "seen_in_training": self._seen(
                len(seen), total=len(test), where="test pictures", rest="left out of test_unseen"
            ),
            **{name: self._classified(blocks.get(name), note=_BLOCK_NOTES[name]) for name in chosen},
            "grouped_cv": self._grouped_cv(),
            "shortcuts": None,
            "baselines": self._baselines(images, unseen=unseen),
        }
        if "official_test" in blocks:
            block = blocks["official_test"]
            report["shortcuts"] = probe_shortcuts(
                model=self.model,
                paths=[image.image for image in block.images],
                labels=block.labels,
                guesses=block.probabilities.argmax(axis=1),
                seed=self.seed,
            )
        return Evaluation(report=report, blocks=blocks)

    def _classified(self, block: ClassifiedBlock | None, *, note: str) -> dict[str, Any] | None:
        if block is None:
            return None
        return {
            "on": note,
            "images": len(block.images),
            "groups": len(set(block.groups)),
            **classification_figures(
                labels=block.labels,
                probabilities=block.probabilities,
                groups=block.groups,
                class_names=self.model.classes,
                seed=self.seed,
            ),
        }

    def _grouped_cv(self) -> dict[str, Any]:
        """Printed from the record in model.json, where its figures stand under names that begin with grouped_cv."""
        figures = self.model.card.get("figures", {})
        recorded = {
            name.removeprefix(RECORD_PREFIX): figure
            for name, figure in figures.items()
            if name.startswith(RECORD_PREFIX)
        }
        absent: dict[str, Any] = {"value": None, "low": None, "high": None}
        block: dict[str, Any] = {name: absent for name in HEADLINE_FIGURES} | {
            name: {key: figure[key] for key in absent} for name, figure in recorded.items()
        }
        if not recorded:
            return {"on": NO_RECORD} | block
        return {
            "on": next(iter(recorded.values()))["on"],
            "data_fingerprint": self.model.card["training"].get("fingerprint"),
        } | block

    def _baselines(self, images: Sequence[ChestImage], *, unseen: Sequence[ChestImage]) -> dict[str, Any]:
        try:
            from ml.baselines import measure_baselines
        except ImportError:
            return {"on": "Baselines are computed where the training packages (requirements/ml.txt) are installed."}
        return measure_baselines(
            images, unseen=[image.image for image in unseen], class_names=self.model.classes, seed=self.seed
        )

    # --- outline and malignancy ---------------------------------------------------------------------------------------

    def lidc_nodules(self, data: Path) -> Evaluation:
        rows = read_lidc_nodules(data)
        kept = self._unseen(rows)
        cases: list[_NoduleCase] = []
        for number, row in enumerate(kept, start=1):
            pixels, truth = self._read(row.image), self._read_mask(row.mask)
            if pixels is not None and truth is not None and self._fits(row.mask, pixels=pixels, mask=truth):
                cases.append(self._nodule_case(row, pixels=pixels, truth=truth >= MASK_THRESHOLD))
            self.progress(number, len(kept))
        if not cases:
            return Evaluation(report=self._nothing_left(len(rows) - len(kept), total=len(rows)))
        groups = [case.row.patient for case in cases]
        resamples = Resamples.over_groups(groups, seed=self.seed)
        rated = [case for case in cases if case.row.is_malignant is not None and case.malignancy is not None]
        truth_rated = [bool(case.row.is_malignant) for case in rated]
        scores = [float(case.malignancy or 0.0) for case in rated]
        rated_resamples = Resamples.over_groups([case.row.patient for case in rated], seed=self.seed)
        figures = {
            "dice": mean_figure([case.dice for case in cases], resamples=resamples),
            "dice_ge30px": self._over([case for case in cases if case.row.area_px >= 30], value=lambda case: case.dice),
            "iou": mean_figure([case.iou for case in cases], resamples=resamples),
            "sensitivity": mean_figure([float(case.is_found) for case in cases], resamples=resamples),
            "malignancy_auc": auc_figure(truth_rated, scores, resamples=rated_resamples),
            "malignancy_auc_by_nodule": self._auc_by_nodule(rated),
        }
        report = {
            "images": len(cases),
            "patients": len(set(groups)),
            "nodules": len({case.row.nodule for case in cases}),
            "rated_images": len(rated),
            "seen_in_training": self._seen(len(rows) - len(kept), total=len(rows), where="slices", rest="left out"),
            "interval_over": "patients",
            **figures_json(figures),
            "dice_by_size_px": {
                f"{low}-{high - 1}" if high < SIZE_EDGES_PX[-1] else f"{low} and more": {
                    "images": len(part := [case for case in cases if low <= case.row.area_px < high]),
                    **self._over(part, value=lambda case: case.dice).to_json(),
                }
                for low, high in pairwise(SIZE_EDGES_PX)
            },
            "on": "Nodule crops; the truth is what at least half of the readers marked. Malignancy is judged over the "
            "readers' outline, 1-2 against 4-5, 3 and unknown left out.",
        }
        malignancy = (np.array(truth_rated, bool), np.array(scores)) if rated else None
        worst = _worst((case.row.image, case.dice, case.truth) for case in cases)
        return Evaluation(report=report, malignancy=malignancy, outline_cases=worst)

    def _nodule_case(self, row: NoduleSlice, *, pixels: NDArray[np.uint8], truth: NDArray[np.bool_]) -> "_NoduleCase":
        regions = self._regions(pixels)
        outlined = union_mask(regions, height=pixels.shape[0], width=pixels.shape[1]) > 0
        iou = intersection_over_union(outlined, truth)
        is_rated = row.is_malignant is not None and bool(truth.any())
        return _NoduleCase(
            row=row,
            truth=truth,
            dice=dice(outlined, truth),
            iou=iou,
            is_found=any(_overlap(region, truth) for region in regions),
            malignancy=self.model.malignancy(pixels, mask=truth) if is_rated else None,
        )

    def _auc_by_nodule(self, rated: Sequence["_NoduleCase"]) -> Figure:
        """One score a nodule: the mean over its slices."""
        nodules: dict[str, list[_NoduleCase]] = {}
        for case in rated:
            nodules.setdefault(case.row.nodule, []).append(case)
        means = [float(np.mean([case.malignancy for case in cases])) for cases in nodules.values()]
        truths = [bool(cases[0].row.is_malignant) for cases in nodules.values()]
        patients = [cases[0].row.patient for cases in nodules.values()]
        return auc_figure(truths, means, resamples=Resamples.over_groups(patients, seed=self.seed))

    def whole_slices(self, data: Path) -> Evaluation:
        rows = read_whole_slices(data)
        kept = self._unseen(rows)
        cases: list[_SliceCase] = []
        for number, row in enumerate(kept, start=1):
            pixels, truth = self._read(row.image), self._read_mask(row.mask)
            if pixels is not None and truth is not None and self._fits(row.mask, pixels=pixels, mask=truth):
                cases.append(self._slice_case(row, pixels=pixels, truth=truth >= MASK_THRESHOLD))
            self.progress(number, len(kept))
        if not cases:
            return Evaluation(report=self._nothing_left(len(rows) - len(kept), total=len(rows)))
        positive = [case for case in cases if case.lesions]
        negative = [case for case in cases if not case.lesions]
        patients = {case.row.patient for case in cases}
        figures = {
            "dice": self._over(positive, value=lambda case: case.dice["as_is"]),
            "iou": self._over(positive, value=lambda case: case.iou),
            "sensitivity": self._lesion_sensitivity(positive),
            "false_positives_per_negative_slice": self._over(negative, value=lambda case: float(case.false_positives)),
            "false_positives_per_positive_slice": self._over(positive, value=lambda case: float(case.false_positives)),
            "negative_slices_with_a_finding": self._over(negative, value=lambda case: float(case.false_positives > 0)),
        }
        report = {
            "images": len(cases),
            "patients": len(patients),
            "slices_with_tumour": len(positive),
            "slices_without_tumour": len(negative),
            "lesions": sum(case.lesions for case in positive),
            "seen_in_training": self._seen(len(rows) - len(kept), total=len(rows), where="slices", rest="left out"),
            "interval_over": "patients (folders)" if len(patients) > 2 else "slices, and so too narrow",
            **figures_json(figures),
            "dice_by_window": {
                name: self._over(positive, value=_dice_in(name)).to_json() for name in ("as_is", "lung", "soft_tissue")
            },
            "on": "Whole slices. A lesion is found when a finding shares at least a tenth of their union with it. "
            "Windows are simulated from the picture's own lung and soft-tissue greys.",
        }
        worst = _worst((case.row.image, case.dice["as_is"], case.truth) for case in positive)
        return Evaluation(report=report, outline_cases=worst)

    def _slice_case(self, row: WholeSlice, *, pixels: NDArray[np.uint8], truth: NDArray[np.bool_]) -> "_SliceCase":
        regions = self._regions(pixels)
        outlined = union_mask(regions, height=pixels.shape[0], width=pixels.shape[1]) > 0
        labels, count = ndimage.label(truth, structure=np.ones((3, 3)))
        lesions = [labels == number for number in range(1, count + 1)]
        found = sum(any(_overlap(region, lesion) for region in regions) for lesion in lesions)
        scores = {"as_is": dice(outlined, truth)}
        if lesions:
            for name in ("lung", "soft_tissue"):
                shown = simulate_window(pixels, window=WINDOWS[name])
                mask = union_mask(self._regions(shown), height=pixels.shape[0], width=pixels.shape[1]) > 0
                scores[name] = dice(mask, truth)
        return _SliceCase(
            row=row,
            truth=truth,
            dice=scores,
            iou=intersection_over_union(outlined, truth),
            lesions=count,
            found=found,
            false_positives=sum(not (_mask(region, truth) & truth).any() for region in regions),
        )

    def _lesion_sensitivity(self, positive: Sequence["_SliceCase"]) -> Figure:
        found = np.array([case.found for case in positive], float)
        lesions = np.array([case.lesions for case in positive], float)

        def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            total = weights @ lesions
            return np.divide(weights @ found, total, out=np.full(len(weights), np.nan), where=total > 0)

        return self._resamples(positive).figure(statistic, count=len(positive))

    # --- shared -------------------------------------------------------------------------------------------------------

    def _regions(self, pixels: NDArray[np.uint8]) -> tuple[Region, ...]:
        """Outline and threshold exactly as ``ml.inference.analyse`` does."""
        cut = findings_cut(pixels, thresholds=self.model.thresholds)
        return find_regions(self.model.outline(pixels), cut=cut)

    def _resamples(self, cases: Sequence["_NoduleCase | _SliceCase"]) -> Resamples:
        groups: list[Hashable] = [case.row.patient for case in cases]
        if len(set(groups)) <= 2:
            # One or two patients cannot be resampled; slices can, and the report says that this is too narrow.
            groups = list(range(len(cases)))
        return Resamples.over_groups(groups, seed=self.seed)

    def _over(self, cases: Sequence[Any], *, value: Callable[[Any], float]) -> Figure:
        return mean_figure([value(case) for case in cases], resamples=self._resamples(cases))

    def _unseen(self, rows: Sequence[Any]) -> list[Any]:
        return [row for row in rows if not (row.image.is_file() and self.manifest.has_seen(row.image))]

    def _read(self, path: Path) -> NDArray[np.uint8] | None:
        """The pixels, or ``None`` with the reason noted."""
        try:
            return read_slice(path, limits=_ANY_SIZE).pixels
        except ImageError as error:
            self.unreadable.append((path.relative_to(self.root).as_posix(), str(error)))
            return None

    def _read_mask(self, path: Path) -> NDArray[np.uint8] | None:
        """The mask's grey values: unlike a slice, it may well be black all over."""
        try:
            return read_grey(path)
        except TrainingDataError as error:
            self.unreadable.append((path.relative_to(self.root).as_posix(), str(error)))
            return None

    def _fits(self, path: Path, *, pixels: NDArray[np.uint8], mask: NDArray[np.uint8]) -> bool:
        if mask.shape == pixels.shape:
            return True
        self.unreadable.append(
            (
                path.relative_to(self.root).as_posix(),
                "The mask has another size than its picture. Please export both alike.",
            )
        )
        return False

    def _seen(self, count: int, *, total: int, where: str, rest: str) -> dict[str, Any]:
        known = (
            f"{count} of {total} {where} were seen in the training of this model and are {rest}."
            if self.manifest.is_present
            else "The model comes without a training manifest; by what the folder itself says, "
            f"{count} of {total} {where} are {rest}."
        )
        return {"count": count, "of": total, "sentence": known}

    def _nothing_left(self, count: int, *, total: int) -> dict[str, Any]:
        return {
            "images": 0,
            "seen_in_training": self._seen(count, total=total, where="slices", rest="left out"),
            "on": "No picture is left to measure: all were seen in training or could not be read.",
        }


_BLOCK_NOTES: Final = {
    "official_valid": "The official validation split, used for selection and thresholds.",
    "official_test": "The official test split as it is, pictures seen in training included.",
    "test_unseen": "The official test split without pictures, copies and re-cropped slices of the training split.",
}


@dataclass(frozen=True)
class _NoduleCase:
    row: NoduleSlice
    truth: NDArray[np.bool_]
    dice: float
    iou: float
    is_found: bool
    malignancy: float | None


@dataclass(frozen=True)
class _SliceCase:
    row: WholeSlice
    truth: NDArray[np.bool_]
    dice: Mapping[str, float]
    iou: float
    lesions: int
    found: int
    false_positives: int


def _identities(images: Iterable[ChestImage]) -> set[str]:
    """Content and, where known, slice: the same slice cropped again is not a new picture."""
    names: set[str] = set()
    for image in images:
        names.add(f"sha1:{image.sha1}")
        if image.same_slice_id:
            names.add(f"slice:{image.same_slice_id}")
    return names


def _block(images: Sequence[ChestImage], *, probabilities: Mapping[Path, NDArray[np.float64]]) -> ClassifiedBlock:
    return ClassifiedBlock(
        images=tuple(images),
        labels=np.array([image.label for image in images], int),
        probabilities=np.stack([probabilities[image.image] for image in images]),
    )


def _dice_in(window: str) -> Callable[[_SliceCase], float]:
    return lambda case: case.dice[window]


def _overlap(region: Region, lesion: NDArray[np.bool_]) -> bool:
    return intersection_over_union(_mask(region, lesion), lesion) >= FOUND_AT_IOU


def _mask(region: Region, like: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return region.mask(height=like.shape[0], width=like.shape[1])


def _worst(measured: Iterable[tuple[Path, float, NDArray[np.bool_]]]) -> tuple[OutlineCase, ...]:
    cases = [OutlineCase(path=path, dice=value, truth=truth) for path, value, truth in measured]
    return tuple(sorted(cases, key=lambda case: case.dice)[:WORST_CASES])
