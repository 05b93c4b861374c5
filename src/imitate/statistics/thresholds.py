"""Scores as decisions, and how right these are: where to divide yes from no, and the confusion matrix there.

A confusion matrix has a line for each true class and a column for each that it is called: no and yes, or classes that
exclude each other. It is NaN where there is nothing to divide.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from imitate.statistics.metrics import Counts, Metric, Rows, _known, _ratio, _retrieved, one_sample

Confusion = Float[np.ndarray, "samples true called"]


def called(target: Rows, yes: Rows, counts: Counts | None = None) -> Confusion:
    """Of yes-or-no predictions."""
    target, yes, counts = _known(target, yes, counts)
    actual, each = target > 0, yes > 0
    return _two_by_two(counts @ (actual & each), counts @ each, counts @ actual, counts.sum(1))


def called_at_max_f1(target: Rows, score: Rows, counts: Counts | None = None) -> Confusion:
    """At the threshold of the best F1, found on the very rows that it is measured on: an oracle.

    Of thresholds with the same F1 the lowest counts. NaN without a positive row.
    """
    drawn, true, above = _retrieved(target, score, counts)
    if not drawn.shape[1]:
        return np.full((len(drawn), 2, 2), np.nan)
    actual = drawn.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(actual > 0, 2 * true / (above + actual), 0)
    chosen = np.where(f1 == f1.max(1, keepdims=True), above, -1).argmax(1)
    at = np.arange(len(chosen)), chosen
    found = _two_by_two(true[at], above[at], actual[:, 0], _known(target, score, counts)[2].sum(1))
    return np.where(actual[:, :, None] > 0, found, np.nan)


def called_highest(
    target: Float[np.ndarray, "rows classes"], score: Float[np.ndarray, "rows classes"], counts: Counts | None = None
) -> Confusion:
    """Of exclusive classes, each row called that of its highest score; equal ones count in equal parts.

    Classes that no row is truly of have no line; their columns come last.
    """
    counts = one_sample(None, len(target)) if counts is None else counts
    present = (target > 0).any(0)
    order = np.argsort(~present, kind="stable")
    highest = score[:, order] == score.max(1, keepdims=True)
    weight = highest / highest.sum(1, keepdims=True)
    rows = [np.flatnonzero(column > 0) for column in target[:, present].T]
    return np.stack([counts[:, each] @ weight[each] for each in rows], axis=1)


def accuracy(confusion: Confusion) -> Metric:
    return _ratio(np.trace(confusion, axis1=1, axis2=2), confusion.sum((1, 2)))


def balanced_accuracy(confusion: Confusion) -> Metric:
    """The mean over the true classes of how many are called so; NaN where one of them is absent."""
    classes = np.arange(confusion.shape[1])
    return _ratio(confusion[:, classes, classes], confusion.sum(2)).mean(1)


def matthews(confusion: Confusion) -> Metric:
    """The correlation of truth and call (Matthews, 1975; of several classes Gorodkin, 2004), from -1 to 1.

    0 where everything is called the same, which its limit is; NaN where all is of one true class.
    """
    true, calls, total = confusion.sum(2), confusion.sum(1), confusion.sum((1, 2))
    right = np.trace(confusion, axis1=1, axis2=2)
    spread = total**2 - (true**2).sum(1), total**2 - (calls**2).sum(1)
    covariance = right * total - (true * calls[:, : true.shape[1]]).sum(1)
    found = _ratio(covariance, np.sqrt(spread[0].clip(0)) * np.sqrt(spread[1].clip(0)))
    return np.where((spread[0] > 0) & (spread[1] <= 0), 0.0, found.round(12) + 0.0)  # a constant call is 0, not nearly


def of(matrix: Callable[..., Confusion], measure: Callable[[Confusion], Metric]) -> Callable[..., Metric]:
    """A metric of target, predictions and counts."""
    return lambda target, given, counts=None: measure(matrix(target, given, counts))


def best_threshold(target: Rows, score: Rows) -> float:
    """The lowest score from which on "yes" has the best F1; NaN where the rows have one label only, or none."""
    drawn, true, above = _retrieved(target, score, None)
    if not drawn.shape[1] or not (np.asarray(target) <= 0).any():
        return float("nan")
    f1 = (2 * true / (above + drawn.sum(1, keepdims=True)))[0]
    positives = np.asarray(score, dtype=np.float64)[np.flatnonzero(np.asarray(target) > 0)]
    return float(positives[f1 == f1.max()].min())


def _two_by_two(hits: np.ndarray, yes: np.ndarray, actual: np.ndarray, total: np.ndarray) -> Confusion:
    """From how many are rightly called yes, called yes, truly yes, and all."""
    return np.stack([total - actual - yes + hits, yes - hits, actual - hits, hits], axis=1).reshape(-1, 2, 2)
