"""The tests of drift find what has changed, keep quiet about what has not, and count patients rather than slices."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ml.drift import (
    SIGNALS,
    Answer,
    Comparison,
    Policy,
    Sample,
    believed,
    category_test,
    compare,
    drop_test,
    energy_test,
    is_quiet_again,
    number_test,
    one_of_each,
)
from ml.input_statistics import InputStatistics

CLASSES = ("adenocarcinoma", "large_cell_carcinoma", "normal", "squamous_cell_carcinoma")
Change = Callable[[Answer], Answer]


def an_answer(rng: np.random.Generator) -> Answer:
    """An answer about a slice of somebody, as they come in every day."""
    histogram = rng.dirichlet(np.linspace(30, 2, 16))
    shares = rng.dirichlet([4, 1, 3, 2])
    return Answer(
        statistics=InputStatistics(
            width=512,
            height=512,
            mean_grey=float(histogram @ np.arange(8, 256, 16)),
            std_grey=40.0,
            percentiles=(0, 5, 30, 60, 90, 140, 200),
            histogram=tuple(histogram),
            noise_grey=float(rng.gamma(20, 0.2)),
            source_kind="dicom" if rng.random() < 0.8 else "png",
        ),
        top_class=CLASSES[int(shares.argmax())],
        confidence=float(shares.max()),
        malignant_probability=float(rng.beta(2, 2)),
        embedding=rng.normal(0, 1, 32).astype(np.float32),
    )


def a_sample(
    seed: int, *, patients: int = 60, change: Change = lambda answer: answer, agreement: float = 0.8
) -> Sample:
    rng = np.random.default_rng(seed)
    return Sample(
        answers=tuple(change(an_answer(rng)) for _ in range(patients)),
        agreement=tuple((rng.random(patients) < agreement).astype(float).tolist()),
    )


def with_statistics(**changes: object) -> Change:
    return lambda answer: replace(answer, statistics=replace(answer.statistics, **changes))


def by_signal(comparisons: tuple[Comparison, ...]) -> dict[str, Comparison]:
    return {comparison.signal: comparison for comparison in comparisons}


CHANGES: dict[str, Change] = {
    "histogram": with_statistics(histogram=tuple(np.linspace(2, 30, 16) / np.linspace(2, 30, 16).sum())),
    "noise": with_statistics(noise_grey=9.0),
    "size": with_statistics(width=768, height=768),
    "source": with_statistics(source_kind="jpeg"),
    "embedding": lambda answer: replace(answer, embedding=answer.embedding + 0.8),
    "classes": lambda answer: replace(answer, top_class="large_cell_carcinoma"),
    "malignancy": lambda answer: replace(answer, malignant_probability=0.9 + answer.malignant_probability / 10),
    "confidence": lambda answer: replace(answer, confidence=0.5 * answer.confidence),
}


@pytest.mark.parametrize("signal", CHANGES)
def test_a_change_of_one_kind_raises_the_alarm_of_that_signal_alone(signal: str) -> None:
    found = by_signal(compare(a_sample(1), a_sample(2, patients=40, change=CHANGES[signal])))
    assert {name for name, one in found.items() if one.level != "quiet"} == {signal}
    assert found[signal].level == "alarm"
    assert found[signal].before != found[signal].now


def test_doctors_who_agree_less_raise_the_alarm_and_those_who_agree_more_do_not() -> None:
    worse = by_signal(compare(a_sample(1), a_sample(2, agreement=0.4)))["agreement"]
    assert worse.level == "alarm"
    assert worse.effect == pytest.approx(worse.before["mean"] - worse.now["mean"], abs=1e-9)
    better = by_signal(compare(a_sample(1, agreement=0.4), a_sample(2, agreement=0.9)))["agreement"]
    assert (better.level, better.effect) == ("quiet", 0.0)


def test_a_certain_but_small_change_is_no_news() -> None:
    """With enough patients everything is significant: below the floor of the effect it stays quiet."""
    darker = replace(SIGNALS[6], warn=0.5, alarm=0.6)
    shifted = a_sample(2, patients=300, change=lambda a: replace(a, malignant_probability=a.malignant_probability**0.4))
    (found,) = compare(a_sample(1, patients=300), shifted, policy=Policy(signals=(darker,)))
    assert found.p is not None
    assert found.p < 1e-6
    assert found.level == "quiet"


def test_equal_samples_seldom_raise_anything() -> None:
    """100 pairs of samples from one population, 7 tests each: at most one of them says anything."""
    policy = Policy(signals=tuple(signal for signal in SIGNALS if signal.name not in ("histogram", "embedding")))
    noisy = sum(
        any(
            one.level != "quiet" for one in compare(a_sample(seed), a_sample(seed + 10_000, patients=30), policy=policy)
        )
        for seed in range(100)
    )
    assert noisy <= 1


def test_the_energy_test_keeps_its_level_and_finds_a_shift() -> None:
    rng = np.random.default_rng(5)
    ps = [energy_test(rng.normal(size=(40, 8)), rng.normal(size=(25, 8)), rng=rng).p for _ in range(40)]
    assert stats.kstest(ps, "uniform").pvalue > 0.01
    moved = energy_test(rng.normal(size=(40, 8)), rng.normal(1, size=(25, 8)), rng=rng)
    assert moved.p == pytest.approx(1 / 2000)
    far = energy_test(rng.normal(size=(40, 8)), rng.normal(90, size=(25, 8)), rng=rng)
    assert 0.9 < far.effect <= 1


def test_slices_of_one_patient_do_not_count_as_many() -> None:
    """Fifteen patients with thirty slices each differ by chance; asked slice by slice, that looks like a certainty."""
    rng = np.random.default_rng(11)
    false_by_slice = false_by_patient = 0
    for _ in range(40):
        patients = {side: rng.normal(0, 1, 30 if side else 15) for side in (0, 1)}
        slices = {
            side: [
                ((side, n), (side, n, i), level + rng.normal(0, 0.2))
                for n, level in enumerate(levels)
                for i in range(30)
            ]
            for side, levels in patients.items()
        }
        values = {side: {key: value for _patient, key, value in rows} for side, rows in slices.items()}
        by_slice = number_test(np.array(list(values[0].values())), np.array(list(values[1].values())))
        drawn = {
            side: [values[side][key] for key in one_of_each((patient, key) for patient, key, _value in rows)]
            for side, rows in slices.items()
        }
        by_patient = number_test(np.array(drawn[0]), np.array(drawn[1]))
        false_by_slice += by_slice.p < 0.01
        false_by_patient += by_patient.p < 0.01
    assert false_by_slice > 30
    assert false_by_patient <= 3


def test_of_each_patient_the_same_slice_is_drawn_again() -> None:
    rows = [(patient, f"{patient}-{number}") for patient in "abcd" for number in range(9)]
    drawn = one_of_each(rows)
    assert {key[0] for key in drawn} == set("abcd")
    assert one_of_each(reversed(rows)) == drawn
    assert one_of_each(rows, at_most=2) == drawn[:2]
    assert one_of_each([]) == []


def test_categories_never_seen_before_count_and_rare_ones_are_taken_together() -> None:
    usual = ["512"] * 40 + ["768"] * 3 + ["1024"] * 2
    found = category_test(usual, ["600"] * 20 + ["512"] * 10)
    assert found.effect == pytest.approx(1 / 2 * (40 / 45 - 1 / 3 + 5 / 45 + 2 / 3))
    assert found.p < 1e-6
    assert category_test(["a"] * 9, ["a"] * 7) == category_test(["a"], ["a"])
    by_hand = stats.fisher_exact([[8, 2], [1, 9]]).pvalue
    assert category_test(["a"] * 8 + ["b"] * 2, ["a"] * 1 + ["b"] * 9).p == pytest.approx(by_hand)


def test_a_drop_is_asked_in_one_direction() -> None:
    rng = np.random.default_rng(2)
    high, low = (rng.random(40) < 0.9).astype(float), (rng.random(40) < 0.4).astype(float)
    assert drop_test(high, low, rng=rng).p < 0.01
    assert drop_test(low, high, rng=rng).p > 0.9


def test_with_too_few_patients_nothing_is_said() -> None:
    short = compare(a_sample(1), a_sample(2, patients=19))
    assert [one.level for one in short[:-1]] == ["unknown"] * 8
    assert all(one.effect is None and one.p is None and one.adjusted_p is None for one in short[:-1])
    assert short[-1].level == "quiet"  # 19 judged patients are enough for agreement
    empty = compare(Sample(answers=()), Sample(answers=()))
    assert {one.level for one in empty} == {"unknown"}
    assert {(one.reference_patients, one.window_patients) for one in empty} == {(0, 0)}


def test_the_false_discovery_rate_is_kept_over_what_could_be_asked() -> None:
    found = compare(a_sample(1), a_sample(2, change=CHANGES["noise"]))
    ps = [one.p for one in found]
    assert [one.adjusted_p for one in found] == pytest.approx(stats.false_discovery_control(ps).tolist())


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([], "unknown"),
        (["unknown"] * 5, "unknown"),
        (["alarm", "alarm"], "quiet"),
        (["alarm", "quiet", "alarm", "alarm"], "alarm"),
        (["alarm", "unknown", "alarm", "unknown", "unknown", "alarm"], "alarm"),
        (["warn", "alarm", "warn"], "warn"),
        (["alarm", "alarm", "alarm", "quiet", "quiet"], "quiet"),
        (["alarm", "alarm", "alarm", "alarm", "quiet"], "alarm"),
    ],
)
def test_one_run_alone_is_not_believed(levels: list, expected: str) -> None:
    assert believed(levels) == expected


def test_quiet_again_needs_a_row_of_quiet_runs() -> None:
    assert not is_quiet_again(["alarm"] + ["quiet"] * 6)
    assert is_quiet_again(["alarm"] + ["quiet"] * 4 + ["unknown"] + ["quiet"] * 3)
    assert not is_quiet_again(["quiet"] * 7 + ["warn"])
    assert not is_quiet_again(["unknown"] * 20)


def test_a_comparison_survives_being_stored() -> None:
    for one in compare(a_sample(1), a_sample(2, patients=25)):
        stored = json.loads(json.dumps(one.to_json(), allow_nan=False))
        assert Comparison.from_json(stored).to_json() == stored
