"""Figures with 95 % bootstrap intervals over groups (patients), in NumPy alone.

Every statistic takes weights, because a bootstrap sample of groups is nothing but a weight for each picture: how often
its group was drawn; and it takes many samples at once, a row each, because
a thousand calls would take seconds. Definitions follow scikit-learn's, and the tests hold them to it.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
# Weights (samples, n) in, one value a sample out.
Statistic = Callable[[FloatArray], FloatArray]
BOOTSTRAP_SAMPLES: Final = 1000
CALIBRATION_BINS: Final = 15
SAMPLES_AT_ONCE: Final = 100


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
        return _figure_of(self.values(statistic, count=count))

    def values(self, statistic: Statistic, *, count: int) -> FloatArray:
        """The statistic of all pictures, then of every sample; in portions, so that memory stays small."""
        weights = np.concatenate([np.ones((1, count)), self.weights])
        portions = [weights[start : start + SAMPLES_AT_ONCE] for start in range(0, len(weights), SAMPLES_AT_ONCE)]
        return np.concatenate([statistic(portion) for portion in portions])


def mean_figure(values: Sequence[float] | FloatArray, *, resamples: Resamples) -> Figure:
    """The mean of one value a picture."""
    array = np.asarray(values, float)
    return resamples.figure(lambda weights: _ratios(weights @ array, weights.sum(axis=1)), count=len(array))


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
    cells = np.zeros((len(truth), classes * classes))
    cells[np.arange(len(truth)), truth * classes + guesses] = 1.0
    weights = np.concatenate([np.ones((1, len(truth))), resamples.weights])
    rates = per_class_rates((weights @ cells).reshape(-1, classes, classes))
    rankings = [Ranking(truth == index, scores[:, index]) for index in range(classes)]
    areas = {
        "auc": np.stack([resamples.values(ranking.roc_aucs, count=len(truth)) for ranking in rankings], axis=1),
        "pr_auc": np.stack(
            [resamples.values(ranking.average_precisions, count=len(truth)) for ranking in rankings], axis=1
        ),
    }
    figures: dict[str, Any] = {
        "accuracy": mean_figure((truth == guesses).astype(float), resamples=resamples),
        "balanced_accuracy": _figure_of(_nan_means(rates["recall"])),
        "macro_precision": _figure_of(_nan_means(rates["precision"])),
        "macro_recall": _figure_of(_nan_means(rates["recall"])),
        "macro_specificity": _figure_of(_nan_means(rates["specificity"])),
        "macro_f1": _figure_of(_nan_means(rates["f1"])),
        "macro_auc": _figure_of(_nan_means(areas["auc"])),
        "macro_pr_auc": _figure_of(_nan_means(areas["pr_auc"])),
        "ece": resamples.figure(lambda rows: calibration_errors(truth, scores, weights=rows), count=len(truth)),
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
    labels: NDArray[np.int_], probabilities: FloatArray, *, weights: FloatArray, bins: int = CALIBRATION_BINS
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weight, summed confidence and summed correctness of each bin, each (samples, bins), by the guessed class.

    ``weights`` (samples, n).
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    member = np.zeros((len(labels), bins))
    member[np.arange(len(labels)), np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)] = 1.0
    return weights @ member, weights @ (member * confidence[:, None]), weights @ (member * correct[:, None])


def calibration_errors(
    labels: NDArray[np.int_], probabilities: FloatArray, *, weights: FloatArray, bins: int = CALIBRATION_BINS
) -> FloatArray:
    """Expected calibration error (Guo et al. 2017) of each sample (samples,): how far confidence and accuracy part."""
    mass, confidence, correct = calibration_bins(labels, probabilities, weights=weights, bins=bins)
    return _ratios(np.abs(confidence - correct).sum(axis=1), mass.sum(axis=1))


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

    def _cumulated(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Weight of positives and of negatives at or above every threshold, (samples, thresholds)."""
        share = weights[:, self._order]
        positive = share * self._positive
        return np.cumsum(positive, axis=1)[:, self._ends], np.cumsum(share - positive, axis=1)[:, self._ends]

    def roc_aucs(self, weights: FloatArray) -> FloatArray:
        """Area under the ROC curve of every sample (samples,); NaN where only one kind has weight."""
        hits, misses = (np.pad(part, ((0, 0), (1, 0))) for part in self._cumulated(weights))
        areas = np.sum(np.diff(misses, axis=1) * (hits[:, 1:] + hits[:, :-1]) / 2, axis=1)
        return _ratios(areas, hits[:, -1] * misses[:, -1])

    def average_precisions(self, weights: FloatArray) -> FloatArray:
        """Area under the precision-recall curve as the step-wise sum (samples,); NaN without positives."""
        hits, misses = self._cumulated(weights)
        flagged = hits + misses
        precision = np.divide(hits, flagged, out=np.zeros_like(hits), where=flagged > 0)
        steps = np.diff(np.pad(hits, ((0, 0), (1, 0))), axis=1)
        return _ratios(np.sum(steps * precision, axis=1), hits[:, -1] if hits.shape[1] else np.zeros(len(hits)))

    def roc_auc(self) -> float:
        return float(self.roc_aucs(self._once())[0])

    def average_precision(self) -> float:
        return float(self.average_precisions(self._once())[0])

    def _once(self) -> FloatArray:
        return np.ones((1, len(self._order)))

    def roc_points(self) -> tuple[FloatArray, FloatArray]:
        """False-positive and true-positive rates from (0, 0) to (1, 1)."""
        hits, misses = (np.pad(part[0], (1, 0)) for part in self._cumulated(self._once()))
        return misses / max(misses[-1], 1e-12), hits / max(hits[-1], 1e-12)

    def pr_points(self) -> tuple[FloatArray, FloatArray]:
        """Recall and precision at every threshold."""
        hits, misses = (part[0] for part in self._cumulated(self._once()))
        return hits / max(hits[-1], 1e-12), hits / np.maximum(hits + misses, 1e-12)


def auc_figure(is_positive: Sequence[bool], scores: Sequence[float], *, resamples: Resamples) -> Figure:
    """ROC-AUC of a yes/no question with its interval."""
    ranking = Ranking(np.asarray(is_positive, bool), np.asarray(scores, float))
    return resamples.figure(ranking.roc_aucs, count=len(is_positive))


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


def figures_of(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures within a report's nested blocks as `block/figure` → value; those without a value left out."""
    flat: dict[str, float] = {}

    def gather(block: Mapping[str, Any], path: tuple[str, ...]) -> None:
        for name, value in block.items():
            if not isinstance(value, Mapping):
                continue
            if "value" not in value:
                gather(value, (*path, name))
            elif value["value"] is not None:
                flat["/".join((*path, name))] = float(value["value"])

    gather(report, ())
    return flat


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


def _ratios(part: FloatArray, whole: FloatArray) -> FloatArray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
