"""The AUROC's variance and paired test in closed form (DeLong et al., Biometrics 1988), in O(n log n)."""

import math
from typing import NamedTuple

import numpy as np


class Comparison(NamedTuple):
    difference: float  # first minus second
    error: float  # its standard error
    p: float  # two-sided; NaN where there is a difference without any variance


def delong_variance(target: np.ndarray, score: np.ndarray, patients: np.ndarray | None = None) -> float:
    """Variance of the AUROC; see ``delong_test``."""
    return _variance(target, *_placements(target, score), patients)


def delong_test(
    target: np.ndarray, first: np.ndarray, second: np.ndarray, *, patients: np.ndarray | None = None
) -> Comparison:
    """Paired test of two AUROCs on the same images.

    Scores are (rows,), or (runs, rows) for the mean AUROC of these very runs. ``patients`` makes each patient's images
    one cluster (Obuchowski, Biometrics 1997); with one image a patient, or without it, this is DeLong's test.
    """
    positive, negative = (a - b for a, b in zip(_placements(target, first), _placements(target, second), strict=True))
    difference = float(positive.mean())
    error = math.sqrt(_variance(target, positive, negative, patients))
    p = 1.0 if difference == 0 else math.erfc(abs(difference) / error / math.sqrt(2)) if error else math.nan
    return Comparison(difference, error, p)


def _placements(target: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive the fraction of negatives below it, for each negative that of positives above it; ties half."""
    each = []
    for score in np.atleast_2d(scores):
        positive, negative = score[target > 0], score[target <= 0]
        each.append((_fraction_below(positive, negative), _fraction_below(-negative, -positive)))
    above, below = (np.mean(part, axis=0) for part in zip(*each, strict=True))
    return above, below


def _fraction_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    ordered = np.sort(others)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / (2 * len(others))


def _variance(target: np.ndarray, positive: np.ndarray, negative: np.ndarray, patients: np.ndarray | None) -> float:
    """Sum over patients of their squared influence on the mean of the placements; NaN below two of either label."""
    if min(len(positive), len(negative)) < 2:
        return math.nan
    influence = np.zeros(len(target))
    for where, part in ((target > 0, positive), (target <= 0, negative)):
        influence[where] = (part - part.mean()) / math.sqrt(len(part) * (len(part) - 1))
    owner = np.arange(len(target)) if patients is None else np.unique(patients, return_inverse=True)[1]
    return float((np.bincount(owner, weights=influence) ** 2).sum())
