"""How well maps show the pixels that are marked, and the maps of those who have not seen the image."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

Maps = Float[np.ndarray, "maps size size"]
Masks = Bool[np.ndarray, "maps size size"]
METRICS = ("pointing", "pixel-auroc", "cnr", "cnr-absolute", "miou")
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


def scores(
    maps: Maps, masks: Masks, seen: Bool[np.ndarray, "size size"] | None = None
) -> dict[str, Float[np.ndarray, " maps"]]:
    """Each of METRICS, with A the marked pixels of a map M and B the others; docs/tasks.md. NaN where undefined.

    The peak of a map is among the pixels that its model has ``seen``; None: all.
    A map that is the same everywhere has the pointing game and mIoU |A| / |A + B|, AUROC 0.5 and CNR 0.
    """
    flat, inside = maps.reshape(len(maps), -1).astype(np.float64), masks.reshape(len(masks), -1)
    within = flat if seen is None else np.where(seen.ravel(), flat, -np.inf)
    highest = within == within.max(1, keepdims=True)
    contrast = _contrast(flat, inside)
    return {
        "pointing": (highest & inside).sum(1) / highest.sum(1),
        "pixel-auroc": _auroc(flat, inside),
        "cnr": contrast,
        "cnr-absolute": np.abs(contrast),
        "miou": _mean_iou(shown(flat), inside),
    }


def shown(maps: np.ndarray) -> np.ndarray:
    """From 0 to 1, as a heat-map is shown: negative values are 0, the highest is 1."""
    above = maps.clip(0)
    highest = above.reshape(len(maps), -1).max(1).reshape(-1, *[1] * (maps.ndim - 1))
    return np.divide(above, highest, out=np.zeros_like(above), where=highest > 0)


def centre(size: int) -> Float[np.ndarray, "size size"]:
    """1 in the middle of the square, 0 in its corners, falling evenly with the distance."""
    places = np.arange(size) + 0.5 - size / 2
    away = np.hypot(places[:, None], places)
    return 1 - away / (away.max() or 1)


class UsualPlaces:
    """Of each mark, the sum of the marks of the same label in other patients; where there is none, of any label."""

    def __init__(self, masks: Masks, labels: np.ndarray, patients: np.ndarray) -> None:
        self._masks, self._labels, self._patients = masks, labels, patients
        self._sums = {str(label): masks[labels == label].sum(0, dtype=np.float32) for label in np.unique(labels)}

    def __call__(self, mark: int) -> Float[np.ndarray, "size size"] | None:
        """None where no other patient has a mark."""
        own, same = (each == each[mark] for each in (self._patients, self._labels))
        if own.all():
            return None
        if (same & ~own).any():
            return self._sums[str(self._labels[mark])] - self._masks[same & own].sum(0, dtype=np.float32)
        return np.sum([*self._sums.values()], axis=0) - self._masks[own].sum(0, dtype=np.float32)


def _auroc(flat: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """P(a marked pixel is higher than another one) + P(they are equal) / 2."""
    count = inside.sum(1)
    wins = (rankdata(flat, axis=1) * inside).sum(1) - count * (count + 1) / 2
    return _ratio(wins, count * (inside.shape[1] - count))


def _contrast(flat: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(mean of A - mean of B) / sqrt(variance of A + variance of B)."""
    (one, spread), (other, rest) = (_moments(flat, part) for part in (inside, ~inside))
    found = _ratio(one - other, np.sqrt(spread + rest))
    return np.where(np.ptp(flat, axis=1) == 0, 0.0 * (one - other), found)


def _moments(flat: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = part.sum(1)
    mean = _ratio((flat * part).sum(1), count)
    return mean, _ratio(((flat - mean[:, None]) ** 2 * part).sum(1), count)


def _mean_iou(flat: np.ndarray, inside: np.ndarray) -> np.ndarray:
    above = [flat > threshold for threshold in THRESHOLDS]
    return np.mean([(each & inside).sum(1) / (each | inside).sum(1) for each in above], axis=0)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """NaN where the denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)
