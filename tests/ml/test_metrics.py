"""Our NumPy figures against scikit-learn's, and intervals that widen when pictures come in groups."""

import math

import numpy as np
import pytest

from ml.metrics import (
    Figure,
    Ranking,
    Resamples,
    auc_figure,
    calibration_errors,
    classification_figures,
    confusion_matrix,
    dice,
    intersection_over_union,
    mean_figure,
    per_class_rates,
)

NAMES = ("a", "b", "c", "d")


@pytest.fixture(params=[0, 1, 2])
def sample(request):
    generator = np.random.default_rng(request.param)
    labels = generator.integers(0, 4, 200)
    probabilities = generator.dirichlet(np.ones(4), 200)
    probabilities[np.arange(200), labels] += 0.3
    # Rounded, so that equal scores occur.
    probabilities = np.round(probabilities / probabilities.sum(axis=1, keepdims=True), 2)
    weights = generator.integers(0, 4, 200).astype(float)
    return labels, probabilities, weights


@pytest.fixture
def sklearn_metrics():
    return pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed on this machine")


def test_rates_are_those_of_scikit_learn(sample, sklearn_metrics):
    labels, probabilities, weights = sample
    guesses = probabilities.argmax(axis=1)
    for share in (None, weights):
        matrix = confusion_matrix(labels, guesses, classes=4, weights=share)
        assert np.allclose(matrix, sklearn_metrics.confusion_matrix(labels, guesses, sample_weight=share))
        rates = per_class_rates(matrix)
        for index, name in enumerate(("precision", "recall", "f1")):
            expected = sklearn_metrics.precision_recall_fscore_support(labels, guesses, sample_weight=share)[index]
            assert np.allclose(rates[name], expected)
        for index in range(4):
            specificity = sklearn_metrics.recall_score(labels != index, guesses != index, sample_weight=share)
            assert rates["specificity"][index] == pytest.approx(specificity)


def test_areas_are_those_of_scikit_learn(sample, sklearn_metrics):
    labels, probabilities, weights = sample
    for index in range(4):
        is_positive, scores = labels == index, probabilities[:, index]
        ranking = Ranking(is_positive, scores)
        rows = np.stack([np.ones(200), weights])
        roc, precision = ranking.roc_aucs(rows), ranking.average_precisions(rows)
        for row, share in enumerate((None, weights)):
            assert roc[row] == pytest.approx(sklearn_metrics.roc_auc_score(is_positive, scores, sample_weight=share))
            expected = sklearn_metrics.average_precision_score(is_positive, scores, sample_weight=share)
            assert precision[row] == pytest.approx(expected)


def test_overall_figures_are_those_of_scikit_learn(sample, sklearn_metrics):
    labels, probabilities, _ = sample
    guesses = probabilities.argmax(axis=1)
    figures = classification_figures(
        labels=labels, probabilities=probabilities, groups=range(200), class_names=NAMES, seed=0
    )
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, guesses),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, guesses),
        "macro_f1": sklearn_metrics.f1_score(labels, guesses, average="macro"),
        "macro_precision": sklearn_metrics.precision_score(labels, guesses, average="macro"),
    }
    for name, value in expected.items():
        assert figures[name]["value"] == pytest.approx(value, abs=1e-4)
        assert figures[name]["low"] < value < figures[name]["high"]
    assert np.array(figures["confusion_matrix"]["rows_are_truth"]).sum() == 200
    assert figures["per_class"]["a"]["images"] == (labels == 0).sum()


def test_intervals_widen_when_pictures_come_in_groups():
    generator = np.random.default_rng(3)
    values = np.repeat(generator.random(20) < 0.5, 20).astype(float)
    single = mean_figure(values, resamples=Resamples.over_groups(range(400), seed=1))
    grouped = mean_figure(values, resamples=Resamples.over_groups(np.repeat(range(20), 20).tolist(), seed=1))
    assert single.value == grouped.value
    assert (grouped.high - grouped.low) > 2.5 * (single.high - single.low)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(4)
    covered = 0
    for trial in range(60):
        values = (generator.random(80) < 0.7).astype(float)
        figure = mean_figure(values, resamples=Resamples.over_groups(range(80), seed=trial, samples=200))
        covered += figure.low <= 0.7 <= figure.high
    assert 50 <= covered <= 60


def test_same_seed_same_interval_other_seed_another():
    values = np.arange(30.0)
    first, again, other = (
        mean_figure(values, resamples=Resamples.over_groups(range(30), seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_one_group_has_a_value_and_no_interval():
    figure = mean_figure([0.0, 1.0], resamples=Resamples.over_groups(["p", "p"], seed=0))
    assert figure == Figure(0.5, None, None)
    assert figure.to_json() == {"value": 0.5, "low": None, "high": None}


def test_nothing_to_measure_is_null_and_not_a_number_in_disguise():
    assert mean_figure([], resamples=Resamples.over_groups([], seed=0)) == Figure(None, None, None)
    resamples = Resamples.over_groups(range(3), seed=0)
    assert auc_figure([True, True, True], [0.1, 0.2, 0.3], resamples=resamples) == Figure(None, None, None)


def test_class_that_never_occurs_does_not_enter_the_macro_figures():
    labels = [0, 0, 1, 1]
    probabilities = np.array([[0.9, 0.1, 0, 0], [0.8, 0.2, 0, 0], [0.1, 0.9, 0, 0], [0.6, 0.4, 0, 0]])
    figures = classification_figures(labels=labels, probabilities=probabilities, groups="wxyz", class_names=NAMES)
    assert figures["balanced_accuracy"]["value"] == 0.75
    assert figures["macro_auc"]["value"] == 1.0
    assert figures["per_class"]["c"]["recall"]["value"] is None


@pytest.mark.parametrize(
    ("scores", "expected"), [([0.1, 0.2, 0.8, 0.9], 1.0), ([0.9, 0.8, 0.2, 0.1], 0.0), ([0.5] * 4, 0.5)]
)
def test_auc_of_the_obvious(scores, expected):
    assert Ranking(np.array([False, False, True, True]), np.array(scores)).roc_auc() == expected


def test_curves_begin_and_end_where_they_must():
    ranking = Ranking(np.array([True, False, True, False]), np.array([0.9, 0.8, 0.8, 0.1]))
    false_rate, true_rate = ranking.roc_points()
    assert (false_rate[0], true_rate[0], false_rate[-1], true_rate[-1]) == (0, 0, 1, 1)
    recall, precision = ranking.pr_points()
    assert recall[-1] == 1
    assert precision[0] == 1


@pytest.mark.parametrize(("confidence", "expected"), [(0.9, 0.15), (0.75, 0.0), (1.0, 0.25)])
def test_calibration_error_by_hand(confidence, expected):
    labels = np.array([0, 0, 0, 1])
    probabilities = np.tile([confidence, 1 - confidence], (4, 1))
    assert calibration_errors(labels, probabilities, weights=np.ones((1, 4))) == pytest.approx([expected])
    only_right = np.array([[1.0, 1.0, 1.0, 0.0]])
    assert calibration_errors(labels, probabilities, weights=only_right) == pytest.approx([1 - confidence])


def test_dice_and_iou():
    first, second = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert dice(first, second) == intersection_over_union(first, second) == 1.0
    first[:2] = True
    assert dice(first, second) == intersection_over_union(first, second) == 0.0
    second[1:3] = True
    assert dice(first, second) == pytest.approx(0.5)
    assert intersection_over_union(first, second) == pytest.approx(1 / 3)


def test_mismatched_inputs_are_refused():
    with pytest.raises(ValueError, match="belong together"):
        classification_figures(labels=[0, 1], probabilities=np.ones((2, 3)), groups="ab", class_names=NAMES)


def test_figures_are_finite_or_null():
    figures = classification_figures(labels=[2], probabilities=np.eye(4)[[2]], groups=["p"], class_names=NAMES)
    for name, figure in figures.items():
        if isinstance(figure, dict) and "value" in figure:
            assert figure["value"] is None or math.isfinite(figure["value"]), name
