"""Boxes against boxes, one row an image: overlaps, matches, and the figures of any weighting of the images.

Detections stand in order of falling score, padded with score 0; objects are padded beyond their count.
"""

import numpy as np
from jaxtyping import Bool, Float, Integer

RECALLS = np.linspace(0, 1, 101)
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives an image at which FROC reads the sensitivity."""

Scores = Float[np.ndarray, "images detections"]
Counts = Integer[np.ndarray, " images"]


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
    weights: Counts,
    *,
    floor: float = 0.0,
) -> Float[np.ndarray, " thresholds"]:
    """COCO's 101-point average precision at each threshold, over the detections with ``score >= floor``.

    ``weights`` says how often an image counts. NaN without an object. Equal scores stand in the order of the images.
    """
    total = int((weights * counts).sum())
    if not total:
        return np.full(matched.shape[-1], np.nan)
    image, rank = np.nonzero((scores > 0) & (scores >= floor) & (weights > 0)[:, None])
    order = np.argsort(-scores[image, rank], kind="stable")
    image, rank = image[order], rank[order]
    if not len(image):
        return np.zeros(matched.shape[-1])
    hits = np.cumsum(matched[image, rank] * weights[image, None], axis=0)
    precision = hits / np.cumsum(weights[image])[:, None]
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    return np.array([_interpolate(hits[:, t] / total, envelope[:, t]) for t in range(hits.shape[1])])


def _interpolate(recall: Float[np.ndarray, " steps"], envelope: Float[np.ndarray, " steps"]) -> float:
    """Mean of the envelope at the recall grid, 0 beyond the largest recall."""
    first = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(envelope, 0.0)[first].mean())


def locate(
    boxes: Float[np.ndarray, "images detections 4"],
    scores: Scores,
    objects: Float[np.ndarray, "images objects 4"],
    masked: Bool[np.ndarray, "images detections"] | None = None,
) -> tuple[Float[np.ndarray, "images objects"], Bool[np.ndarray, "images detections"]]:
    """By the detections' centres: each object's best score (0: not found), and which detections are in no object.

    A centre is in an object inside its box and, where ``masked`` is told, on the mask.
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
    weights: Counts,
) -> Float[np.ndarray, " rates"]:
    """FROC: the share of objects found at the lowest score that keeps each of ``RATES`` false positives an image.

    A rate that is never reached gives the sensitivity of all detections. NaN without an object.
    """
    total = int((weights * counts).sum())
    if not total:
        return np.full(len(RATES), np.nan)
    image, rank = np.nonzero(false_alarm & (weights > 0)[:, None])
    order = np.argsort(-scores[image, rank], kind="stable")
    alarms = np.append(scores[image, rank][order], 0.0)
    above = np.searchsorted(np.cumsum(weights[image][order]), np.array(RATES) * weights.sum(), side="right")
    limits = alarms[above]  # the first score that is one false positive too many
    return np.array([float((weights[:, None] * (found > limit)).sum() / total) for limit in limits])
