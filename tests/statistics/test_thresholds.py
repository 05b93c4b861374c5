"""Against every threshold in turn, with ties, unknown labels and rows that count several times."""

import warnings

import numpy as np
import pytest
import sklearn.metrics
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, matthews_corrcoef

from imitate.statistics.thresholds import (
    accuracy,
    balanced_accuracy,
    best_threshold,
    called,
    called_at_max_f1,
    called_highest,
    matthews,
)

PAIRS = [(accuracy, accuracy_score), (balanced_accuracy, balanced_accuracy_score), (matthews, matthews_corrcoef)]


def _drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    target = generator.integers(0, 2, 30).astype(float)
    target[generator.random(30) < 0.1] = np.nan
    return target, generator.integers(0, 8, 30) / 8, generator.integers(0, 3, (4, 30))


@pytest.mark.parametrize("seed", range(5))
def test_at_the_best_f1_everything_is_that_of_every_threshold_in_turn(seed: int) -> None:
    target, score, counts = _drawn(seed)
    known = ~np.isnan(target)
    confusion = called_at_max_f1(target, score, counts)
    for i, drawn in enumerate(counts):
        rows = np.repeat(np.flatnonzero(known), drawn[known])
        truth, values = target[rows], score[rows]
        f1 = {least: f1_score(truth, values >= least) for least in np.unique(values)}
        least = min(value for value, each in f1.items() if each == pytest.approx(max(f1.values()), abs=1e-12))
        assert confusion[i].tolist() == sklearn.metrics.confusion_matrix(truth, values >= least).tolist()
        for ours, theirs in PAIRS:
            assert ours(confusion)[i] == pytest.approx(theirs(truth, values >= least))
    f1 = {least: f1_score(target[known], score[known] >= least) for least in np.unique(score)}
    assert f1[best_threshold(target[known], score[known])] == pytest.approx(max(f1.values()))


def test_without_a_positive_there_is_no_threshold() -> None:
    assert np.isnan(accuracy(called_at_max_f1(np.zeros(3), np.arange(3.0)))).all()
    assert np.isnan(matthews(called_at_max_f1(np.array([1.0, 0]), np.arange(2.0), np.array([[0, 2]])))).all()
    for one_label in (np.zeros(3), np.ones(3), np.array([np.nan, 1, 1]), np.full(3, np.nan)):
        assert np.isnan(best_threshold(one_label, np.arange(3.0)))


@pytest.mark.parametrize("seed", range(5))
def test_yes_and_no_are_measured_as_scikit_learn_does(seed: int) -> None:
    target, score, counts = _drawn(seed)
    known = ~np.isnan(target)
    confusion = called(target, score > 0.4, counts)
    for i, drawn in enumerate(counts):
        rows = np.repeat(np.flatnonzero(known), drawn[known])
        for ours, theirs in PAIRS:
            assert ours(confusion)[i] == pytest.approx(theirs(target[rows], score[rows] > 0.4))


def test_one_positive_none_and_a_constant_call() -> None:
    one, none = np.array([1.0, 0, 0, np.nan]), np.array([0.0, 0, 0, np.nan])
    yes = np.array([True, False, True, True])
    assert balanced_accuracy(called(one, yes)) == 0.75 and matthews(called(one, yes)) == pytest.approx(0.5)
    for constant in (np.zeros(4), np.ones(4)):
        assert balanced_accuracy(called(one, constant)) == 0.5 and matthews(called(one, constant)) == 0
    assert matthews(called(one, ~yes)) == pytest.approx(-0.5)
    for metric in (balanced_accuracy, matthews):
        assert np.isnan(metric(called(none, yes))).all() and np.isnan(metric(called(1 - none, yes))).all()
    assert accuracy(called(none, yes)) == pytest.approx(1 / 3)
    assert np.isnan(accuracy(called(np.full(4, np.nan), yes))).all()


@pytest.mark.parametrize("seed", range(5))
def test_classes_that_exclude_each_other_are_measured_as_scikit_learn_does(seed: int) -> None:
    """The second class has no row; a resample can lack others, where the mean over classes is undefined."""
    generator = np.random.default_rng(seed)
    truth, score = generator.choice([0, 2, 3], 40), generator.normal(size=(40, 4))
    score[:, 0] += truth == 0
    counts = np.vstack([np.ones(40), generator.integers(0, 3, (3, 40)), np.where(truth == 3, 0, 1)])
    confusion = called_highest(np.eye(4)[truth], score, counts)
    for i, drawn in enumerate(counts.astype(int)):
        rows = np.repeat(np.arange(40), drawn)
        chosen = score[rows].argmax(1)
        assert accuracy(confusion)[i] == pytest.approx(accuracy_score(truth[rows], chosen))
        assert matthews(confusion)[i] == pytest.approx(matthews_corrcoef(truth[rows], chosen))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a class that is called and not there
            expected = balanced_accuracy_score(truth[rows], chosen) if i < 4 else np.nan
        assert balanced_accuracy(confusion)[i] == pytest.approx(expected, nan_ok=True)


def test_highest_scores_that_are_equal_share_the_call() -> None:
    """Against the mean over every way to break the ties, whose confusion matrices add up."""
    target, score = np.eye(3)[[0, 1, 2, 2]], np.array([[3.0, 1, 1], [3, 3, 1], [1, 2, 2], [5, 5, 5]])
    ways = [(0, b, c, d) for b in (0, 1) for c in (1, 2) for d in (0, 1, 2)]
    expected = np.mean([sklearn.metrics.confusion_matrix([0, 1, 2, 2], way) for way in ways], axis=0)
    np.testing.assert_allclose(called_highest(target, score), expected[None])
    assert balanced_accuracy(called_highest(target, score)) == pytest.approx((1 + 1 / 2 + (1 / 2 + 1 / 3) / 2) / 3)
    assert matthews(called_highest(target, np.zeros((4, 3)))) == 0


def test_the_best_threshold_may_call_a_single_row() -> None:
    target, score = np.array([1, 1, 0, 0, 0]), np.array([1, 5, 4, 3, 2])  # F1 2/3 from 5 on, 4/7 from 1 on
    assert accuracy(called_at_max_f1(target, score)) == pytest.approx([4 / 5])
    assert best_threshold(target, score) == 5


def test_a_sample_may_draw_one_positive_row_or_none() -> None:
    target, score = np.array([1, 1, 0]), np.array([3, 1, 2])
    found = accuracy(called_at_max_f1(target, score, np.array([[1, 0, 1], [0, 0, 1]])))
    assert found[0] == 1 and np.isnan(found[1])
    assert accuracy(called(np.array([1.0]), np.array([True]))) == 1
    assert accuracy(called(np.array([0.0]), np.array([False]))) == 1
