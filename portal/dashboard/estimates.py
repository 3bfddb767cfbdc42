"""Shares, percentiles and areas with their 95 % intervals, from counts alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ml.metrics import per_class_rates

# Fewer than this many say nothing: of nine out of nine, Wilson's interval begins at 0.70.
ENOUGH: Final = 10
Z95: Final = 1.959964
DRAWS: Final = 2000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval and the number it rests on; all three are None where that is too small."""

    value: float | None
    low: float | None
    high: float | None
    count: int


def too_few(count: int) -> Estimate:
    """Return that nothing can be said."""
    return Estimate(value=None, low=None, high=None, count=count)


def share(hits: int, count: int) -> Estimate:
    """Return hits / count with Wilson's interval (Wilson 1927), which never leaves 0..1."""
    if count < ENOUGH:
        return too_few(count)
    portion = hits / count
    spread = Z95**2 / count
    centre = (portion + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(portion * (1 - portion) / count + spread / (4 * count)) / (1 + spread)
    return Estimate(
        value=portion, low=0.0 if not hits else centre - half, high=1.0 if hits == count else centre + half, count=count
    )


def percentile(counts: Mapping[int, int], *, share: float) -> int | None:
    """Return the smallest value that at least ``share`` of all do not exceed (nearest rank); None without any.

    ``counts`` says how often each value occurs.
    """
    total = sum(counts.values())
    if not total:
        return None
    rank, passed = max(1, math.ceil(round(share * total, 9))), 0
    for value in sorted(counts):
        passed += counts[value]
        if passed >= rank:
            return value
    raise AssertionError("unreachable: the last value has every rank")


def macro_rates(matrix: NDArray[np.int64]) -> dict[str, Estimate]:
    """Precision, recall and F1, each the mean over the classes that occur, from counts (classes, classes).

    Rows are the truth. Intervals are percentiles of 2,000 draws of as many slices from the same table (a multinomial
    bootstrap with a fixed seed), so that they cost the same for ten slices and for a million. Slices count as
    independent of each other; those of one patient are not, so that the true intervals are somewhat wider.
    """
    count = int(matrix.sum())
    names = ("precision", "recall", "f1")
    if count < ENOUGH:
        return {name: too_few(count) for name in names}
    classes = len(matrix)
    drawn = np.random.default_rng(0).multinomial(count, (matrix / count).ravel(), size=DRAWS)
    tables = np.concatenate([matrix.reshape(1, classes, classes), drawn.reshape(DRAWS, classes, classes)])
    rates = per_class_rates(tables.astype(float))
    occurs = matrix.sum(axis=1) > 0
    found = {}
    for name in names:
        each = np.ma.masked_invalid(rates[name][:, occurs]).mean(axis=1).filled(np.nan)
        low, high = np.nanpercentile(each[1:], [2.5, 97.5])
        found[name] = Estimate(value=float(each[0]), low=float(low), high=float(high), count=count)
    return found


def area_under_curve(malignant: Sequence[float], benign: Sequence[float]) -> Estimate:
    """Return how often a malignant case scores higher than a benign one, with DeLong's interval (DeLong 1988).

    Ties count one half. Where all cases are told apart the interval is unknown, and only the value is returned.
    """
    count = len(malignant) + len(benign)
    if min(len(malignant), len(benign)) < ENOUGH // 2 or count < ENOUGH:
        return too_few(count)
    high_scores, low_scores = np.asarray(malignant, float), np.asarray(benign, float)
    above = _placements(high_scores, low_scores)
    below = 1 - _placements(low_scores, high_scores)
    value = float(above.mean())
    variance = float(above.var(ddof=1)) / len(above) + float(below.var(ddof=1)) / len(below)
    if variance <= 0:
        return Estimate(value=value, low=None, high=None, count=count)
    half = Z95 * math.sqrt(variance)
    return Estimate(value=value, low=max(0.0, value - half), high=min(1.0, value + half), count=count)


def _placements(of: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return of each score which share of the others it exceeds, ties one half."""
    ordered = np.sort(among)
    smaller = np.searchsorted(ordered, of, side="left")
    not_larger = np.searchsorted(ordered, of, side="right")
    return (smaller + not_larger) / (2 * len(ordered))
