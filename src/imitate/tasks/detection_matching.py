"""Boxes against boxes, one row an image: overlaps, matches, and the metrics of many bootstrap samples of the images.

Detections stand in order of falling score, padded with score 0; objects are padded beyond their count.
``weights[s, i]`` says how often sample s draws image i.
"""

import numpy as np
from jaxtyping import Bool, Float, Integer, Num

RECALLS = np.linspace(0, 1, 101)
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives an image at which FROC reads the sensitivity."""

Scores = Float[np.ndarray, "images detections"]
Counts = Integer[np.ndarray, " images"]
Weights = Num[np.ndarray, "samples images"]


def overlaps(
    boxes: Float[np.ndarray, "images detections 4"], objects: Float[np.ndarray, "images objects 4"]
) -> Float[np.ndarray, "images detections objects"]:
    """Intersection over union of corner boxes; 0 with a box without area."""
    left, right = boxes[:, :, None].astype(np.float64), objects[:, None].astype(np.float64)
    sides = np.minimum(left[..., 2:], right[..., 2:]) - np.maximum(left[..., :2], right[..., :2])
    shared = np.maximum(sides, 0).prod(axis=-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (left, right)]
    return shared / np.maximum(areas[0] + areas[1] - shared, np.finfo(np.float64).tiny)


def match(
    iou: Float[np.ndarray, "images detections objects"],
    scores: Scores,
    counts: Counts,
    thresholds: Float[np.ndarray, " thresholds"],
) -> Bool[np.ndarray, "images detections thresholds"]:
    """COCO's greedy matching: each detection in turn takes the free object of the largest IoU that reaches."""
    images, detections, objects = iou.shape
    free = np.repeat((np.arange(objects) < counts[:, None])[:, None], len(thresholds), axis=1)
    matched = np.zeros((images, detections, len(thresholds)), dtype=bool)
    reach = np.minimum(thresholds, 1 - 1e-10)
    for k in range(detections):
        candidates = np.where(free, iou[:, k, None], -1.0)
        best = candidates.argmax(axis=-1)[..., None]
        reached = np.take_along_axis(candidates, best, axis=-1)[..., 0] >= reach
        matched[:, k] = reached & (scores[:, k] > 0)[:, None]
        kept = np.take_along_axis(free, best, axis=-1) & ~matched[:, k, :, None]
        np.put_along_axis(free, best, kept, axis=-1)
    return matched


def average_precision(
    matched: Bool[np.ndarray, "images detections thresholds"],
    scores: Scores,
    counts: Counts,
    weights: Weights,
    *,
    floor: float = 0.0,
) -> Float[np.ndarray, "samples thresholds"]:
    """COCO's 101-point average precision at each threshold, over the detections with ``score >= floor``.

    NaN without an object. Equal scores stand in the order of the images.
    """
    totals = weights @ counts
    image, rank = _falling((scores > 0) & (scores >= floor), scores)
    hits = [np.flatnonzero(each) for each in matched[image, rank].T]
    values = np.full((len(weights), matched.shape[-1]), np.nan)
    for sample in np.flatnonzero(totals):
        drawn = weights[sample, image]
        ranked = np.cumsum(drawn)
        for threshold, hit in enumerate(hits):
            true = np.cumsum(drawn[hit])
            values[sample, threshold] = _interpolate(true / totals[sample], true / np.maximum(ranked[hit], 1))
    return values


def _falling(chosen: Bool[np.ndarray, "images detections"], scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Image and rank of the chosen detections of all images, by falling score."""
    image, rank = np.nonzero(chosen)
    order = np.argsort(-scores[image, rank], kind="stable")
    return image[order], rank[order]


def _interpolate(recall: Float[np.ndarray, " hits"], precision: Float[np.ndarray, " hits"]) -> float:
    """Mean of the envelope at the recall grid, 0 beyond the largest recall. Between hits precision only falls."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(envelope, 0.0)[first].mean())


def locate(
    boxes: Float[np.ndarray, "images detections 4"],
    scores: Scores,
    objects: Float[np.ndarray, "images objects 4"],
    masked: Bool[np.ndarray, "images detections"] | None = None,
) -> tuple[Float[np.ndarray, "images objects"], Bool[np.ndarray, "images detections"]]:
    """By the detections' centres: each object's best score (0: not found), and which detections are in no object.

    A centre is in an object inside its box and, where ``masked`` is given, on the mask.
    """
    centre = centres(boxes)[:, :, None]
    inside = ((centre >= objects[:, None, :, :2]) & (centre < objects[:, None, :, 2:])).all(axis=-1)
    if masked is not None:
        inside &= masked[..., None]
    found = np.where(inside, scores[..., None], 0).max(axis=1, initial=0)
    return found, ~inside.any(axis=-1) & (scores > 0)


def centres(boxes: Float[np.ndarray, "images detections 4"]) -> Float[np.ndarray, "images detections 2"]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def sensitivities(
    found: Float[np.ndarray, "images objects"],
    false_alarm: Bool[np.ndarray, "images detections"],
    scores: Scores,
    counts: Counts,
    weights: Weights,
) -> Float[np.ndarray, "samples rates"]:
    """FROC: the fraction of objects found at the lowest score that keeps each of ``RATES`` false positives an image.

    A rate that is never reached gives the sensitivity of all detections. NaN without an object.
    """
    totals = weights @ counts
    image, rank = _falling(false_alarm, scores)
    alarms = np.append(scores[image, rank], 0.0)
    owner, place = _falling(found > 0, found)
    best = -found[owner, place]
    values = np.full((len(weights), len(RATES)), np.nan)
    for sample in np.flatnonzero(totals):
        allowed = np.array(RATES) * weights[sample].sum()
        limits = alarms[np.searchsorted(np.cumsum(weights[sample, image]), allowed, side="right")]
        hits = np.append(0, np.cumsum(weights[sample, owner]))[np.searchsorted(best, -limits, side="left")]
        values[sample] = hits / totals[sample]  # at a score above the first false positive too many
    return values
