"""Figures with 95 % bootstrap intervals over groups (patients), in NumPy alone.

Every statistic takes weights, because a bootstrap sample of groups is nothing but a weight for each picture: how often
its group was drawn. Definitions follow scikit-learn's, and the tests hold them to it.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Statistic = Callable[[FloatArray], float]
BOOTSTRAP_SAMPLES: Final = 1000
CALIBRATION_BINS: Final = 15


@dataclass(frozen=True)
class Figure:
    """A figure and its 95 % interval; ``None`` where nothing can be measured or fewer than two groups resampled."""

    value: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, float | None]:
        return {"value": _rounded(self.value), "low": _rounded(self.low), "high": _rounded(self.high)}


@dataclass(frozen=True)
class Resamples:
    """Bootstrap weights (samples, n), drawn once and used for every figure of one set of pictures."""

    weights: FloatArray

    @classmethod
    def over_groups(cls, groups: Sequence[Hashable], *, seed: int, samples: int = BOOTSTRAP_SAMPLES) -> "Resamples":
        """Draw whole groups with replacement; with fewer than two groups there are no samples."""
        names = {group: place for place, group in enumerate(dict.fromkeys(groups))}
        if len(names) < 2:
            return cls(weights=np.zeros((0, len(groups))))
        drawn = np.random.default_rng(seed).integers(len(names), size=(samples, len(names)))
        counts = np.stack([np.bincount(row, minlength=len(names)) for row in drawn]).astype(float)
        return cls(weights=counts[:, [names[group] for group in groups]])

    def figure(self, statistic: Statistic, *, count: int) -> Figure:
        """The statistic of all ``count`` pictures and its interval (percentiles 2.5 and 97.5 of the samples)."""
        if not count:
            return Figure(None, None, None)
        return _figure_of(np.array([statistic(row) for row in (np.ones(count), *self.weights)]))


def mean_figure(values: Sequence[float] | FloatArray, *, resamples: Resamples) -> Figure:
    """The mean of one value a picture."""
    array = np.asarray(values, float)
    return resamples.figure(lambda weights: _ratio(float(weights @ array), float(weights.sum())), count=len(array))


# --- classes ----------------------------------------------------------------------------------------------------------


def confusion_matrix(
    labels: NDArray[np.int_], guesses: NDArray[np.int_], *, classes: int, weights: FloatArray | None = None
) -> FloatArray:
    """Counts (classes, classes): rows are the truth, columns the guess."""
    flat = np.bincount(labels * classes + guesses, weights=weights, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(float)


def per_class_rates(matrix: FloatArray) -> dict[str, FloatArray]:
    """Precision, recall (sensitivity), specificity and F1 of each class (NaN for a class without pictures).

    ``matrix`` (…, classes, classes) as :func:`confusion_matrix` gives it; each rate is (…, classes).
    """
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    truth, guessed = matrix.sum(axis=-1), matrix.sum(axis=-2)
    total = truth.sum(axis=-1, keepdims=True)
    negatives = total - truth
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = np.where(truth > 0, hits / truth, np.nan)
        precision = np.where(guessed > 0, hits / guessed, np.where(truth > 0, 0.0, np.nan))
        specificity = np.where(negatives > 0, (negatives - (guessed - hits)) / negatives, np.nan)
        f1 = np.where(truth > 0, 2 * hits / (truth + guessed), np.nan)
    return {"precision": precision, "recall": recall, "specificity": specificity, "f1": f1}


def classification_figures(
    *,
    labels: Sequence[int] | NDArray[np.int_],
    probabilities: FloatArray | NDArray[np.float32],
    groups: Sequence[Hashable],
    class_names: Sequence[str],
    seed: int = 0,
) -> dict[str, Any]:
    """All figures of a classification as JSON: overall, ``per_class`` and ``confusion_matrix``.

    ``labels`` (n,) index ``class_names``; ``probabilities`` (n, classes). Macro figures are means over the classes that
    occur in ``labels``; AUC is one class against the rest.
    """
    truth = np.asarray(labels, int)
    scores = np.asarray(probabilities, float)
    classes = len(class_names)
    if scores.shape != (len(truth), classes) or len(groups) != len(truth):
        raise ValueError(
            "Labels, probabilities and groups must belong together. "
            f"Received: {truth.shape} {scores.shape} {len(groups)}"
        )
    guesses = scores.argmax(axis=1) if len(truth) else truth
    resamples = Resamples.over_groups(groups, seed=seed)
    # Row 0 weighs every picture once; the others are the bootstrap samples.
    weights = np.concatenate([np.ones((1, len(truth))), resamples.weights])
    cells = np.zeros((len(truth), classes * classes))
    cells[np.arange(len(truth)), truth * classes + guesses] = 1.0
    rates = per_class_rates((weights @ cells).reshape(-1, classes, classes))
    rankings = [Ranking(truth == index, scores[:, index]) for index in range(classes)]
    areas = {
        key: np.array([[getattr(ranking, name)(row) for ranking in rankings] for row in weights])
        for key, name in (("auc", "roc_auc"), ("pr_auc", "average_precision"))
    }
    hits = (truth == guesses).astype(float)
    figures: dict[str, Any] = {
        "accuracy": mean_figure(hits, resamples=resamples),
        "balanced_accuracy": _figure_of(_nan_means(rates["recall"])),
        "macro_precision": _figure_of(_nan_means(rates["precision"])),
        "macro_recall": _figure_of(_nan_means(rates["recall"])),
        "macro_specificity": _figure_of(_nan_means(rates["specificity"])),
        "macro_f1": _figure_of(_nan_means(rates["f1"])),
        "macro_auc": _figure_of(_nan_means(areas["auc"])),
        "macro_pr_auc": _figure_of(_nan_means(areas["pr_auc"])),
        "ece": resamples.figure(lambda row: calibration_error(truth, scores, weights=row), count=len(truth)),
    }
    result: dict[str, Any] = {name: figure.to_json() for name, figure in figures.items()}
    result["per_class"] = {
        name: {
            "images": int((truth == index).sum()),
            **{key: _figure_of(values[:, index]).to_json() for key, values in (rates | areas).items()},
        }
        for index, name in enumerate(class_names)
    }
    matrix = confusion_matrix(truth, guesses, classes=classes)
    result["confusion_matrix"] = {"classes": list(class_names), "rows_are_truth": matrix.astype(int).tolist()}
    return result


def calibration_bins(
    labels: NDArray[np.int_],
    probabilities: FloatArray,
    *,
    weights: FloatArray | None = None,
    bins: int = CALIBRATION_BINS,
) -> FloatArray:
    """Weight, mean confidence and accuracy of each bin (bins, 3), by the probability of the guessed class."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    share = np.ones(len(labels)) if weights is None else weights
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    mass = np.bincount(place, weights=share, minlength=bins)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_confidence = np.bincount(place, weights=share * confidence, minlength=bins) / mass
        accuracy = np.bincount(place, weights=share * correct, minlength=bins) / mass
    return np.stack([mass, mean_confidence, accuracy], axis=1)


def calibration_error(
    labels: NDArray[np.int_],
    probabilities: FloatArray,
    *,
    weights: FloatArray | None = None,
    bins: int = CALIBRATION_BINS,
) -> float:
    """Expected calibration error (Guo et al. 2017): how far confidence and accuracy part, weighted over equal bins."""
    table = calibration_bins(labels, probabilities, weights=weights, bins=bins)
    filled = table[table[:, 0] > 0]
    return _ratio(float(filled[:, 0] @ np.abs(filled[:, 1] - filled[:, 2])), float(filled[:, 0].sum()))


# --- ranking ----------------------------------------------------------------------------------------------------------


class Ranking:
    """Scores of positives and negatives, sorted once, so that weighted areas of a thousand samples stay cheap."""

    def __init__(self, is_positive: NDArray[np.bool_], scores: NDArray[Any]) -> None:
        values = np.asarray(scores, float)
        self._order = np.argsort(-values, kind="stable")
        ordered = values[self._order]
        self._positive = np.asarray(is_positive, bool)[self._order].astype(float)
        # The last place of every run of equal scores: a threshold cannot part them.
        self._ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1) if len(ordered) else np.zeros(0, int)
        self._ordered = ordered

    def _cumulated(self, weights: FloatArray | None) -> tuple[FloatArray, FloatArray]:
        share = np.ones(len(self._order)) if weights is None else weights[self._order]
        return np.cumsum(share * self._positive)[self._ends], np.cumsum(share * (1 - self._positive))[self._ends]

    def roc_auc(self, weights: FloatArray | None = None) -> float:
        """Area under the ROC curve; NaN where only one kind has weight."""
        hits, misses = (np.concatenate([[0.0], part]) for part in self._cumulated(weights))
        if len(hits) == 1 or hits[-1] <= 0 or misses[-1] <= 0:
            return math.nan
        area = float(np.sum(np.diff(misses) * (hits[1:] + hits[:-1]) / 2))
        return area / float(hits[-1] * misses[-1])

    def average_precision(self, weights: FloatArray | None = None) -> float:
        """Area under the precision-recall curve as the step-wise sum; NaN without positives."""
        hits, misses = self._cumulated(weights)
        if not len(hits) or hits[-1] <= 0:
            return math.nan
        flagged = hits + misses
        precision = np.divide(hits, flagged, out=np.zeros_like(hits), where=flagged > 0)
        return float(np.sum(np.diff(np.concatenate([[0.0], hits])) * precision) / hits[-1])

    def roc_points(self) -> tuple[FloatArray, FloatArray]:
        """False-positive and true-positive rates from (0, 0) to (1, 1)."""
        hits, misses = (np.concatenate([[0.0], part]) for part in self._cumulated(None))
        return misses / max(misses[-1], 1e-12), hits / max(hits[-1], 1e-12)

    def pr_points(self) -> tuple[FloatArray, FloatArray]:
        """Recall and precision at every threshold."""
        hits, misses = self._cumulated(None)
        return hits / max(hits[-1], 1e-12), hits / np.maximum(hits + misses, 1e-12)


def auc_figure(is_positive: Sequence[bool], scores: Sequence[float], *, resamples: Resamples) -> Figure:
    """ROC-AUC of a yes/no question with its interval."""
    ranking = Ranking(np.asarray(is_positive, bool), np.asarray(scores, float))
    return resamples.figure(ranking.roc_auc, count=len(is_positive))


# --- outlines ---------------------------------------------------------------------------------------------------------


def dice(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice coefficient of two masks (H,W); 1 where both are empty."""
    total = int(np.count_nonzero(predicted)) + int(np.count_nonzero(truth))
    return 1.0 if not total else 2.0 * int(np.count_nonzero(predicted & truth)) / total


def intersection_over_union(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Shared part of two masks (H,W); 1 where both are empty."""
    union = int(np.count_nonzero(predicted | truth))
    return 1.0 if not union else int(np.count_nonzero(predicted & truth)) / union


def figures_json(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: figure.to_json() for name, figure in figures.items()}


def _nan_means(values: FloatArray) -> FloatArray:
    """Mean over the last axis of what is finite; NaN where nothing is."""
    finite = np.isfinite(values)
    count = finite.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(count > 0, np.where(finite, values, 0.0).sum(axis=-1) / count, np.nan)


def _figure_of(values: FloatArray) -> Figure:
    """The first value with the interval of the others."""
    samples = values[1:][np.isfinite(values[1:])]
    if not math.isfinite(values[0]):
        return Figure(None, None, None)
    if not len(samples):
        return Figure(float(values[0]), None, None)
    low, high = np.percentile(samples, (2.5, 97.5))
    return Figure(float(values[0]), float(low), float(high))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
