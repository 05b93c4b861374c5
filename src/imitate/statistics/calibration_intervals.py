r"""Intervals of calibration errors, which are never negative and which noise makes larger.

A bootstrap sample adds noise to noise, so that the error of most samples lies above that of the data, and this above
the true one: percentiles of the samples can miss the truth always. Instead, a test is inverted. The residuals y - p,
summed over bins or smoothed, are a field R of which the error is a norm; a bootstrap sample has the field R + N, with
the noise N. Were the true field :math:`\lambda R`, the error would be distributed like :math:`\|\lambda R + N\|`. The
interval holds :math:`\|\lambda R\|` for every :math:`\lambda` for which the error that was found lies within the
central 95% of this: from 0, where noise alone gives as large an error.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.fft import dct

from imitate.statistics.calibration import BINS, CELLS, fixed_point
from imitate.statistics.metrics import Counts, Rows
from imitate.statistics.resampling import Resample

STEPS = np.array([0.01, 0.02, 0.04, 0.07, 0.11, 0.16, 0.24, 0.35, 0.5, 0.75, 1])
SCALES = np.concatenate([1 - STEPS[::-1], [1.0], 1 + STEPS])  # dense at 1: of many rows, little noise is to be resolved
ERRORS = ("smooth-ece", "ece", "reliability")
Field = Float[np.ndarray, "samples cells"]
Once = Float[np.ndarray, "1 cells"]


class Inverted(NamedTuple):
    """Of an error: at each of SCALES the true value, and what would be found in each sample; and what was found."""

    true: Float[np.ndarray, " scales"]
    found: Float[np.ndarray, "scales samples"]
    value: float


def fields(target: Rows, probability: Rows) -> Resample:
    """For ``bootstrap``: the residuals per row over bins and over the cells of ``smooth_ece``, of known labels."""
    target, probability = np.asarray(target, np.float64), np.asarray(probability, np.float64)
    known = ~np.isnan(target)
    residual = (target - probability)[known]
    places = {"bins": (BINS, probability[known]), "cells": (CELLS, probability[known])}

    def sums(counts: Counts) -> dict[str, np.ndarray]:
        drawn = counts[:, known].astype(np.float64)
        total = np.maximum(drawn.sum(1, keepdims=True), 1)
        found = {}
        for name, (number, at) in places.items():
            summed = np.zeros((len(drawn), number))
            place = np.minimum((at * number).astype(int), number - 1)
            for cell in np.unique(place):
                rows = place == cell
                summed[:, cell] = drawn[:, rows] @ residual[rows]
            found[name] = summed / total
        return found

    return sums


def inverted(
    target: Rows, probability: Rows, drawn: dict[str, Float[np.ndarray, "samples cells"]]
) -> dict[str, Inverted]:
    """Of each of ERRORS, from the ``fields`` of bootstrap samples."""
    once = fields(target, probability)(np.ones((1, len(target))))
    known = ~np.isnan(target)
    weight = np.bincount(np.minimum((probability[known] * BINS).astype(int), BINS - 1), minlength=BINS) / known.sum()
    filled = weight > 0

    def squared(field: Field) -> Float[np.ndarray, " samples"]:
        return (field[:, filled] ** 2 / weight[filled]).sum(1)

    def absolute(field: Field) -> Float[np.ndarray, " samples"]:
        return np.abs(field).sum(1)

    bins, noise = once["bins"], drawn["bins"] - once["bins"]
    waves = {name: dct(field, norm="ortho") for name, field in (("once", once["cells"]), ("drawn", drawn["cells"]))}
    return {
        "smooth-ece": _at_scales(fixed_point, waves["once"], waves["drawn"] - waves["once"]),
        "ece": _at_scales(absolute, bins, noise),
        "reliability": _at_scales(squared, bins, noise, shape=_without_noise(squared, bins, noise)),
    }


def _at_scales(
    norm: Callable[[Field], Float[np.ndarray, " samples"]], field: Once, noise: Field, *, shape: Once | None = None
) -> Inverted:
    shape = field if shape is None else shape
    true = np.array([float(norm(scale * shape)[0]) for scale in SCALES])
    found = np.stack([norm(scale * shape + noise) for scale in SCALES])
    return Inverted(true, found, float(norm(field)[0]))


def _without_noise(norm: Callable[[Field], Float[np.ndarray, " samples"]], field: Once, noise: Field) -> Once:
    """Bins that noise explains count less: squares would let them decide."""
    variance = noise.var(axis=0, ddof=1, keepdims=True)
    shape = field * np.maximum(0, 1 - variance / np.maximum(field**2, 1e-30))
    length = float(norm(shape)[0])
    return shape * (float(norm(field)[0]) / length) ** 0.5 if length > 0 else field


def mean_of(each: Sequence[Inverted]) -> Inverted:
    """Of the mean error over classes, or over runs."""
    true, found = (np.mean(parts, axis=0) for parts in ([one.true for one in each], [one.found for one in each]))
    return Inverted(true, found, float(np.mean([one.value for one in each])))


def error_interval(found: Inverted, level: float = 0.95) -> tuple[float, float]:
    above = np.maximum.accumulate((found.found >= found.value).mean(1))
    outside = (1 - level) / 2
    low = float(np.interp(outside, above, found.true)) if above[0] < outside else 0.0
    return low, float(np.interp(1 - outside, above, found.true))
