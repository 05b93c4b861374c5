"""Metrics, each over many bootstrap samples at once.

``counts[s, i]`` says how often sample ``s`` draws row ``i``; without it there is one sample with every row once. A
metric is an array with one entry a sample, NaN where it is undefined. A row of unknown target (NaN) takes no part.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Num, Shaped

Rows = Shaped[np.ndarray, " rows"]
Counts = Num[np.ndarray, "samples rows"]
Metric = Float[np.ndarray, " samples"]


def auroc(target: Rows, score: Rows, counts: Counts | None = None) -> Metric:
    """P(score of a positive > score of a negative) + P(they are equal) / 2: the area under the ROC curve."""
    target, score, counts = _known(target, score, counts)
    positive, negative = np.flatnonzero(target > 0), np.flatnonzero(target <= 0)
    negative = negative[np.argsort(score[negative])]
    below = _cumulative(counts[:, negative])
    left, right = (np.searchsorted(score[negative], score[positive], side) for side in ("left", "right"))
    drawn = counts[:, positive]
    wins = (drawn * (below[:, left] + below[:, right])).sum(1) / 2
    return _ratio(wins, drawn.sum(1) * below[:, -1])


def average_precision(target: Rows, score: Rows, counts: Counts | None = None) -> Metric:
    """The precision at each positive's score, averaged over the positives: the area under the stepwise PR curve."""
    drawn, true, called = _retrieved(target, score, counts)
    return _ratio((drawn * np.nan_to_num(_ratio(true, called))).sum(1), drawn.sum(1))


def within(
    metric: Callable[..., Metric], parts: Shaped[np.ndarray, " rows"], target: Rows, score: Rows, counts: Counts | None
) -> Metric:
    """The mean of the AUROCs, or of the average precisions, of parts whose scores are not on one scale.

    Each counts by what it is a mean over: by its pairs of a positive and a negative, or by its positives.
    """
    target, score, counts = (
        np.asarray(target),
        np.asarray(score),
        one_sample(None, len(target)) if counts is None else counts,
    )
    total, weights = np.zeros(len(counts)), np.zeros(len(counts))
    for part in np.unique(parts):
        rows = np.flatnonzero(parts == part)
        drawn = counts[:, rows]
        weight = drawn @ (target[rows] > 0)
        if metric is auroc:
            weight = weight * (drawn @ (target[rows] <= 0))
        total += weight * np.nan_to_num(metric(target[rows], score[rows], drawn))
        weights += weight
    return _ratio(total, weights)


def max_f1(target: Rows, score: Rows, counts: Counts | None = None) -> Metric:
    """The best F1 of all thresholds, found on the very rows that it is measured on: an oracle, to be labelled so."""
    drawn, true, called = _retrieved(target, score, counts)
    actual = drawn.sum(1, keepdims=True)
    return np.where(actual[:, 0] > 0, _ratio(2 * true, called + actual).max(1, initial=0), np.nan)


def f1(target: Rows, predicted: Rows, counts: Counts | None = None) -> Metric:
    """2 TP / (2 TP + FP + FN) of yes-or-no predictions; NaN without a positive row."""
    target, predicted, counts = _known(target, predicted, counts)
    true, actual = counts @ ((target > 0) & (predicted > 0)), counts @ (target > 0)
    return np.where(actual > 0, _ratio(2 * true, actual + counts @ (predicted > 0)), np.nan)


def exclusive(target: Float[np.ndarray, "rows classes"]) -> bool:
    """Whether each row has exactly one of several classes, and no label is unknown."""
    return target.shape[1] > 1 and bool((target >= 0).all() and ((target > 0).sum(1) == 1).all())


def accuracy(
    target: Float[np.ndarray, "rows classes"], score: Float[np.ndarray, "rows classes"], counts: Counts | None = None
) -> Metric:
    """How often the highest score is that of the one class; several equal ones count by the fraction that is right."""
    highest = score == score.max(1, keepdims=True)
    return mean((highest & (target > 0)).sum(1) / highest.sum(1), counts)


def mean(values: Rows, counts: Counts | None = None, weights: Rows | None = None) -> Metric:
    """The mean of the values that are not NaN, e.g. accuracy from right-or-wrong; ``weights`` make rows count more."""
    weights = np.ones(len(values)) if weights is None else weights
    values, weights, counts = _known(values, weights, counts)
    return _ratio(counts @ (weights * values), counts @ weights)


def per_class(
    name: str,
    metric: Callable[..., Metric],
    target: np.ndarray,
    score: np.ndarray,
    classes: Sequence[str],
    counts: Counts | None = None,
    *,
    least: int = 1,
) -> dict[str, Metric]:
    """``name`` is the macro average, the mean over the classes where it is defined; ``name/class`` is each class's own.

    Which classes these are is decided by ``target``: those with at least ``least`` positive and as many negative rows.
    A sample that holds one of them with one label only has no macro average (NaN), lest samples average over different
    classes.
    """
    each = np.stack([metric(target[:, i], score[:, i], counts) for i in range(len(classes))])
    common = common_classes(target, least)
    macro = each[common].mean(0) if common.any() else np.full(each.shape[1], np.nan)
    return {name: macro, **{f"{name}/{label}": values for label, values in zip(classes, each, strict=True)}}


def common_classes(target: Float[np.ndarray, "rows classes"], least: int = 1) -> Bool[np.ndarray, " classes"]:
    """Those that a macro average averages over."""
    return np.minimum((target > 0).sum(0), (target == 0).sum(0)) >= least


def class_support(
    names: Sequence[str],
    target: Float[np.ndarray, "rows classes"],
    patients: Rows,
    classes: Sequence[str],
    *,
    least: int = 1,
) -> dict[str, tuple[int, ...]]:
    """How many patients have a positive and how many a negative image, for each class and for the macro averages.

    ``names`` are those of the metrics. A macro average rests on all of its classes.
    """
    known = [~np.isnan(column) for column in target.T]
    each = [image_support(column[some] > 0, patients[some]) for column, some in zip(target.T, known, strict=True)]
    common = [pair for pair, shared in zip(each, common_classes(target, least), strict=True) if shared]
    macro = tuple(number for pair in common for number in pair) or (0, 0)
    numbers = {"": macro, **{f"/{label}": pair for label, pair in zip(classes, each, strict=True)}}
    return {f"{name}{of}": pair for name in names for of, pair in numbers.items()}


def image_support(positive: Bool[np.ndarray, " rows"], patients: Rows) -> tuple[int, int]:
    """How many patients have an image of this kind, and how many one of the other."""
    return len(np.unique(patients[positive])), len(np.unique(patients[~positive]))


def one_sample(rows: np.ndarray | None, total: int) -> Float[np.ndarray, "1 rows"]:
    """The counts of a single sample: these row indices, repeats allowed; None takes every row once."""
    if rows is None:
        return np.ones((1, total))
    return np.bincount(rows, minlength=total).astype(np.float64)[None]


def hit_probability(hits: Rows, pool: Rows, k: Rows | int) -> Float[np.ndarray, " rows"]:
    """P(at least one of ``hits`` items stands among the first ``k`` of ``pool`` in random order).

    1 - C(pool - hits, k) / C(pool, k), as a product; it is the chance level of recall@k.
    """
    hits, pool, k = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (hits, pool, k)))
    miss = np.ones(hits.shape)
    for j in range(int(min(k.max(initial=0), pool.max(initial=0)))):
        within = (j < k) & (j < pool)
        miss = np.where(within, miss * (pool - hits - j).clip(0) / np.where(within, pool - j, 1), miss)
    return 1 - miss


def _known(target: Rows, other: Rows, counts: Counts | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    target, other = np.asarray(target, dtype=np.float64), np.asarray(other, dtype=np.float64)
    counts = np.ones((1, len(target))) if counts is None else np.asarray(counts, dtype=np.float64)
    known = ~np.isnan(target)
    if not known.all():
        target, other, counts = target[known], other[known], counts[:, known]
    assert not np.isnan(other).any(), "a score is NaN"
    return target, other, counts


def _retrieved(target: Rows, score: Rows, counts: Counts | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each positive: how often it is drawn; and of the rows that score no less, the true ones and all of them."""
    target, score, counts = _known(target, score, counts)
    order = np.argsort(-score)
    positive = np.flatnonzero(target > 0)
    end = np.searchsorted(-score[order], -score[positive], "right")
    true = _cumulative(counts[:, order] * (target[order] > 0))[:, end]
    return counts[:, positive], true, _cumulative(counts[:, order])[:, end]


def _cumulative(weights: np.ndarray) -> np.ndarray:
    """(samples, n) to (samples, n + 1): the sum of the first 0, 1, ..., n."""
    summed = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=summed[:, 1:])
    return summed


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """NaN where the denominator is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)
