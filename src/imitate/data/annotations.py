"""What people marked on radiographs: boxes, run lengths, shapes; and the masks that follow from them.

Coordinates count in pixels of ``reference_size`` (width, height), or where that is None, of the image itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from imitate.data.lazy import np

if TYPE_CHECKING:
    from jaxtyping import Bool

    Mask = Bool[np.ndarray, "height width"]

Size = tuple[int, int]
"""(width, height)."""
Kind = Literal["rectangle", "ellipse", "polygon"]


class Box(NamedTuple):
    """A rectangle by its top-left corner. In a prepared table: prepared pixels, whatever ``reference_size`` was."""

    label: str
    x: float
    y: float
    width: float
    height: float
    phrase: str = ""  # what it shows, in words, where it has no class
    reader: str = ""
    reference_size: Size | None = None


class RunLengths(NamedTuple):
    """A mask as "gap length gap length ...", down the columns of an image of ``reference_size``; "" shows nothing."""

    label: str
    runs: str
    reference_size: Size
    phrase: str = ""
    reader: str = ""


class Shape(NamedTuple):
    """A rectangle or an ellipse by two opposite corners, or a polygon by its vertices; outlines belong to it."""

    label: str
    kind: Kind
    points: tuple[tuple[float, float], ...]
    phrase: str = ""
    reader: str = ""
    reference_size: Size | None = None


Annotation = Box | RunLengths | Shape


def __getattr__(name: str) -> Any:
    """``ARROW``, the type of an annotation in a manifest, built when asked for: help must not wait for pyarrow.

    Its ``values`` are x, y, width, height of a box, or x, y, x, y, ... of a shape.
    """
    if name != "ARROW":
        raise AttributeError(name)
    import pyarrow as pa

    texts = [(part, pa.string()) for part in ("kind", "label", "phrase", "reader", "runs")]
    return pa.struct([*texts, ("values", pa.list_(pa.float64())), ("reference_size", pa.list_(pa.int32()))])


def to_row(annotation: Annotation) -> dict[str, Any]:
    """As ``ARROW`` stores it."""
    row: dict[str, Any] = {
        "kind": annotation.kind if isinstance(annotation, Shape) else type(annotation).__name__,
        "label": annotation.label,
        "phrase": annotation.phrase,
        "reader": annotation.reader,
        "runs": annotation.runs if isinstance(annotation, RunLengths) else None,
        "values": None,
        "reference_size": annotation.reference_size and list(annotation.reference_size),
    }
    if isinstance(annotation, Box):
        row["values"] = [float(value) for value in annotation[1:5]]
    elif isinstance(annotation, Shape):
        row["values"] = [float(value) for point in annotation.points for value in point]
    return row


def from_row(row: Mapping[str, Any]) -> Annotation:
    """The inverse of ``to_row``."""
    size = None if row["reference_size"] is None else tuple(row["reference_size"])
    words = {"phrase": row["phrase"], "reader": row["reader"]}
    if row["kind"] == "Box":
        x, y, width, height = row["values"]
        return Box(row["label"], x, y, width, height, **words, reference_size=size)
    if row["kind"] == "RunLengths":
        assert size is not None
        return RunLengths(row["label"], row["runs"], size, **words)
    points = tuple(zip(row["values"][::2], row["values"][1::2], strict=True))
    return Shape(row["label"], row["kind"], points, **words, reference_size=size)


def draw_mask(annotations: Sequence[Annotation], width: int, height: int) -> Mask:
    """The union of the run lengths and shapes; where there are none, of the boxes, filled."""
    runs = [each for each in annotations if isinstance(each, RunLengths)]
    shapes = [each for each in annotations if isinstance(each, Shape)]
    boxes = [each for each in annotations if isinstance(each, Box)]
    if not runs and not shapes:
        return boxes_mask(width, height, boxes=boxes)
    mask = shapes_mask(width, height, shapes=shapes)
    for each in runs:
        mask |= runs_mask(width, height, runs=[each.runs], frame=each.reference_size)
    return mask


def parse_runs(text: str, *, pixels: int) -> list[tuple[int, int]]:
    """[start, stop) of each run in "gap length gap length ...", a gap counting from the end of the run before.

    ValueError says in a few words what is wrong.
    """
    try:
        values = [int(value) for value in text.split()]
    except ValueError:
        raise ValueError("run lengths are not integers") from None
    if len(values) % 2 or any(value < 0 for value in values):
        raise ValueError("run lengths are not pairs of gap and length")
    edges = list(accumulate(values))  # of Python's integers, which do not wrap around
    if edges and edges[-1] > pixels:
        raise ValueError("run lengths exceed the image")
    return list(pairwise(edges))[::2]


def encode_runs(mask: Mask) -> str:
    """The inverse of ``runs_mask`` at the size of the mask."""
    flat = np.concatenate([[False], mask.T.ravel(), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return " ".join(map(str, np.diff(edges, prepend=0)))


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


def boxes_mask(width: int, height: int, *, boxes: Sequence[Box], frame: Size | None = None) -> Mask:
    """The union of filled boxes; ``frame`` is the reference size of those that have none."""
    mask = np.zeros((height, width), dtype=bool)
    for box in boxes:
        wide, high = box.reference_size or frame or (width, height)
        x_scale, y_scale = width / wide, height / high
        left, right = (max(round(edge * x_scale), 0) for edge in (box.x, box.x + box.width))
        top, bottom = (max(round(edge * y_scale), 0) for edge in (box.y, box.y + box.height))
        mask[top:bottom, left:right] = True
    return mask


def shapes_mask(width: int, height: int, *, shapes: Sequence[Shape]) -> Mask:
    """The union of filled shapes, outlines included."""
    from PIL import Image, ImageDraw

    canvas = Image.new("1", (width, height))
    draw = ImageDraw.Draw(canvas)
    for shape in shapes:
        kind, points = shape.kind, list(shape.points)
        if shape.reference_size is not None:
            wide, high = shape.reference_size
            points = [(x * width / wide, y * height / high) for x, y in points]
        if kind == "polygon":
            draw.polygon(points, fill=True, outline=True)
        else:
            left, right = sorted(x for x, _ in points)
            top, bottom = sorted(y for _, y in points)
            (draw.ellipse if kind == "ellipse" else draw.rectangle)((left, top, right, bottom), fill=True)
    return np.array(canvas, dtype=bool)


def box_fault(box: Box, *, frame: Size | None = None) -> str | None:
    """Why a box cannot be used, in a few words; without ``frame`` only what every image excludes."""
    if not np.isfinite(box[1:5]).all():
        return "box without coordinates"
    if box.width <= 0 or box.height <= 0:
        return "box without area"
    beyond = frame is not None and (box.x >= frame[0] or box.y >= frame[1])
    return "box outside the image" if beyond or box.x + box.width <= 0 or box.y + box.height <= 0 else None
