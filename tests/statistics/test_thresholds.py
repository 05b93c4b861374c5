"""Against every threshold in turn, with ties, unknown labels and rows that count several times."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from imitate.statistics.thresholds import accuracy_at_max_f1, accuracy_of, best_threshold


def _drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    target = generator.integers(0, 2, 30).astype(float)
    target[generator.random(30) < 0.1] = np.nan
    return target, generator.integers(0, 8, 30) / 8, generator.integers(0, 3, (4, 30))


@pytest.mark.parametrize("seed", range(5))
def test_the_accuracy_at_the_best_f1_is_that_of_every_threshold_in_turn(seed: int) -> None:
    target, score, counts = _drawn(seed)
    known = ~np.isnan(target)
    for drawn, found in zip(counts, accuracy_at_max_f1(target, score, counts), strict=True):
        rows = np.repeat(np.flatnonzero(known), drawn[known])
        truth, values = target[rows], score[rows]
        f1 = {least: f1_score(truth, values >= least) for least in np.unique(values)}
        least = min(value for value, each in f1.items() if each == pytest.approx(max(f1.values()), abs=1e-12))
        assert found == pytest.approx(accuracy_score(truth, values >= least))
    f1 = {least: f1_score(target[known], score[known] >= least) for least in np.unique(score)}
    assert f1[best_threshold(target[known], score[known])] == pytest.approx(max(f1.values()))


def test_without_a_positive_there_is_no_threshold() -> None:
    assert np.isnan(accuracy_at_max_f1(np.zeros(3), np.arange(3.0))).all()
    assert best_threshold(np.zeros(3), np.arange(3.0)) == np.inf


def test_accuracy_of_yes_and_no_leaves_out_unknown_labels() -> None:
    called = np.array([True, False, True, False])
    assert accuracy_of(np.array([1, 1, np.nan, 0]), called) == pytest.approx([2 / 3])
    assert np.isnan(accuracy_of(np.full(4, np.nan), called)).all()


def test_the_best_threshold_may_call_a_single_row() -> None:
    target, score = np.array([1, 1, 0, 0, 0]), np.array([1, 5, 4, 3, 2])  # F1 2/3 from 5 on, 4/7 from 1 on
    assert accuracy_at_max_f1(target, score) == pytest.approx([4 / 5])
    assert best_threshold(target, score) == 5


def test_a_sample_may_draw_one_positive_row_or_none() -> None:
    target, score = np.array([1, 1, 0]), np.array([3, 1, 2])
    found = accuracy_at_max_f1(target, score, np.array([[1, 0, 1], [0, 0, 1]]))
    assert found[0] == 1 and np.isnan(found[1])
    assert accuracy_of(np.array([1.0]), np.array([True])) == accuracy_of(np.array([0.0]), np.array([False])) == 1
