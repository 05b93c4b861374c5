"""Against scikit-learn, closed forms and simulation."""

from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from imitate.statistics import metrics

PAIRS = [
    (metrics.auroc, sklearn.metrics.roc_auc_score),
    (metrics.average_precision, sklearn.metrics.average_precision_score),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 10**6))
def test_equals_scikit_learn_with_ties_and_weights(
    ours: Callable, theirs: Callable, n: int, levels: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    target = np.concatenate([[0, 1], generator.integers(0, 2, n)])
    score = generator.integers(0, levels, n + 2) / levels
    counts = generator.integers(0, 4, (3, n + 2))
    counts[:, :2] += 1
    expected = [theirs(target, score, sample_weight=weight) for weight in counts]
    np.testing.assert_allclose(ours(target, score, counts), expected, rtol=1e-12)
    np.testing.assert_allclose(ours(target, score), theirs(target, score), rtol=1e-12)


@pytest.mark.parametrize("ours", [metrics.auroc, metrics.average_precision, metrics.max_f1])
def test_counts_mean_repeated_rows(ours: Callable) -> None:
    generator = np.random.default_rng(0)
    target, score = generator.integers(0, 2, 50), generator.integers(0, 9, 50).astype(float)
    rows = generator.integers(0, 50, 50)
    drawn = ours(target, score, metrics.one_sample(rows, 50))
    np.testing.assert_allclose(drawn, ours(target[rows], score[rows]))


@pytest.mark.parametrize("ours", [metrics.auroc, metrics.average_precision, metrics.max_f1])
def test_perfect_constant_and_undefined(ours: Callable) -> None:
    target = np.array([0.0, 0, 0, 1])
    assert ours(target, target) == 1
    chance = {metrics.auroc: 0.5, metrics.average_precision: 0.25, metrics.max_f1: 0.4}
    assert ours(target, np.zeros(4)) == pytest.approx(chance[ours])
    assert np.isnan(ours(np.zeros(4), target))
    assert np.isnan(metrics.auroc(np.ones(4), target))
    assert np.isnan(ours(target, target, np.array([[1, 1, 1, 0]])))


def test_unknown_targets_take_no_part() -> None:
    target, score = np.array([0, np.nan, 1, 1]), np.array([0.2, 9, 0.1, 0.3])
    assert metrics.auroc(target, score) == 0.5
    assert metrics.f1(target, score > 0.15) == pytest.approx(0.5)


def test_max_f1_and_f1_equal_a_search_over_thresholds() -> None:
    generator = np.random.default_rng(1)
    target, score = generator.integers(0, 2, 60), generator.integers(0, 15, 60)
    each = [metrics.f1(target, score >= threshold)[0] for threshold in range(15)]
    assert each == pytest.approx([sklearn.metrics.f1_score(target, score >= threshold) for threshold in range(15)])
    assert metrics.max_f1(target, score) == pytest.approx(max(each))


def test_mean_is_weighted_and_skips_nan() -> None:
    values = np.array([1, 0, np.nan, 1])
    assert metrics.mean(values) == pytest.approx(2 / 3)
    assert metrics.mean(values, weights=np.array([1, 2, 5, 1])) == pytest.approx(0.5)
    np.testing.assert_allclose(metrics.mean(values, np.array([[2, 1, 7, 0], [0, 0, 1, 0]])), [2 / 3, np.nan])


def test_macro_leaves_out_a_class_with_one_label() -> None:
    target = np.array([[0, 0, 1], [1, 0, 0], [1, 0, 1.0]])
    score = np.array([[0, 0.3, 1], [1, 0.1, 2], [1, 0.2, 3.0]])
    measured = metrics.per_class("auroc", metrics.auroc, target, score, ["a", "b", "c"])
    assert list(measured) == ["auroc", "auroc/a", "auroc/b", "auroc/c"]
    assert np.isnan(measured["auroc/b"])
    assert measured["auroc"] == (measured["auroc/a"] + measured["auroc/c"]) / 2 == (1 + 0.5) / 2


def test_common_classes_have_both_labels_and_an_unknown_one_is_neither() -> None:
    nan = np.nan
    target = np.array([[1, 1, nan, 0, 1], [1, 0, 0, 1, 0], [0, 0, nan, nan, 1], [1, 0, 1, nan, 1.0]])
    assert metrics.common_classes(target).tolist() == [True] * 5
    assert metrics.common_classes(target, least=2).tolist() == [False] * 5
    alone = np.array([[1, 0, 1.0], [1, 0, nan]])
    assert metrics.common_classes(alone).tolist() == [False] * 3
    measured = metrics.per_class("ap", metrics.average_precision, alone, alone * 0, ["a", "b", "c"], np.ones((4, 2)))
    assert measured["ap"].shape == (4,) and np.isnan(measured["ap"]).all()


def test_a_rare_class_leaves_the_macro_average_but_not_the_table() -> None:
    target = np.array([[1, 1], [0, 1], [0, 0], [0, 0]], dtype=np.float32)
    score = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.2], [0.4, 0.1]], dtype=np.float32)
    measured = metrics.per_class("auroc", metrics.auroc, target, score, ["rare", "common"], least=2)
    assert measured["auroc"] == measured["auroc/common"] == 1 and measured["auroc/rare"] == 0
    resampled = metrics.per_class(
        "auroc", metrics.auroc, target, score, ["rare", "common"], np.array([[9, 1, 1, 1]]), least=2
    )
    assert resampled["auroc"] == 1  # repeats of one image do not make a class common


def test_accuracy_is_of_classes_that_exclude_one_another() -> None:
    target = np.eye(3)[[0, 1, 2, 2]]
    score = np.array([[3.0, 1, 1], [3, 1, 1], [1, 2, 2], [0, 0, 5]])
    assert metrics.exclusive(target)
    assert metrics.accuracy(target, score)[0] == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert metrics.accuracy(target, score, np.array([[0, 0, 2, 0]])).tolist() == [0.5]
    several, unknown = target.copy(), target.copy()
    several[0, 1], unknown[0, 1] = 1, np.nan
    for other in (several, unknown, 0 * target, target[:, :1], np.ones((3, 1))):
        assert not metrics.exclusive(other)
    assert metrics.exclusive(np.eye(2))


def test_hit_probability_equals_simulation_and_closed_form() -> None:
    generator = np.random.default_rng(2)
    for hits, pool, k in [(1, 10, 1), (1, 10, 10), (3, 20, 5), (7, 9, 5), (2, 5, 50)]:
        first = np.argsort(generator.random((20_000, pool)), axis=1)[:, :hits].min(1)
        found = metrics.hit_probability(np.array([hits]), np.array([pool]), k)
        assert found == pytest.approx((first < k).mean(), abs=0.015)
    single = metrics.hit_probability(np.ones(3), np.array([4, 10, 100]), np.array([1, 5, 10]))
    np.testing.assert_allclose(single, [0.25, 0.5, 0.1])
    assert metrics.hit_probability(np.array([2]), np.array([5]), 0) == 0
    np.testing.assert_allclose(metrics.hit_probability(np.array([0, 1]), np.array([3, 9]), 5), [0, 5 / 9])
    np.testing.assert_allclose(metrics.hit_probability(np.ones(2), np.full(2, 9), np.array([2, 5])), [2 / 9, 5 / 9])


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_within_parts_a_metric_is_the_weighted_mean_of_each_part_s(ours: Callable, theirs: Callable) -> None:
    generator = np.random.default_rng(3)
    parts, target = np.repeat([4, 7, 9], [20, 30, 10]), generator.integers(0, 2, 60)
    target[parts == 9] = 1  # a part without a negative image has no AUROC
    score = generator.integers(0, 6, 60) + 100.0 * parts  # no common scale
    found = []
    for counts in (np.ones(60), generator.integers(0, 3, 60)):
        values, weights = [], []
        for part in (4, 7, 9):
            rows = np.repeat(np.flatnonzero(parts == part), counts[parts == part].astype(int))
            positive, negative = (target[rows] == 1).sum(), (target[rows] == 0).sum()
            if ours is metrics.auroc and not negative:
                continue
            values.append(theirs(target[rows], score[rows]))
            weights.append(positive * negative if ours is metrics.auroc else positive)
        expected = np.average(values, weights=weights)
        found.append(metrics.within(ours, parts, target, score, counts[None])[0])
        assert found[-1] == pytest.approx(expected)
    assert metrics.within(ours, parts, target, score, None)[0] == found[0]
    assert np.isnan(metrics.within(ours, parts, 0 * target, score, None)[0])


def test_samples_never_average_over_other_classes() -> None:
    target = np.array([[0, 1], [1, 0], [1, 0], [0, 0.0]])
    score = np.array([[0.2, 0.9], [0.8, 0.3], [0.1, 0.4], [0.0, 0.1]])
    counts = np.array([[1, 1, 1, 1], [0, 2, 1, 1]])  # the second has lost the only positive of b
    measured = metrics.per_class("auroc", metrics.auroc, target, score, ["a", "b"], counts)
    assert measured["auroc"][0] == (measured["auroc/a"][0] + measured["auroc/b"][0]) / 2
    assert np.isnan(measured["auroc"][1]) and measured["auroc/a"][1] == 1


def test_support_counts_patients_of_each_kind() -> None:
    nan = np.nan
    target = np.array([[1, 0, 0], [1, 1, nan], [0, 1, nan], [nan, 0, 0]])
    patients = np.array(["p", "p", "q", "r"])
    found = metrics.class_support(["auroc", "ap"], target, patients, ["a", "b", "c"])
    assert found["auroc/a"] == (1, 1) and found["ap/b"] == (2, 2) and found["auroc/c"] == (0, 2)
    assert found["auroc"] == found["ap"] == (1, 1, 2, 2) and len(found) == 8  # c has no AUROC
    assert metrics.class_support(["auroc"], target, patients, ["a", "b", "c"], least=3)["auroc"] == (0, 0)
    assert metrics.image_support(np.array([True, True, False, True]), patients) == (2, 1)
