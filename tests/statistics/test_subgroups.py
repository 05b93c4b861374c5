"""Metrics of groups, the balanced view, and the test against shuffled groups."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from imitate.statistics.subgroups import (
    Scored,
    _of_groups,
    balancing,
    few,
    measured,
    pairs,
    shuffled_gap,
    worst_and_best,
)


def scored(n: int, seed: int, *, weaker: np.ndarray | None = None) -> Scored:
    """``weaker`` rows have fainter findings."""
    random = np.random.default_rng(seed)
    target = (random.random(n) < 0.3).astype(float)
    strength = np.where(np.zeros(n, bool) if weaker is None else weaker, 0.5, 2.0)
    score = strength * target + random.normal(size=n)
    return Scored(target, score, score >= 0.8, 1 / (1 + np.exp(-score)))


def test_metrics_are_those_of_scikit_learn_and_of_counting() -> None:
    it = scored(300, 0)
    found = {name: float(value[0]) for name, value in measured(it).items()}

    positive, called = it.target > 0, it.called
    assert found["auroc"] == pytest.approx(roc_auc_score(it.target, it.score))
    assert found["brier"] == pytest.approx(brier_score_loss(it.target, it.probability))
    assert found["fnr"] == pytest.approx(1 - called[positive].mean())
    assert found["fpr"] == pytest.approx(called[~positive].mean())
    assert found["ppv"] == pytest.approx(it.target[called].mean())
    assert measured(Scored(it.target, None, it.called)).keys() == {"fnr", "fpr", "ppv"}
    assert measured(Scored(it.target, it.score)).keys() == {"auroc"}


def test_a_group_without_positives_is_undefined_rather_than_perfect() -> None:
    target, score = np.zeros(5), np.arange(5.0)
    found = measured(Scored(target, score, score > 2))

    assert np.isnan(found["auroc"][0]) and np.isnan(found["fnr"][0]) and found["fpr"][0] == pytest.approx(0.4)


def test_balanced_rates_are_directly_standardised() -> None:
    # group 0: 4 young with 1 missed, 1 old with 1 missed; group 1: 1 young with none missed, 4 old with all missed
    group = np.array([0] * 5 + [1] * 5)
    old = np.array([0, 0, 0, 0, 1, 0, 1, 1, 1, 1])
    missed = np.array([1, 0, 0, 0, 1, 0, 1, 1, 1, 1])
    it = Scored(np.ones(10), None, missed == 0)
    counts, left = balancing(np.ones((1, 10)), group, old, compared=[0, 1])

    rates = [float(measured(it.at(group == each), counts[:, group == each])["fnr"][0]) for each in (0, 1)]
    assert [float(measured(it.at(group == each))["fnr"][0]) for each in (0, 1)] == pytest.approx([0.4, 0.8])
    assert rates == pytest.approx([0.5 * 0.25 + 0.5 * 1, 0.5 * 0 + 0.5 * 1])  # half of the pool is young
    assert left == 1
    assert balancing(np.ones((1, 10)), group, np.array([0] * 5 + [1] * 5), compared=[0, 1])[1] == 0  # nothing shared


def test_the_variance_of_a_group_is_that_of_its_blocks() -> None:
    it = scored(4000, 1)
    group = np.arange(4000) % 2
    value, variance = _of_groups([it], "fnr", group[None], np.arange(4000))

    rate, number = value[0, 0], (it.target[group == 0] > 0).sum()
    assert variance[0, 0] == pytest.approx(rate * (1 - rate) / number, rel=0.02)
    areas = [_of_groups([scored(400, seed)], "auroc", np.zeros((1, 400), int), np.arange(400)) for seed in range(150)]
    values, variances = (np.array([float(each[i][0, 0]) for each in areas]) for i in (0, 1))
    assert variances.mean() == pytest.approx(values.var(ddof=1), rel=0.25)


@pytest.mark.parametrize("metric", ["auroc", "fnr", "fpr"])
def test_shuffled_groups_reject_a_true_null_as_often_as_they_should(metric: str) -> None:
    """Groups differ in size and prevalence, and patients have several images; the error is the same."""
    p = []
    for seed in range(200):
        random = np.random.default_rng([seed, 5])
        patients = np.repeat(np.arange(150), 2)
        group = (np.arange(300) // 2 % 4 == 0).astype(int)
        target = (random.random(300) < np.where(group, 0.5, 0.2)).astype(float)
        score = 1.2 * target + random.normal(size=300) + np.repeat(random.normal(size=150), 2)
        it = Scored(target, score, score > 0.6)
        p.append(shuffled_gap([it], metric, group, patients, shuffles=99, seed=seed).p)
    assert 2 <= (np.array(p) < 0.05).sum() <= 19  # 10 are expected


def test_a_planted_gap_is_found_and_a_shuffled_one_is_measured() -> None:
    group = np.arange(800) % 2
    it = scored(800, 3, weaker=group == 1)
    found = shuffled_gap([it], "fnr", group, np.arange(800))

    assert found.p < 1e-4 and 0.02 < found.gap < 0.12
    assert shuffled_gap([it], "fpr", group, np.arange(800)).p > 0.05


def test_words_and_counts_of_groups() -> None:
    assert worst_and_best({"F": 0.7, "M": 0.8}, "auroc") == ("F", "M")
    assert worst_and_best({"F": 0.3, "M": 0.2, "O": 0.1}, "fnr") == ("F", "O")
    assert [pairs(number) for number in (2, 3, 5)] == [1, 3, 10]
    target, patients = np.array([1, 1, 0, 0, np.nan]), np.array([0, 0, 1, 2, 3])
    assert [few(target, patients, metric) for metric in ("fnr", "fpr", "auroc")] == [1, 2, 1]
