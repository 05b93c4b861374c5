"""Against all pairs, written out, and simulation."""

import math

import numpy as np
import pytest

from imitate.statistics import delong, metrics


def _naive_delong(target: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """AUROC and variance of ``first``, variance of the difference: all pairs, covariances written out."""
    components = []
    for score in (first, second):
        positive, negative = score[target == 1], score[target == 0]
        wins = np.array([[float(p > n) + 0.5 * float(p == n) for n in negative] for p in positive])
        components.append((wins.mean(1), wins.mean(0)))
    covariance = sum(np.cov(*pair) / len(pair[0]) for pair in zip(*components, strict=True))
    (a, ab), (_, b) = covariance
    return float(components[0][0].mean()), float(a), float(a + b - 2 * ab)


@pytest.mark.parametrize("levels", [3, 1000])
def test_delong_equals_all_pairs(levels: int) -> None:
    generator = np.random.default_rng(levels)
    target = np.array([1, 1, 0, 0, *generator.integers(0, 2, 56)])
    first, second = (generator.integers(0, levels, 60) + target * levels // 3 for _ in range(2))
    auroc, variance, of_difference = _naive_delong(target, first, second)
    assert delong.delong_variance(target, first) == pytest.approx(variance)
    test = delong.delong_test(target, first, second)
    assert test.error == pytest.approx(math.sqrt(of_difference))
    assert test.difference == pytest.approx(auroc - metrics.auroc(target, second)[0])
    assert test.p == pytest.approx(math.erfc(abs(test.difference) / test.error / math.sqrt(2)))


def test_delong_of_identical_separable_and_undefined_scores() -> None:
    target = np.array([0, 1, 0, 1, 1])
    assert delong.delong_test(target, target, target).p == 1.0
    test = delong.delong_test(target, target, 1 - target)
    assert test[:2] == (1.0, 0.0) and math.isnan(test.p)  # a difference without any variance cannot be tested
    assert math.isnan(delong.delong_variance(np.array([0, 0, 1]), np.arange(3.0)))


def test_delong_counts_a_patient_once() -> None:
    generator = np.random.default_rng(4)
    target = generator.integers(0, 2, 80)
    score = target + generator.normal(size=80)
    single = delong.delong_variance(target, score)
    repeated = delong.delong_variance(np.repeat(target, 5), np.repeat(score, 5), np.repeat(np.arange(80), 5))
    assert repeated == pytest.approx(single, rel=0.05)
    assert delong.delong_variance(target, score, np.arange(80)) == pytest.approx(single)
    assert delong.delong_variance(np.repeat(target, 5), np.repeat(score, 5)) < 0.3 * single


def test_delong_p_is_uniform_under_the_null() -> None:
    generator = np.random.default_rng(5)
    p = []
    for _ in range(300):
        target = generator.integers(0, 2, 100)
        p.append(delong.delong_test(target, *(target + generator.normal(size=(2, 100)))).p)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)
