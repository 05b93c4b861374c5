"""Against loops over thresholds and rows, and scipy's interval."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from imitate.statistics.operating import (
    calls,
    net_benefit,
    net_benefit_of_all,
    npv_at,
    ppv_at,
    threshold,
    wilson,
)

GENERATOR = np.random.default_rng(0)
SCORE = GENERATOR.normal(size=60).round(1)  # with ties
TARGET = (GENERATOR.random(60) < 1 / (1 + np.exp(-2 * SCORE))).astype(float)
TARGET[::9] = np.nan
COUNTS = GENERATOR.multinomial(60, np.full(60, 1 / 60), 4)


def _rows(sample: np.ndarray) -> np.ndarray:
    rows = np.repeat(np.arange(60), sample)
    return rows[~np.isnan(TARGET[rows])]


def test_calls_are_a_confusion_matrix():
    found = calls(TARGET, SCORE, 0.3, COUNTS)
    for i, sample in enumerate(COUNTS):
        rows = _rows(sample)
        tn, fp, fn, tp = confusion_matrix(TARGET[rows], SCORE[rows] >= 0.3).ravel()
        assert [each[i] for each in found] == [tp, fp, fn, tn]
        rates = (found.sensitivity[i], found.specificity[i], found.ppv[i], found.npv[i], found.prevalence[i])
        assert rates == pytest.approx(
            (tp / (tp + fn), tn / (tn + fp), tp / (tp + fp), tn / (tn + fn), (tp + fn) / len(rows))
        )
    each = calls(TARGET, SCORE, np.array([0.3, -0.5, np.inf, 1.0]), COUNTS)
    assert each.true_positive[2] == 0 and each.true_positive[0] == found.true_positive[0]


@pytest.mark.parametrize(
    ("aim", "at"),
    [("sensitivity", 0.9), ("sensitivity", 1.0), ("specificity", 0.8), ("youden", 0), ("cost", 5), ("cost", 0.2)],
)
def test_thresholds_are_those_of_a_loop(aim, at):
    found = threshold(TARGET, SCORE, COUNTS, aim=aim, at=at)
    for sample, each in zip(COUNTS, found, strict=True):
        rows = _rows(sample)
        y, s = TARGET[rows], SCORE[rows]
        tried = [*sorted(set(SCORE[~np.isnan(TARGET)])), np.inf]
        merits = []
        for t in tried:
            hits, alarms = (s >= t)[y == 1].sum(), (s >= t)[y == 0].sum()
            se, sp = hits / (y == 1).sum(), 1 - alarms / (y == 0).sum()
            cost = at * ((y == 1).sum() - hits) + alarms
            merits.append({"sensitivity": se, "specificity": sp, "youden": se + sp, "cost": -cost}[aim])
        if aim == "sensitivity":
            expected = max(t for t, merit in zip(tried, merits, strict=True) if merit >= at - 1e-12)
        elif aim == "specificity":
            expected = min(t for t, merit in zip(tried, merits, strict=True) if merit >= at - 1e-12)
        else:
            expected = max(t for t, merit in zip(tried, merits, strict=True) if merit >= max(merits) - 1e-12)
        assert each == expected


def test_without_the_labels_that_an_aim_needs_there_is_no_threshold():
    ones, zeros, score = np.ones(3), np.zeros(3), np.array([0.1, 0.2, 0.3])
    assert np.isnan(threshold(zeros, score, aim="sensitivity", at=0.9)).all()
    assert np.isnan(threshold(ones, score, aim="specificity", at=0.9)).all()
    assert (
        np.isnan(threshold(ones, score, aim="youden")).all()
        and np.isnan(threshold(zeros, score, aim="cost", at=1)).all()
    )
    always = threshold(zeros, np.ones(3), aim="specificity", at=0.5)
    assert np.isinf(always).all(), "only calling nothing is specific enough"


def test_predictive_values_at_another_prevalence_are_bayes():
    found = calls(TARGET, SCORE, 0.0)
    own = found.prevalence[0]
    assert ppv_at(found.sensitivity, found.specificity, own) == pytest.approx(found.ppv)
    assert npv_at(found.sensitivity, found.specificity, own) == pytest.approx(found.npv)
    assert ppv_at(np.array([0.9]), np.array([0.8]), 0.01)[0] == pytest.approx(0.009 / (0.009 + 0.198))


@pytest.mark.parametrize(("hits", "of"), [(0, 10), (3, 10), (10, 10), (487, 1000)])
def test_wilsons_interval_is_scipys(hits, of):
    expected = binomtest(hits, of).proportion_ci(method="wilson")
    assert wilson(hits, of) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert wilson(0, 0) is None


def test_net_benefit_by_hand():
    target, probability = np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.2, 0.6, 0.1, 0.1])
    found = net_benefit(target, probability, np.array([0.15, 0.5]))
    assert found[0] == pytest.approx([2 / 5 - 1 / 5 * 0.15 / 0.85, 1 / 5 - 1 / 5])
    assert net_benefit_of_all(target, np.array([0.15]))[0] == pytest.approx(2 / 5 - 3 / 5 * 0.15 / 0.85)
