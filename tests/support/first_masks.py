"""Masks and boxes as the first edition drew them, for comparison."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw


def runs_mask(width: int, height: int, *, runs: Sequence[str], frame: tuple[int, int]) -> np.ndarray:
    columns, rows = frame
    flat = np.zeros(columns * rows, dtype=bool)
    for text in runs:
        edges = np.cumsum([int(value) for value in text.split()])
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            flat[start:stop] = True
    mask = flat.reshape(columns, rows).T
    if (width, height) == frame:
        return np.ascontiguousarray(mask)
    y = ((np.arange(height) + 0.5) * rows / height).astype(int)
    x = ((np.arange(width) + 0.5) * columns / width).astype(int)
    return mask[y[:, None], x]


def boxes_mask(width: int, height: int, *, boxes: Sequence[Any], frame: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    x_scale, y_scale = width / frame[0], height / frame[1]
    for box in boxes:
        left, right = (max(round(edge * x_scale), 0) for edge in (box.x, box.x + box.width))
        top, bottom = (max(round(edge * y_scale), 0) for edge in (box.y, box.y + box.height))
        mask[top:bottom, left:right] = True
    return mask


def shapes_mask(width: int, height: int, *, shapes: Sequence[Any]) -> np.ndarray:
    canvas = Image.new("1", (width, height))
    draw = ImageDraw.Draw(canvas)
    for shape in shapes:
        if shape.kind == "polygon":
            draw.polygon(shape.points, fill=1, outline=1)
        else:
            left, right = sorted(x for x, _ in shape.points)
            top, bottom = sorted(y for _, y in shape.points)
            (draw.ellipse if shape.kind == "ellipse" else draw.rectangle)((left, top, right, bottom), fill=1)
    return np.array(canvas, dtype=bool)


def prepared_box(geometry: Any, box: Any, frame: tuple[int, int] | None) -> tuple[float, ...] | None:
    """x, y, width, height in prepared pixels."""
    wide, high = frame or (geometry.width, geometry.height)
    ends = []
    for axis, scale, start, length in (
        (0, geometry.width / wide, box.x, box.width),
        (1, geometry.height / high, box.y, box.height),
    ):
        begin, stop = geometry.crop[axis], geometry.crop[axis + 2]
        low, high_end = float(geometry.content[axis]), float(geometry.content[axis + 2])
        ends.append(
            [
                min(max(low + (end * scale - begin) * (high_end - low) / (stop - begin), low), high_end)
                for end in (start, start + length)
            ]
        )
    (left, right), (top, bottom) = ends
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None
