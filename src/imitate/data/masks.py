"""Annotations to boolean masks: run lengths, boxes, drawn shapes.

Each ``*_mask`` takes the size to draw at; ``functools.partial`` of it over an annotation is a Record's ``mask``.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw

from imitate.data.prepared import Box

Mask = Bool[np.ndarray, "height width"]
Kind = Literal["rectangle", "ellipse", "polygon"]
Size = tuple[int, int]
"""(width, height)."""


class Shape(NamedTuple):
    """A rectangle or an ellipse by two opposite corners, or a polygon by its vertices; (x, y) in pixels."""

    kind: Kind
    points: tuple[tuple[float, float], ...]


def parse_runs(text: str, *, pixels: int) -> list[tuple[int, int]]:
    """[start, stop) of each run in "gap length gap length ...", a gap counting from the end of the run before.

    ValueError says in a few words what is wrong.
    """
    try:
        values = [int(value) for value in text.split()]
    except ValueError:
        raise ValueError("run lengths are not integers") from None
    if len(values) % 2 or min(values, default=0) < 0:
        raise ValueError("run lengths are not pairs of gap and length")
    edges = list(accumulate(values))  # of Python's integers, which do not wrap around
    if edges and edges[-1] > pixels:
        raise ValueError("run lengths exceed the image")
    return list(zip(edges[::2], edges[1::2], strict=True))


def runs_mask(width: int, height: int, *, runs: Sequence[str], frame: Size) -> Mask:
    """The union of run-length texts; they count down the columns of an image of ``frame``, left to right."""
    columns, rows = frame
    flat = np.zeros(columns * rows, dtype=bool)
    for text in runs:
        for start, stop in parse_runs(text, pixels=flat.size):
            flat[start:stop] = True
    mask = flat.reshape(columns, rows).T
    if (width, height) == frame:
        return np.ascontiguousarray(mask)
    y = ((np.arange(height) + 0.5) * rows / height).astype(int)
    x = ((np.arange(width) + 0.5) * columns / width).astype(int)
    return mask[y[:, None], x]


def boxes_mask(width: int, height: int, *, boxes: Sequence[Box], frame: Size) -> Mask:
    """The union of filled boxes that count in pixels of ``frame``."""
    mask = np.zeros((height, width), dtype=bool)
    x_scale, y_scale = width / frame[0], height / frame[1]
    for box in boxes:
        left, right = (max(round(edge * x_scale), 0) for edge in (box.x, box.x + box.width))
        top, bottom = (max(round(edge * y_scale), 0) for edge in (box.y, box.y + box.height))
        mask[top:bottom, left:right] = True
    return mask


def shapes_mask(width: int, height: int, *, shapes: Sequence[Shape]) -> Mask:
    """The union of filled shapes, outlines included, in pixels of this very size."""
    canvas = Image.new("1", (width, height))
    draw = ImageDraw.Draw(canvas)
    for kind, points in shapes:
        if kind == "polygon":
            draw.polygon(points, fill=1, outline=1)
        else:
            left, right = sorted(x for x, _ in points)
            top, bottom = sorted(y for _, y in points)
            (draw.ellipse if kind == "ellipse" else draw.rectangle)((left, top, right, bottom), fill=1)
    return np.array(canvas, dtype=bool)


def box_fault(box: Box, *, frame: Size | None = None) -> str | None:
    """Why a box cannot be used, in a few words; without ``frame`` only what every image excludes."""
    if not np.isfinite(box[1:]).all():
        return "box without coordinates"
    if box.width <= 0 or box.height <= 0:
        return "box without area"
    beyond = frame is not None and (box.x >= frame[0] or box.y >= frame[1])
    return "box outside the image" if beyond or box.x + box.width <= 0 or box.y + box.height <= 0 else None
