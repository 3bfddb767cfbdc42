"""Thresholds and calibration from validation data, and the figures of the card from held-out data.

Everything runs through the exported network and the code that serves it, so a figure is one of the shipped files.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score, roc_curve

from ml.data import CLASSES, MASK_THRESHOLD, ChestImage, NoduleSlice, WholeSlice, read_grey
from ml.export import Figure, MalignancyCalibration
from ml.findings import body_side, find_regions, scaled_cut, union_mask
from ml.preprocessing import stretch
from ml.runtime import Cut, Model, Thresholds, pooled_logit

BOOTSTRAP_SAMPLES = 1000
OUTLINE_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# The network is sure of its tumours: what parts them from false findings lies close to 1.
PEAKS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998)
MINIMUM_AREAS_PX = (4, 8, 12, 16, 24, 32)
# What a false finding on a tumour-free slice costs, in Dice of a slice with tumour, when thresholds are chosen.
FALSE_POSITIVE_COST = 0.25


@dataclass(frozen=True)
class Scored:
    """One picture's outline probabilities (H, W), true mask (H, W) bool and the group for resampling.

    `body_side_px`: the longer side of the body in a whole slice; None for a crop from inside a chest.
    """

    probability: np.ndarray
    mask: np.ndarray
    group: str
    body_side_px: int | None = None

    def scaled(self, cut: Cut) -> Cut:
        """Return `cut` as serving would use it on this picture."""
        return cut if self.body_side_px is None else scaled_cut(cut, body_side_px=self.body_side_px)


@dataclass(frozen=True)
class Rated:
    """A nodule slice with its malignancy evidence: pooled logit, log area, truth and patient."""

    logit: float
    log_area: float
    is_malignant: bool
    patient: str


def score_nodules(model: Model, slices: Sequence[NoduleSlice]) -> tuple[list[Scored], list[Rated]]:
    """Outline nodule crops, and collect the malignancy evidence of those rated benign (1-2) or malignant (4-5).

    The evidence is taken over the true mask, so that it judges malignancy and not the outline once more.
    """
    scored, rated = [], []
    for one in slices:
        mask, pixels = read_grey(one.mask) >= MASK_THRESHOLD, read_grey(one.image)
        scored.append(Scored(probability=model.outline(pixels, scale="crop"), mask=mask, group=one.patient))
        if one.is_malignant is not None and mask.any():
            malignancy = model.outline_maps(stretch(pixels))[1]
            logit, log_area = pooled_logit(malignancy, mask=mask), math.log(float(mask.sum()))
            rated.append(Rated(logit=logit, log_area=log_area, is_malignant=one.is_malignant, patient=one.patient))
    return scored, rated


def score_slices(model: Model, slices: Sequence[WholeSlice]) -> list[Scored]:
    """Outline whole slices with their masks."""
    return [
        _scored_slice(model, read_grey(one.image), mask=read_grey(one.mask) >= MASK_THRESHOLD, group=one.patient)
        for one in slices
    ]


def score_normals(model: Model, images: Sequence[ChestImage]) -> list[Scored]:
    """Outline slices in which nothing is a tumour."""
    pictures = [(read_grey(one.image), one.same_slice_id or one.sha1) for one in images]
    return [
        _scored_slice(model, pixels, mask=np.zeros(pixels.shape, dtype=bool), group=group) for pixels, group in pictures
    ]


def _scored_slice(model: Model, pixels: np.ndarray, *, mask: np.ndarray, group: str) -> Scored:
    return Scored(
        probability=model.outline(pixels, scale="slice"), mask=mask, group=group, body_side_px=body_side(pixels)
    )


@dataclass(frozen=True)
class Pieces:
    """The connected pieces at or above a threshold: pixels, highest probability and true pixels of each; (n,) each."""

    sizes: np.ndarray
    peaks: np.ndarray
    hits: np.ndarray

    def are_kept(self, cut: Cut) -> np.ndarray:
        return (self.sizes >= cut.minimum_area_px) & (self.peaks >= cut.peak)


def pieces(scored: Scored, *, outline: float) -> Pieces:
    """Return what of a picture lies at or above a threshold, joined as serving joins it."""
    labels, count = ndimage.label(scored.probability >= outline, structure=np.ones((3, 3)))
    peaks = ndimage.maximum(scored.probability, labels, np.arange(1, count + 1)) if count else np.zeros(0)
    return Pieces(
        sizes=np.bincount(labels.ravel(), minlength=count + 1)[1:],
        peaks=np.asarray(peaks),
        hits=np.bincount(labels[scored.mask], minlength=count + 1)[1:],
    )


def predicted_mask(scored: Scored, *, cut: Cut) -> tuple[np.ndarray, int]:
    """Return the outlined mask (H, W) and the number of findings in it, as serving makes them."""
    height, width = scored.probability.shape
    regions = find_regions(scored.probability, cut=scored.scaled(cut))
    return union_mask(regions, height=height, width=width) > 0, len(regions)


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return the Dice coefficient of two boolean masks; 1.0 where both are empty."""
    total = int(np.count_nonzero(predicted)) + int(np.count_nonzero(truth))
    return 1.0 if not total else 2.0 * float(np.count_nonzero(predicted & truth)) / total


def choose_thresholds(
    *, nodules: Sequence[Scored], slices: Sequence[Scored], normals: Sequence[Scored], malignant: float
) -> Thresholds:
    """Return what makes a finding, as it serves validation data best.

    On crops: the mean Dice of nodules. On whole slices: the mean Dice of those with tumour, less false findings on
    those without. Of equally good cuts the strictest is taken.
    """
    with_tumour = [one for one in slices if one.mask.any()]
    without = [*normals, *(one for one in slices if not one.mask.any())]
    whole = _best_cut(with_tumour=with_tumour, without=without)
    crop = _best_cut(with_tumour=nodules, without=()) if nodules else whole
    return Thresholds(
        outline=whole.outline,
        minimum_area_px=whole.minimum_area_px,
        malignant=malignant,
        peak=whole.peak,
        crop_outline=crop.outline,
        crop_peak=crop.peak,
        crop_minimum_area_px=crop.minimum_area_px,
    )


def _best_cut(*, with_tumour: Sequence[Scored], without: Sequence[Scored]) -> Cut:
    best, best_value = Cut(outline=0.5, peak=0.5, minimum_area_px=12), -math.inf
    for outline in OUTLINE_THRESHOLDS:
        tumours = [(one, pieces(one, outline=outline)) for one in with_tumour]
        others = [(one, pieces(one, outline=outline)) for one in without]
        for peak, area in itertools.product(PEAKS, MINIMUM_AREAS_PX):
            if peak < outline:
                continue
            cut = Cut(outline=outline, peak=peak, minimum_area_px=area)
            value = mean([_dice_of(found, scored=one, cut=one.scaled(cut)) for one, found in tumours] or [0.0])
            counts = [np.count_nonzero(found.are_kept(one.scaled(cut))) for one, found in others]
            value -= FALSE_POSITIVE_COST * mean(counts or [0])
            if value >= best_value:
                best, best_value = cut, value
    return best


def _dice_of(found: Pieces, *, scored: Scored, cut: Cut) -> float:
    is_kept = found.are_kept(cut)
    total = int(found.sizes[is_kept].sum()) + int(np.count_nonzero(scored.mask))
    return 1.0 if not total else 2.0 * float(found.hits[is_kept].sum()) / total


def calibrate_malignancy(rated: Sequence[Rated]) -> tuple[MalignancyCalibration, float]:
    """Return the logistic calibration from validation patients and the threshold of best sensitivity + specificity.

    With nodules of one kind only there is nothing to calibrate: the network's own logit is taken, at 0.5.
    """
    truths = [one.is_malignant for one in rated]
    if len(set(truths)) < 2:
        return MalignancyCalibration(intercept=0.0, logit=1.0, log_area=0.0), 0.5
    evidence = np.array([(one.logit, one.log_area) for one in rated])
    regression = LogisticRegression(C=1.0).fit(evidence, truths)
    false_rate, true_rate, thresholds = roc_curve(truths, regression.predict_proba(evidence)[:, 1])
    place = int(np.argmax(true_rate - false_rate))
    calibration = MalignancyCalibration(
        intercept=float(regression.intercept_[0]),
        logit=float(regression.coef_[0, 0]),
        log_area=float(regression.coef_[0, 1]),
    )
    return calibration, float(np.clip(thresholds[place], 0.05, 0.95))


def figure_over_groups(
    values: Sequence, *, groups: Sequence[Hashable], statistic: Callable[[Sequence], float], on: str, seed: int
) -> Figure:
    """Return a statistic with its 95 % bootstrap interval, resampling whole groups (patients), not pictures."""
    members: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    names = sorted(members, key=str)
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(BOOTSTRAP_SAMPLES if len(names) > 1 else 0):
        places = [place for index in rng.integers(len(names), size=len(names)) for place in members[names[index]]]
        value = statistic([values[place] for place in places])
        if math.isfinite(value):
            samples.append(value)
    low, high = (float(value) for value in np.percentile(samples, (2.5, 97.5))) if samples else (None, None)
    return Figure(value=float(statistic(values)), low=low, high=high, on=on)


def mean(values: Sequence) -> float:
    """Return the mean; NaN of nothing."""
    return float(np.mean(values)) if len(values) else math.nan


def auc(pairs: Sequence[tuple[bool, float]]) -> float:
    """Return the area under the ROC curve of (truth, score) pairs; NaN where only one truth occurs."""
    truths, scores = [truth for truth, _ in pairs], [score for _, score in pairs]
    return float(roc_auc_score(truths, scores)) if len(set(truths)) == 2 else math.nan


def macro_f1(pairs: Sequence[tuple[int, int]]) -> float:
    """Return the macro-averaged F1 of (truth, predicted) pairs over the classes that occur."""
    truths, predicted = [truth for truth, _ in pairs], [guess for _, guess in pairs]
    return float(f1_score(truths, predicted, average="macro", labels=sorted(set(truths)), zero_division=0))


def outline_figures(
    *,
    nodules: Sequence[Scored],
    slices: Sequence[Scored],
    normals: Sequence[Scored],
    rated: Sequence[Rated],
    calibration: MalignancyCalibration,
    thresholds: Thresholds,
    seed: int,
) -> dict[str, Figure]:
    """Return the card's figures of outline and malignancy on held-out patients."""
    figures = {}
    on_crops, on_slices = thresholds.cut(is_crop=True), thresholds.cut(is_crop=False)
    if nodules:
        patients = len({one.group for one in nodules})
        where = f"{len(nodules)} slices of {patients} lidc-nodules patients never trained on"
        values = [dice(predicted_mask(one, cut=on_crops)[0], one.mask) for one in nodules]
        groups = [one.group for one in nodules]
        figures["lidc_dice"] = figure_over_groups(values, groups=groups, statistic=mean, on=where, seed=seed)
        large = [place for place, one in enumerate(nodules) if np.count_nonzero(one.mask) >= 30]
        figures["lidc_dice_ge30px"] = figure_over_groups(
            [values[place] for place in large],
            groups=[groups[place] for place in large],
            statistic=mean,
            on=f"{len(large)} slices with nodules of at least 30 pixels, of {where}",
            seed=seed,
        )
    if len({one.is_malignant for one in rated}) == 2:
        weights = np.array([calibration.logit, calibration.log_area])
        pairs = [(one.is_malignant, float(weights @ (one.logit, one.log_area))) for one in rated]
        figures["malignancy_auc"] = figure_over_groups(
            pairs,
            groups=[one.patient for one in rated],
            statistic=auc,
            on=f"{len(rated)} slices rated 1-2 or 4-5 of {len({one.patient for one in rated})} lidc-nodules patients "
            "never trained on, findings as the radiologists outlined them",
            seed=seed,
        )
    with_tumour = [one for one in slices if one.mask.any()]
    if with_tumour:
        patients = len({one.group for one in with_tumour})
        where = f"{len(with_tumour)} whole slices with tumour of {patients} msd-lung-slices patient(s) never trained on"
        outlined = [(predicted_mask(one, cut=on_slices)[0], one) for one in with_tumour]
        # One or two patients cannot be resampled: the interval is then over slices and says so.
        groups = [one.group if patients > 2 else str(place) for place, one in enumerate(with_tumour)]
        note = "" if patients > 2 else "; the interval is over slices, not patients, and so too narrow"
        figures["slice_dice"] = figure_over_groups(
            [dice(mask, one.mask) for mask, one in outlined], groups=groups, statistic=mean, on=where + note, seed=seed
        )
        figures["slice_sensitivity"] = figure_over_groups(
            [float((mask & one.mask).any()) for mask, one in outlined],
            groups=groups,
            statistic=mean,
            on=where + note,
            seed=seed,
        )
    without = [*normals, *(one for one in slices if not one.mask.any())]
    if without:
        figures["false_positives_per_normal_slice"] = figure_over_groups(
            [predicted_mask(one, cut=on_slices)[1] for one in without],
            groups=[one.group for one in without],
            statistic=mean,
            on=f"{len(without)} slices without tumour never trained on: normal chest-ctscan slices of the test split, "
            "and tumour-free slices of held-out msd-lung-slices patients",
            seed=seed,
        )
    return figures


def class_figures(
    *, images: Sequence[ChestImage], probabilities: np.ndarray, seen: frozenset[str], seed: int
) -> dict[str, Figure]:
    """Return the card's figures of the slice class: official valid, official test, and test pictures never seen."""
    figures = {}
    guesses = probabilities.argmax(axis=1)
    blocks = {
        "official_valid": [place for place, one in enumerate(images) if one.split == "valid"],
        "official_test": [place for place, one in enumerate(images) if one.split == "test"],
        "test_unseen": [
            place
            for place, one in enumerate(images)
            if one.split == "test" and not seen & {f"sha1:{one.sha1}", f"slice:{one.same_slice_id}"}
        ],
    }
    sentences = {
        "official_valid": "the official validation split of chest-ctscan-images, used for selection and thresholds",
        "official_test": "the official test split of chest-ctscan-images, which shares patients with training",
        "test_unseen": "the official test split without slices that stand in the training split",
    }
    for name, places in blocks.items():
        if not places:
            continue
        pairs = [(images[place].label, int(guesses[place])) for place in places]
        groups = [images[place].patient_group_id or images[place].sha1 for place in places]
        on = f"{len(places)} pictures: {sentences[name]}"
        figures[f"{name}_accuracy"] = figure_over_groups(
            [float(truth == guess) for truth, guess in pairs], groups=groups, statistic=mean, on=on, seed=seed
        )
        figures[f"{name}_macro_f1"] = figure_over_groups(pairs, groups=groups, statistic=macro_f1, on=on, seed=seed)
    return figures


def classify_all(model: Model, images: Sequence[ChestImage]) -> np.ndarray:
    """Return the calibrated probabilities (n, classes) of pictures; 0 rows for none."""
    rows = [model.classify(read_grey(one.image)).probabilities for one in images]
    return np.stack(rows) if rows else np.zeros((0, len(CLASSES)), dtype=np.float32)
