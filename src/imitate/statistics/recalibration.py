"""From scores to probabilities: what is fitted to the scores and labels of one class on validation images."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from imitate.names import CalibrationMethod
from imitate.statistics.calibration import logistic

LEAST = 10  # patients of either kind on validation, below which a class stays uncalibrated
LEAST_ISOTONIC = 50  # the same for isotonic, which has as many parameters as steps
FEW_ISOTONIC = 1000  # images, below which isotonic is warned of
Scores = Float[np.ndarray, " rows"]


class Map(NamedTuple):
    """p = 1 / (1 + exp(-(intercept + slope * score))), or lines between the ``values`` at ``scores``."""

    slope: float = 1.0
    intercept: float = 0.0
    scores: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def __call__(self, scores: Scores) -> Scores:
        given = np.asarray(scores, dtype=np.float64)
        if self.scores:
            return np.interp(given, self.scores, self.values)
        probabilities: Scores = expit(self.intercept + self.slope * given)
        return probabilities


def fitted(target: Scores, score: Scores, method: CalibrationMethod) -> Map | None:
    """None where there is no maximum, or it would turn the order of the scores round. Labels are known here.

    - ``temperature``: p = sigmoid(score / T), with the T of the highest likelihood.
    - ``platt``: p = sigmoid(a + b score), with targets (n+ + 1) / (n+ + 2) and 1 / (n- + 2) in place of 1 and 0, so
      that scores that separate the labels have a maximum, too (Platt, 1999; Lin, Lin and Weng, 2007).
    - ``isotonic``: the best non-decreasing function, from 1 / (n + 2) to 1 less that, so that nothing is certain.
    """
    target, score = np.asarray(target, np.float64), np.asarray(score, np.float64)
    if method == "isotonic":
        least = 1 / (len(target) + 2)
        model = IsotonicRegression(y_min=least, y_max=1 - least).fit(score, target)
        values = tuple(model.y_thresholds_.tolist())
        return Map(scores=tuple(model.X_thresholds_.tolist()), values=values) if values[0] < values[-1] else None
    scale = float(score.std()) or 1.0  # cosines are small: the maximum is searched on the scale of their spread
    once = np.ones((1, len(score)))
    if method == "temperature":
        slope = float(logistic((score / scale)[:, None], target, once)[0, 0]) / scale
        return Map(slope) if slope > 0 else None
    positives = target.sum()
    smoothed = np.where(target > 0, (positives + 1) / (positives + 2), 1 / (len(target) - positives + 2))
    middle = float(score.mean())
    inputs = np.stack([np.ones_like(score), (score - middle) / scale], axis=1)
    intercept, slope = logistic(inputs, smoothed, once)[0].tolist()
    return Map(slope / scale, intercept - slope * middle / scale) if slope > 0 else None


def why_not(target: Scores, score: Scores, patients: np.ndarray, method: CalibrationMethod) -> str:
    """Why a class of these known labels cannot be calibrated; "" where it can be."""
    if not len(target):
        return "no validation image has a known label"
    for kind, rows in (("positive", target > 0), ("negative", target <= 0)):
        number = len(np.unique(patients[rows]))
        least = LEAST_ISOTONIC if method == "isotonic" else LEAST
        if not number:
            return f"no validation image is {kind}"
        if number < least:
            noun = "patient" if number == 1 else "patients"
            other = "; take platt" if number >= LEAST else ""
            return f"{number} {kind} validation {noun}, {method} needs at least {least}{other}"
    if np.ptp(score) == 0:
        return "its scores are the same for every validation image"
    return ""
