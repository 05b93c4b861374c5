"""Against the definition: every pixel of one outline with every pixel of the other."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from imitate.statistics.surfaces import compared


def _outline(mask: np.ndarray) -> np.ndarray:
    """One pixel at a time."""
    height, width = mask.shape
    found = []
    for y, x in np.argwhere(mask):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        if not all(0 <= v < height and 0 <= u < width and mask[v, u] for v, u in around):
            found.append((y, x))
    return np.array(found)


@pytest.mark.parametrize("seed", range(6))
def test_masks_of_any_shape_and_overlap(seed: int) -> None:
    """Some reach the border, some do not touch, some have holes and several parts."""
    generator = np.random.default_rng(seed)
    first, second = (
        np.kron(generator.random((5, 6)) < rate, np.ones((3, 2))).astype(bool) & (generator.random((15, 12)) < 0.95)
        for rate in (0.1 + 0.1 * seed, 0.3)
    )
    distances = cdist(_outline(first), _outline(second))
    there, back = distances.min(1), distances.min(0)
    found = compared(first, second, tolerance=1.5)
    assert found.hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    within = (there <= 1.5).sum() + (back <= 1.5).sum()
    assert found.surface_dice == pytest.approx(within / (len(there) + len(back)))
    assert compared(second, first, tolerance=1.5) == pytest.approx(found)


def test_closed_forms() -> None:
    one, moved, pixel, empty = (np.zeros((30, 40), bool) for _ in range(4))
    one[5:15, 5:15] = moved[8:18, 5:15] = pixel[0, 39] = True
    assert compared(one, one, tolerance=0) == (0, 1)
    shifted = compared(one, moved, tolerance=3)
    assert shifted == (3, 1) and compared(one, moved, tolerance=2.9).surface_dice < 1
    assert compared(pixel, one, tolerance=2).hd95 > np.hypot(5, 25)  # of the way to the nearest corner
    assert compared(pixel, pixel, tolerance=0) == (0, 1)
    assert compared(empty, one, tolerance=2) == (50, 0)  # the diagonal
    for predicted in (one, empty):
        assert np.isnan(compared(predicted, empty, tolerance=2)).all()
