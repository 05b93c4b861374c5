"""How far apart the outlines of a predicted mask and of the truth are, in pixels.

A pixel of a mask is on its outline if one of its four neighbours is not of the mask; beyond the image there is none.
Distances are between centres of pixels, from each one of an outline to the nearest one of the other.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from scipy.ndimage import binary_erosion, distance_transform_edt

Mask = Bool[np.ndarray, "height width"]


class Outlines(NamedTuple):
    """NaN where the truth is empty.

    Where only the prediction is, the distance is the image's diagonal, which is above any other, and the fraction is 0.
    """

    hd95: float  # the larger of both directions' 95th percentiles of the distances
    surface_dice: float  # the fraction of both outlines that lies within a tolerance of the other one


def compared(predicted: Mask, actual: Mask, *, tolerance: float) -> Outlines:
    if not actual.any():
        return Outlines(np.nan, np.nan)
    if not predicted.any():
        return Outlines(float(np.hypot(*actual.shape)), 0.0)
    either = predicted | actual
    rows, columns = (np.flatnonzero(either.any(axis)) for axis in (1, 0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # nothing lies outside
    one, two = (mask[window] & ~binary_erosion(mask[window]) for mask in (predicted, actual))
    there, back = distance_transform_edt(~two)[one], distance_transform_edt(~one)[two]
    return Outlines(
        float(max(np.percentile(each, 95) for each in (there, back))),
        float((np.concatenate([there, back]) <= tolerance).mean()),
    )
