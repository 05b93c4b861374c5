"""Against scikit-learn, closed forms and plain integrals."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from imitate.statistics import calibration
from imitate.statistics.calibration import MEASURES, binned, ece, intercept, murphy, slope, smooth_ece

GENERATOR = np.random.default_rng(0)
PROBABILITY = expit(GENERATOR.normal(-1, 1.5, 400))
TARGET = (GENERATOR.random(400) < expit(0.4 + 0.6 * logit(PROBABILITY))).astype(float)


def test_brier_and_log_loss_are_scikit_learns():
    assert calibration.brier(TARGET, PROBABILITY)[0] == pytest.approx(brier_score_loss(TARGET, PROBABILITY))
    assert calibration.log_loss(TARGET, PROBABILITY)[0] == pytest.approx(sklearn_log_loss(TARGET, PROBABILITY))
    q = TARGET.mean()
    assert calibration.brier_skill(TARGET, np.full(400, q))[0] == pytest.approx(0, abs=1e-12)
    assert calibration.observed_to_expected(TARGET, PROBABILITY)[0] == pytest.approx(TARGET.sum() / PROBABILITY.sum())


def test_ece_is_a_loop_over_bins():
    expected = 0.0
    for b in range(10):
        rows = [i for i in range(400) if b / 10 <= PROBABILITY[i] < (b + 1) / 10 or (b == 9 and PROBABILITY[i] == 1)]
        if rows:
            expected += len(rows) / 400 * abs(TARGET[rows].mean() - PROBABILITY[rows].mean())
    assert ece(TARGET, PROBABILITY, bins=10)[0] == pytest.approx(expected)
    assert binned(np.array([1.0]), np.array([1.0]), bins=10).rows[0].tolist() == [0] * 9 + [1]


def test_murphys_parts_add_up_where_bins_hold_one_probability_each():
    probability = np.round(PROBABILITY * 10).clip(0, 9) / 10 + 0.05
    reliability, resolution, uncertainty = murphy(TARGET, probability, bins=10)
    assert reliability - resolution + uncertainty == pytest.approx(calibration.brier(TARGET, probability))


def _by_integral(target: np.ndarray, probability: np.ndarray) -> float:
    """Of the definition: a sum of Gaussians and their mirror images on a fine grid, and a search for s."""
    axis = (np.arange(4000) + 0.5) / 4000

    def error(s: float) -> float:
        total = np.zeros_like(axis)
        for y, p in zip(target, probability, strict=True):
            for image in [p + 2 * k for k in range(-3, 4)] + [-p + 2 * k for k in range(-3, 4)]:
                total += (y - p) * np.exp(-((axis - image) ** 2) / (2 * s * s)) / (s * np.sqrt(2 * np.pi))
        return float(np.abs(total / len(target)).mean())

    low, high = 1e-3, 1.0
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if error(middle) > middle else (low, middle)
    return high


def test_the_smooth_error_is_its_integral():
    for rows in (slice(0, 60), slice(60, 90)):
        found = smooth_ece(TARGET[rows], PROBABILITY[rows])[0]
        assert found == pytest.approx(_by_integral(TARGET[rows], PROBABILITY[rows]), abs=2e-3)
    constant = np.full(1000, 0.3)
    always = np.repeat([1.0, 0.0], [700, 300])  # .4 off everywhere: smoothing cannot lower it
    assert smooth_ece(always, constant)[0] == pytest.approx(0.4, abs=1e-3)
    perfect = np.repeat([1.0, 0.0], [300, 700])
    assert smooth_ece(perfect, constant)[0] < 2e-3


@pytest.mark.parametrize(
    ("number", "slope", "shift", "expected"),
    [(300, 2.0, 0.3, 0.09998), (1000, 1.0, 1.0, 0.14139), (2000, 1.0, 0.0, 0.01947)],
)
def test_the_smooth_error_is_that_of_relplot(number, slope, shift, expected):
    """What relplot 1.0.3, of the authors of the error, gives for these rows; its grid is coarser than ours."""
    generator = np.random.default_rng(number)
    x = generator.normal(-1.5, 1.5, number)
    target = (generator.random(number) < expit(x)).astype(float)
    assert smooth_ece(target, expit(shift + slope * x))[0] == pytest.approx(expected, rel=0.02)


def test_slope_and_intercept_are_those_of_an_unpenalised_regression():
    model = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(PROBABILITY)[:, None], TARGET)
    assert slope(TARGET, PROBABILITY)[0] == pytest.approx(model.coef_[0, 0], rel=1e-5)
    assert (expit(intercept(TARGET, PROBABILITY)[0] + logit(PROBABILITY)) - TARGET).sum() == pytest.approx(0, abs=1e-6)
    assert slope(TARGET, PROBABILITY)[0] == pytest.approx(0.6, abs=0.25)


def test_a_slope_that_does_not_exist_is_nan():
    separated = np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.0, 0.0, 1.0, 1.0])
    assert np.isnan(slope(separated[1], separated[0])).all()
    assert np.isnan(slope(np.ones(4), separated[0])).all() and np.isnan(intercept(np.ones(4), separated[0])).all()
    constant, mixed = np.full(40, 0.3), np.arange(40.0) % 2
    assert np.isnan(slope(mixed, constant)).all() and np.isfinite(intercept(mixed, constant)).all()
    extremes = np.repeat([0.0, 1.0], 20)  # in a sample that draws one of them only, nothing but a constant is left
    one = np.repeat([[1, 0]], 20, axis=1)
    assert np.isnan(slope(mixed, extremes, one)).all()
    certain = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    assert np.isfinite(slope(certain[1], certain[0])).all() and np.isfinite(calibration.log_loss(*certain[::-1])).all()


@pytest.mark.parametrize("name", MEASURES)
def test_samples_are_measured_as_their_rows_and_unknown_labels_take_no_part(name):
    target = TARGET[:80].copy()
    target[::7] = np.nan
    counts = np.random.default_rng(1).multinomial(80, np.full(80, 1 / 80), 3)
    found = MEASURES[name](target, PROBABILITY[:80], counts)
    for sample, value in zip(counts, found, strict=True):
        rows = np.repeat(np.arange(80), sample)
        rows = rows[~np.isnan(target[rows])]
        assert MEASURES[name](target[rows], PROBABILITY[rows])[0] == pytest.approx(value, rel=1e-6)
    assert np.isnan(MEASURES[name](np.full(3, np.nan), PROBABILITY[:3])).all()
