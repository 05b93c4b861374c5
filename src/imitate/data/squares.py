"""The ways in which other groups bring a radiograph into a square, on 8 bits and without trimming black borders.

Pixel for pixel what they compute: torchvision's ``Resize`` and ``CenterCrop`` of a picture, OpenCV's area averages,
Pillow's filters. The geometry is that of the square to a pixel of the original.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from imitate.data.dicom import ImageError

Square = UInt8[np.ndarray, "size size"]
Rectangle = tuple[int, int, int, int]
Placed = tuple[Square, Rectangle, Rectangle]
"""The square; the part of the original that it shows; where in the square that lies."""
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def to_square(gray: UInt8[np.ndarray, "height width"], size: int, rule: str) -> Placed:
    """By one of ``names.Resize`` that has a filter in its name."""
    how, _, filter_ = rule.partition("-")
    return WAYS[how](gray, size, filter_)


def to_bytes(gray: np.ndarray, *, full: bool) -> UInt8[np.ndarray, "height width"]:
    """Gray values of 8 bits as they are; others, and with ``full`` all of them, from the darkest to the lightest."""
    low, high = float(gray.min()), float(gray.max())
    if not high > low:
        raise ImageError("constant image")
    if gray.dtype == np.uint8 and (not full or (low, high) == (0, 255)):
        return gray
    return ((gray.astype(np.float64) - low) * (255 / (high - low))).round().astype(np.uint8)


def _stretch(gray: np.ndarray, size: int, filter_: str) -> Placed:
    square = _resized(gray, size, size, filter_)
    return square, (0, 0, gray.shape[1], gray.shape[0]), (0, 0, size, size)


def _crop(gray: np.ndarray, size: int, filter_: str) -> Placed:
    """The shorter side to ``size``, then the middle."""
    height, width = gray.shape
    shorter = min(height, width)
    wide, high = size * width // shorter, size * height // shorter
    left, top = round((wide - size) / 2), round((high - size) / 2)
    square = _resized(gray, wide, high, filter_)[top : top + size, left : left + size]
    scale = shorter / size
    seen = tuple(round(edge * scale) for edge in (left, top, left + size, top + size))
    return square, (seen[0], seen[1], min(seen[2], width), min(seen[3], height)), (0, 0, size, size)


def _pad(gray: np.ndarray, size: int, filter_: str) -> Placed:
    """The longer side to ``size``, in the middle of black; what is odd goes to the right and to the bottom."""
    height, width = gray.shape
    ratio = size / max(height, width)
    wide, high = (max(1, int(side * ratio)) for side in (width, height))  # as they round, to 319 at times
    if filter_ == "area":
        wide, high = (size, high) if width > height else (wide, size)
    small = area_average(gray, wide, high) if filter_ == "area" else _resized(gray, wide, high, filter_)
    left, top = (size - wide) // 2, (size - high) // 2
    square = np.zeros((size, size), np.uint8)
    square[top : top + high, left : left + wide] = small
    return square, (0, 0, width, height), (left, top, left + wide, top + high)


def _frame(gray: np.ndarray, size: int, filter_: str) -> Placed:
    """Black around the image to a square of at least ``size``, then to ``size``."""
    height, width = gray.shape
    side = max(size, height, width)
    left, top = (side - width) // 2, (side - height) // 2
    whole = np.zeros((side, side), np.uint8)
    whole[top : top + height, left : left + width] = gray
    content = [round(edge * size / side) for edge in (left, top, left + width, top + height)]
    return _resized(whole, size, size, filter_), (0, 0, width, height), (content[0], content[1], content[2], content[3])


def _middle(gray: np.ndarray, size: int, filter_: str) -> Placed:
    """The square in the middle of the image, then to ``size``."""
    height, width = gray.shape
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    inner = gray[top : top + side, left : left + side]
    return _resized(inner, size, size, filter_), (left, top, left + side, top + side), (0, 0, size, size)


WAYS: dict[str, Callable[[np.ndarray, int, str], Placed]] = {
    "stretch": _stretch,
    "crop": _crop,
    "pad": _pad,
    "frame": _frame,
    "middle": _middle,
}


def _resized(gray: np.ndarray, width: int, height: int, filter_: str) -> UInt8[np.ndarray, "high wide"]:
    return np.asarray(Image.fromarray(gray).resize((width, height), FILTERS[filter_]))


def area_average(gray: np.ndarray, width: int, height: int) -> UInt8[np.ndarray, "high wide"]:
    """Each pixel the mean of the original's area that it covers; bilinear where the image has to grow."""
    if width > gray.shape[1] or height > gray.shape[0]:
        return _resized(gray, width, height, "bilinear")
    down, across = _fractions(gray.shape[0], height), _fractions(gray.shape[1], width)
    averaged = down @ gray.astype(np.float32) @ across.T
    return averaged.round().astype(np.uint8)


def _fractions(source: int, target: int) -> Float[np.ndarray, "target source"]:
    """How much of each new pixel comes from each old one, along an axis."""
    edges = np.arange(target + 1) * (source / target)
    covered = np.minimum(edges[1:, None], np.arange(1, source + 1)) - np.maximum(edges[:-1, None], np.arange(source))
    return (covered.clip(0) * (target / source)).astype(np.float32)
