"""Has what comes in, or what comes out, changed? Two samples of answers compared, signal by signal.

The unit is the patient, never the slice: slices of one chest resemble each other, and a test that took two hundred
slices of ten patients for two hundred independent ones would raise an alarm every week. So each patient gives one slice
(``one_of_each``), and agreement with doctors is a share a patient.

Nothing here knows a database or a clock. The tests are scipy's; of the two samples one is called the reference.
"""

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist

from ml.input_statistics import InputStatistics

Level = Literal["unknown", "quiet", "warn", "alarm"]
Family = Literal["input", "answers", "agreement"]
PERMUTATIONS: Final = 1999
# Where so few permutations leave no doubt that chance explains it, the others are saved (Besag and Clifford 1991).
FIRST_PERMUTATIONS: Final = 199
NO_DOUBT_P: Final = 0.05
# Rows beyond this many a side make a test slower and no better.
LARGEST_SAMPLE: Final = 300


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer about one slice, as the tests need it. ``embedding`` float32 (n,), probabilities in 0..1."""

    statistics: InputStatistics
    top_class: str
    confidence: float
    malignant_probability: float
    embedding: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Answers about one slice each of different patients, and for judged patients the share on which doctors agreed."""

    answers: tuple[Answer, ...]
    agreement: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One thing that is watched, and from which size of a difference on it counts.

    ``warn`` and ``alarm`` are floors of the effect: a difference below them may be certain and is still no news. What
    the effect measures stands at the test that makes it; all lie in 0..1, 0 is no difference.
    """

    name: str
    family: Family
    warn: float
    alarm: float


SIGNALS: Final = (
    Signal(name="histogram", family="input", warn=0.08, alarm=0.20),
    Signal(name="noise", family="input", warn=0.35, alarm=0.55),
    Signal(name="size", family="input", warn=0.25, alarm=0.50),
    Signal(name="source", family="input", warn=0.25, alarm=0.50),
    Signal(name="embedding", family="input", warn=0.05, alarm=0.12),
    Signal(name="classes", family="answers", warn=0.25, alarm=0.40),
    Signal(name="malignancy", family="answers", warn=0.30, alarm=0.45),
    Signal(name="confidence", family="answers", warn=0.30, alarm=0.45),
    Signal(name="agreement", family="agreement", warn=0.12, alarm=0.25),
)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How sure one has to be, and with how many patients one begins to look.

    ``false_discovery`` is the rate that Benjamini and Hochberg's procedure keeps over all tests of one run.
    A level is believed once ``needed`` of the last ``looked_at`` runs that could tell reached it.
    """

    false_discovery: float = 0.01
    minimum_reference: int = 30
    minimum_window: int = 20
    minimum_judged: int = 15
    needed: int = 3
    looked_at: int = 4
    quiet_runs: int = 7
    signals: tuple[Signal, ...] = SIGNALS


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One signal of a window beside the reference.

    ``adjusted_p`` is the p-value after control of the false discovery rate. ``before`` and ``now`` sum the signal up
    for people: numbers by name (means, or shares of categories). Without enough patients the level is "unknown", and
    effect and p are None.
    """

    signal: str
    family: Family
    level: Level
    effect: float | None
    p: float | None
    adjusted_p: float | None
    reference_patients: int
    window_patients: int
    before: Mapping[str, float]
    now: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return it as it is stored."""
        rounded = {
            name: None if value is None else float(f"{value:.4g}")
            for name, value in (("effect", self.effect), ("p", self.p), ("adjusted_p", self.adjusted_p))
        }
        return {
            "signal": self.signal,
            "family": self.family,
            "level": self.level,
            **rounded,
            "reference_patients": self.reference_patients,
            "window_patients": self.window_patients,
            "before": {name: float(f"{value:.4g}") for name, value in self.before.items()},
            "now": {name: float(f"{value:.4g}") for name, value in self.now.items()},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Comparison":
        """Read back what ``to_json`` gave."""
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one test says: the size of the difference in 0..1, and how easily chance makes it."""

    effect: float
    p: float


def one_of_each(rows: Iterable[tuple[Hashable, Hashable]], *, at_most: int = LARGEST_SAMPLE) -> list[Any]:
    """Return the key of one row of each patient, from pairs (patient, key); of at most so many patients.

    Which one follows from the key alone (a hash), so that asking again, or for a window that overlaps, draws the same.
    """
    chosen: dict[Hashable, tuple[str, Any]] = {}
    for patient, key in rows:
        rank = hashlib.sha256(str(key).encode()).hexdigest()
        if patient not in chosen or rank < chosen[patient][0]:
            chosen[patient] = (rank, key)
    return [key for _rank, key in sorted(chosen.values(), key=lambda pair: pair[0])[:at_most]]


def compare(
    reference: Sample, window: Sample, *, policy: Policy | None = None, seed: int = 0
) -> tuple[Comparison, ...]:
    """Compare a window with the reference, signal by signal.

    The false discovery rate is kept over all signals that could be asked; ``seed`` is that of the permutations.
    """
    policy = policy or Policy()
    rng = np.random.default_rng(seed)
    asked = [(signal, _ask(signal, reference, window, policy=policy, rng=rng)) for signal in policy.signals]
    ps = [found.p for _signal, found in asked if found is not None]
    adjusted = iter(stats.false_discovery_control(ps) if ps else ())
    comparisons = []
    for signal, found in asked:
        adjusted_p = float(next(adjusted)) if found is not None else None
        judged = signal.name == "agreement"
        comparisons.append(
            Comparison(
                signal=signal.name,
                family=signal.family,
                level=_level(signal, found, adjusted_p=adjusted_p, policy=policy),
                effect=found.effect if found is not None else None,
                p=found.p if found is not None else None,
                adjusted_p=adjusted_p,
                reference_patients=len(reference.agreement if judged else reference.answers),
                window_patients=len(window.agreement if judged else window.answers),
                before=summary(signal.name, reference),
                now=summary(signal.name, window),
            )
        )
    return tuple(comparisons)


def believed(levels: Sequence[Level], *, policy: Policy | None = None) -> Level:
    """Return the level that enough of the latest runs reached, from the levels of one signal, oldest first.

    Runs that could not tell are passed over; "unknown" where none could.
    """
    policy = policy or Policy()
    known = [level for level in levels if level != "unknown"][-policy.looked_at :]
    if not known:
        return "unknown"
    if known.count("alarm") >= policy.needed:
        return "alarm"
    return "warn" if len(known) - known.count("quiet") >= policy.needed else "quiet"


def is_quiet_again(levels: Sequence[Level], *, policy: Policy | None = None) -> bool:
    """Return whether the latest ``quiet_runs`` runs that could tell, oldest first, were all quiet."""
    policy = policy or Policy()
    known = [level for level in levels if level != "unknown"][-policy.quiet_runs :]
    return len(known) == policy.quiet_runs and set(known) == {"quiet"}


def summary(name: str, sample: Sample) -> dict[str, float]:
    """Return a signal of a sample in numbers for people; empty for an empty sample."""
    answers = sample.answers
    if name == "agreement":
        return {"mean": float(np.mean(sample.agreement))} if sample.agreement else {}
    if not answers:
        return {}
    if name == "histogram":
        return {
            "mean_grey": float(np.mean([answer.statistics.mean_grey for answer in answers])),
            "std_grey": float(np.mean([answer.statistics.std_grey for answer in answers])),
        }
    if name == "embedding":
        return {"mean_norm": float(np.mean([np.linalg.norm(answer.embedding) for answer in answers]))}
    if name in _NUMBERS:
        return {"mean": float(np.mean(_numbers(name, sample)))}
    values, counts = np.unique(_categories(name, sample), return_counts=True)
    shares = sorted(zip(values.tolist(), (counts / counts.sum()).tolist(), strict=True), key=lambda pair: -pair[1])
    return dict(shares[:6])


# --- the tests --------------------------------------------------------------------------------------------------------


def energy_test(reference: NDArray[Any], window: NDArray[Any], *, rng: np.random.Generator) -> Found:
    """Compare two samples of vectors (n, d) and (m, d) by their energy distance (Székely and Rizzo 2004).

    The effect is the energy coefficient, without the bias of small samples: 0 for equal distributions, 1 where the
    distance within either is nothing beside that between them. p comes from permuting who belongs where.
    """
    n, total = len(reference), len(reference) + len(window)
    m = total - n
    both = np.vstack([reference, window]).astype(np.float64)
    distances = cdist(both, both)
    whole = distances.sum()

    def energies(member: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        to_members = member @ distances
        within_reference = (to_members * member).sum(axis=1)
        between = to_members.sum(axis=1) - within_reference
        within_window = whole - within_reference - 2 * between
        between /= n * m
        return 2 * between - within_reference / (n * (n - 1)) - within_window / (m * (m - 1)), between

    member = np.zeros((1, total))
    member[0, :n] = 1
    (energy,), (between,) = energies(member)
    p = 1.0
    for permutations in (FIRST_PERMUTATIONS, PERMUTATIONS):
        by_chance, _between = energies(rng.permuted(np.tile(member, (permutations, 1)), axis=1))
        p = float((1 + (by_chance >= energy - 1e-12).sum()) / (permutations + 1))
        if p > NO_DOUBT_P:
            break
    effect = float(energy / (2 * between)) if between > 0 else 0.0
    return Found(effect=min(1.0, max(0.0, effect)), p=p)


def number_test(reference: NDArray[Any], window: NDArray[Any]) -> Found:
    """Compare two samples of numbers by Kolmogorov and Smirnov's test; the effect is their largest gap, in 0..1."""
    answer = stats.ks_2samp(reference, window)
    return Found(effect=float(answer.statistic), p=float(answer.pvalue))


def category_test(reference: Sequence[str], window: Sequence[str]) -> Found:
    """Compare two samples of categories; the effect is the share that would have to change its category, in 0..1.

    Categories too rare for the chi-squared test are taken together; where two are left, Fisher's exact test is asked.
    """
    names = sorted({*reference, *window})
    table = np.array([[list(sample).count(name) for name in names] for sample in (reference, window)])
    shares = table / table.sum(axis=1, keepdims=True)
    effect = float(np.abs(shares[0] - shares[1]).sum() / 2)
    expected = table.sum(axis=0) * table.sum(axis=1).min() / table.sum()
    rare = expected < 5
    if rare.sum() > 1:
        table = np.hstack([table[:, ~rare], table[:, rare].sum(axis=1, keepdims=True)])
    if table.shape[1] < 2:
        return Found(effect=effect, p=1.0)
    p = stats.fisher_exact(table).pvalue if table.shape[1] == 2 else stats.chi2_contingency(table).pvalue
    return Found(effect=effect, p=float(p))


def drop_test(reference: NDArray[Any], window: NDArray[Any], *, rng: np.random.Generator) -> Found:
    """Compare two samples of shares, one a patient: has the mean fallen? The effect is by how much, in 0..1."""
    fall = float(reference.mean() - window.mean())
    p = 1.0
    for permutations in (FIRST_PERMUTATIONS, PERMUTATIONS):
        answer = stats.permutation_test(
            (reference, window),
            lambda one, other, axis: one.mean(axis=axis) - other.mean(axis=axis),
            alternative="greater",
            n_resamples=permutations,
            vectorized=True,
            rng=rng,
        )
        p = float(answer.pvalue)
        if p > NO_DOUBT_P:
            break
    return Found(effect=max(0.0, fall), p=p)


_NUMBERS: Final = ("noise", "malignancy", "confidence")


def _numbers(name: str, sample: Sample) -> NDArray[np.float64]:
    take = {
        "noise": lambda answer: answer.statistics.noise_grey,
        "malignancy": lambda answer: answer.malignant_probability,
        "confidence": lambda answer: answer.confidence,
    }[name]
    return np.array([take(answer) for answer in sample.answers])


def _categories(name: str, sample: Sample) -> list[str]:
    take = {
        "size": lambda answer: f"{answer.statistics.width} × {answer.statistics.height}",
        "source": lambda answer: answer.statistics.source_kind,
        "classes": lambda answer: answer.top_class,
    }[name]
    return [take(answer) for answer in sample.answers]


def _vectors(name: str, sample: Sample) -> NDArray[np.float64]:
    if name == "embedding":
        return np.array([answer.embedding for answer in sample.answers], np.float64)
    # Square roots of shares: distances between them are Hellinger's, which rare greys do not drown in.
    return np.sqrt(np.array([answer.statistics.histogram for answer in sample.answers], np.float64))


def _ask(
    signal: Signal, reference: Sample, window: Sample, *, policy: Policy, rng: np.random.Generator
) -> Found | None:
    if signal.name == "agreement":
        if min(len(reference.agreement), len(window.agreement)) < policy.minimum_judged:
            return None
        return drop_test(np.array(reference.agreement), np.array(window.agreement), rng=rng)
    if len(reference.answers) < policy.minimum_reference or len(window.answers) < policy.minimum_window:
        return None
    if signal.name in _NUMBERS:
        return number_test(_numbers(signal.name, reference), _numbers(signal.name, window))
    if signal.name in ("histogram", "embedding"):
        return energy_test(_vectors(signal.name, reference), _vectors(signal.name, window), rng=rng)
    return category_test(_categories(signal.name, reference), _categories(signal.name, window))


def _level(signal: Signal, found: Found | None, *, adjusted_p: float | None, policy: Policy) -> Level:
    if found is None or adjusted_p is None:
        return "unknown"
    if adjusted_p > policy.false_discovery or found.effect < signal.warn:
        return "quiet"
    return "alarm" if found.effect >= signal.alarm else "warn"
