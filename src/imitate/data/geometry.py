"""Where an original image went in its prepared square: for boxes, masks and heat-maps."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from imitate.data.prepared import Box


class Geometry(NamedTuple):
    """How an original image of ``width`` x ``height`` lies in its prepared square.

    Rectangles are left, top, right, bottom. ``crop``, in original pixels, is stretched over ``content``, in prepared
    pixels; outside ``content`` is padding.
    """

    width: int
    height: int
    size: int
    crop: tuple[int, int, int, int]
    content: tuple[int, int, int, int]

    def box(self, box: Box, frame: tuple[int, int] | None = None) -> Box | None:
        """``box`` in prepared pixels, clipped to the content; None where nothing is left of it.

        ``frame`` is the (width, height) that the box counts in, by default the original image's own.
        """
        wide, high = frame or (self.width, self.height)
        x, y, width, height = map(float, box[1:])
        left, right = self._along(0, self.width / wide, x, x + width)
        top, bottom = self._along(1, self.height / high, y, y + height)
        if not (right > left and bottom > top):
            return None
        return Box(box.label, left, top, right - left, bottom - top)

    def mask(self, mask: Bool[np.ndarray, "height width"]) -> UInt8[np.ndarray, "size size"]:
        """1 where at least half of a prepared pixel is covered; a mask that small keeps its best covered pixels."""
        assert mask.shape == (self.height, self.width), f"mask {mask.shape}, image {(self.height, self.width)}"
        left, top, right, bottom = self.content
        cover = np.zeros((self.size, self.size), np.float32)
        image = Image.fromarray(mask.astype(np.float32))
        image = image.resize((right - left, bottom - top), Image.Resampling.BOX, box=self.crop)
        cover[top:bottom, left:right] = np.asarray(image)
        most = cover.max()
        return ((cover >= min(0.5, most)) & (most > 0)).astype(np.uint8)

    def _along(self, axis: int, scale: float, *ends: float) -> list[float]:
        """Positions along an axis (0 across, 1 down), times ``scale`` in original pixels, in prepared ones."""
        start, stop = self.crop[axis], self.crop[axis + 2]
        low, high = self.content[axis], self.content[axis + 2]
        return [min(max(low + (end * scale - start) * (high - low) / (stop - start), low), high) for end in ends]
