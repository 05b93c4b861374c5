"""ROC and precision-recall curves of a class; of cross-validation the mean of the folds' curves.

Scores of different folds come from different probes and are not on one scale. The folds' sensitivities at a
false-positive rate are averaged with their pairs of a positive and a negative image as weights, their precisions at a
recall with their positives: the areas are then the metrics as they are reported (``statistics.metrics.within``).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Num, Shaped
from sklearn.metrics import precision_recall_curve, roc_curve


class Scored(NamedTuple):
    """One run's test images of a class, none of unknown target."""

    target: Num[np.ndarray, " images"]
    score: Float[np.ndarray, " images"]
    fold: Shaped[np.ndarray, " images"] | None = None

    @property
    def comparable(self) -> bool:
        """Whether a probe scored images of both labels."""
        return any(0 < positive.sum() < len(positive) for positive, _ in _folds(self))


class Curve(NamedTuple):
    x: Float[np.ndarray, " points"]
    y: Float[np.ndarray, " points"]


def roc(run: Scored) -> Curve:
    """Sensitivity over the false-positive rate, from 0 to 1."""
    parts = [(positive, score) for positive, score in _folds(run) if 0 < positive.sum() < len(positive)]
    curves = [Curve(*roc_curve(*part)[:2]) for part in parts]
    if len(curves) == 1:
        return curves[0]
    weights = [positive.sum() * (~positive).sum() for positive, _ in parts]
    x = np.unique(np.concatenate([curve.x for curve in curves]))
    ends = np.average([[_at(curve, x, side) for side in (0, 1)] for curve in curves], axis=0, weights=weights)
    return Curve(np.repeat(x, 2), ends.T.ravel())  # before and after the jump that there may be at each x


def precision_recall(run: Scored) -> Curve:
    """Precision over the recall, in steps: the value of a point holds back to the point before."""
    parts = [(positive, score) for positive, score in _folds(run) if positive.any()]
    curves = []
    for part in parts:
        precision, recall, _ = precision_recall_curve(*part)
        precision[-1] = precision[-2]  # of no image called positive, which is no point of the curve
        curves.append(Curve(recall[::-1], precision[::-1]))
    if len(curves) == 1:
        return curves[0]
    x = np.unique(np.concatenate([curve.x for curve in curves]))
    each = [curve.y[np.searchsorted(curve.x, x)] for curve in curves]
    return Curve(x, np.average(each, axis=0, weights=[positive.sum() for positive, _ in parts]))


def positive_rate(run: Scored) -> float:
    """The precision of a constant score, averaged in the same way."""
    rates, weights = zip(*((positive.mean(), positive.sum()) for positive, _ in _folds(run)), strict=True)
    return float(np.average(rates, weights=weights))


def _folds(run: Scored) -> Iterator[tuple[Bool[np.ndarray, " images"], Float[np.ndarray, " images"]]]:
    fold = np.zeros(len(run.target)) if run.fold is None else run.fold
    for part in np.unique(fold):
        yield run.target[fold == part] > 0, run.score[fold == part]


def _at(curve: Curve, x: Float[np.ndarray, " points"], side: int) -> Float[np.ndarray, " points"]:
    """The sensitivity just before (0) or just after (1) a jump at ``x``; between points, on the line through them."""
    first, last = (np.searchsorted(curve.x, x, each) - (each == "right") for each in ("left", "right"))
    reached = curve.x[first] == x
    width = np.where(reached, 1, curve.x[first] - curve.x[last])
    between = curve.y[last] + (curve.y[first] - curve.y[last]) * (x - curve.x[last]) / width
    return np.where(reached, curve.y[(first, last)[side]], between)
