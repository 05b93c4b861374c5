"""Against scikit-learn's calibrators, a search by hand, and scores whose miscalibration is known."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from imitate.statistics.calibration import intercept, slope
from imitate.statistics.recalibration import fitted, why_not

GENERATOR = np.random.default_rng(0)
TRUE = GENERATOR.normal(-1, 1.5, 4000)  # logits of the true probabilities
TARGET = (GENERATOR.random(4000) < expit(TRUE)).astype(float)
SCORE = 0.02 * TRUE + 0.05  # as small as differences of cosines are


class Given(ClassifierMixin, BaseEstimator):
    """Its scores are its inputs."""

    classes_ = np.array([0, 1])

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, inputs: np.ndarray, target: np.ndarray) -> "Given":
        return self

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        return inputs[:, 0] > 0

    def decision_function(self, inputs: np.ndarray) -> np.ndarray:
        return inputs[:, 0]


def test_platt_is_scikit_learns_sigmoid():
    rows = slice(0, 120)  # few, so that the smoothed targets count
    model = CalibratedClassifierCV(FrozenEstimator(Given()), method="sigmoid", ensemble=False, cv=2)
    expected = model.fit(TRUE[rows, None], TARGET[rows]).predict_proba(TRUE[rows, None])[:, 1]
    assert fitted(TARGET[rows], TRUE[rows], "platt")(TRUE[rows]) == pytest.approx(expected, abs=2e-4)


def test_a_temperature_has_the_highest_likelihood():
    def loss(scale: float) -> float:
        return float(np.logaddexp(0, scale * SCORE).sum() - (scale * SCORE * TARGET).sum())

    found = fitted(TARGET, SCORE, "temperature")
    assert found.slope == pytest.approx(minimize_scalar(loss, bounds=(0, 500), method="bounded").x, rel=1e-3)
    assert found.intercept == 0 and found(np.array([0.0])) == pytest.approx(0.5)


def test_known_miscalibration_is_undone():
    found = fitted(TARGET, SCORE, "platt")
    assert found.slope == pytest.approx(50, rel=0.1) and found.intercept == pytest.approx(-2.5, abs=0.2)
    said = found(SCORE)
    assert slope(TARGET, said)[0] == pytest.approx(1, abs=0.01)
    assert intercept(TARGET, said)[0] == pytest.approx(0, abs=0.01)
    steps = fitted(TARGET, SCORE, "isotonic")(SCORE)
    assert np.abs(steps - expit(TRUE)).mean() < 0.02 and (np.diff(steps[np.argsort(SCORE)]) >= 0).all()


def test_isotonic_pools_by_hand_and_is_never_certain():
    found = fitted(np.array([0, 1, 0, 1.0]), np.array([1, 2, 3, 4.0]), "isotonic")
    assert found(np.array([-9, 1, 2, 3, 4, 9.0])) == pytest.approx([1 / 6, 1 / 6, 0.5, 0.5, 5 / 6, 5 / 6])
    assert found(np.array([1.5])) == pytest.approx([1 / 3]), "a line in between"


def test_separated_scores_have_a_platt_map_but_no_temperature():
    target, score = np.repeat([0.0, 1.0], 20), np.concatenate([np.linspace(-2, -1, 20), np.linspace(1, 2, 20)])
    assert fitted(target, score, "temperature") is None
    assert 0.01 < fitted(target, score, "platt")(np.array([-1.0]))[0] < 0.15


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_scores_that_fall_with_the_label_are_not_turned_round(method):
    assert fitted(TARGET, -TRUE, method) is None


@pytest.mark.parametrize(
    ("positives", "negatives", "method", "why"),
    [
        (0, 50, "platt", "no validation image is positive"),
        (50, 0, "platt", "no validation image is negative"),
        (9, 50, "temperature", "9 positive validation patients, temperature needs at least 10"),
        (50, 1, "platt", "1 negative validation patient, platt needs at least 10"),
        (49, 60, "isotonic", "49 positive validation patients, isotonic needs at least 50; take platt"),
        (10, 10, "platt", ""),
        (50, 50, "isotonic", ""),
    ],
)
def test_too_few_of_a_kind(positives, negatives, method, why):
    target = np.repeat([1.0, 0.0], [positives, negatives])
    score, patients = np.arange(len(target), dtype=float), np.arange(len(target))
    assert why_not(target, score, patients, method) == why
    assert why_not(target, score, 0 * patients, method) != "", "images of one patient are one"


def test_constant_scores_and_no_labels():
    target, patients = np.repeat([1.0, 0.0], 20), np.arange(40)
    assert why_not(target, np.ones(40), patients, "platt") == "its scores are the same for every validation image"
    assert why_not(target[:0], np.ones(0), patients[:0], "platt") == "no validation image has a known label"


def test_a_map_of_isotonic_is_flat_beyond_its_ends():
    found = fitted(TARGET[:500], logit(expit(TRUE[:500])), "isotonic")
    assert found(np.array([-100.0, 100.0])) == pytest.approx([found.values[0], found.values[-1]])
