"""Where to divide scores into yes and no, and the accuracy there."""

import numpy as np

from imitate.statistics.metrics import Counts, Figure, Rows, _known, _retrieved


def accuracy_at_max_f1(target: Rows, score: Rows, counts: Counts | None = None) -> Figure:
    """The accuracy at the threshold of the best F1, found on the very rows that it is measured on: an oracle.

    Of thresholds with the same F1 the lowest counts. NaN without a positive row.
    """
    drawn, true, called = _retrieved(target, score, counts)
    if not drawn.shape[1]:
        return np.full(len(drawn), np.nan)
    actual = drawn.sum(1, keepdims=True)
    total = _known(target, score, counts)[2].sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(actual > 0, 2 * true / (called + actual), 0)
        chosen = np.where(f1 == f1.max(1, keepdims=True), called, -1).argmax(1)
        right = total - actual[:, 0] + (2 * true - called)[np.arange(len(chosen)), chosen]
        return np.where(actual[:, 0] > 0, right / total, np.nan)


def best_threshold(target: Rows, score: Rows) -> float:
    """The lowest score from which on "yes" has the best F1; infinity without a positive row."""
    drawn, true, called = _retrieved(target, score, None)
    if not drawn.shape[1]:
        return float("inf")
    f1 = (2 * true / (called + drawn.sum(1, keepdims=True)))[0]
    positives = np.asarray(score, dtype=np.float64)[np.flatnonzero(np.asarray(target) > 0)]
    return float(positives[f1 == f1.max()].min())


def accuracy_of(target: Rows, called: Rows, counts: Counts | None = None) -> Figure:
    """Of yes-or-no predictions."""
    target, called, counts = _known(target, called, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts.sum(1) > 0, counts @ ((target > 0) == (called > 0)) / counts.sum(1), np.nan)
