"""Object-CXR: foreign objects on chest radiographs, drawn as rectangles, ellipses and polygons.

clean: train.csv divided 80/20 by image (6,400/1,600), tight boxes. paper: 90/10 (7,200/800), and a polygon's box is
the published square around its centre, often larger than the object. Test is the dev part in both.
The tables name no patients: an image counts as one.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from imitate.data.annotations import Box, Kind, Shape, box_fault
from imitate.data.lazy import np
from imitate.data.records import Excluded, Record
from imitate.data.splits import published_two
from imitate.data.tables import find, present, read_table, require_filled, require_unique
from imitate.errors import UserError
from imitate.names import Mode
from imitate.sources import Options, Source, Traits

CLASSES = ("Foreign object",)
KINDS: dict[str, Kind] = {"0": "rectangle", "1": "ellipse", "2": "polygon"}
LARGEST = 2**16  # of a coordinate; drawing an ellipse takes time and memory by its size, on the canvas or not
REACH = 100  # pixels around a polygon's line, in the published search for its centre


class ObjectCxrOptions(Options):
    mode: Mode = Field("clean", description="paper: 90/10 instead of 80/20, and the published squares around polygons")


def records(options: ObjectCxrOptions) -> Iterator[Record | Excluded]:
    for part in ("train", "dev"):
        path = find(options.raw, f"{part}.csv")
        folder = find(options.raw, part)
        table = read_table(path, ["annotation"], text=True)
        column = next((name for name in ("image_name", "image_path") if name in table), None)
        if column is None:
            raise UserError(f"{path} lacks the column image_name or image_path; it has {', '.join(table.columns)}")
        require_filled(table, [column], path=path)
        names = table[column].str.split("/").str[-1]
        require_unique(names, path=path)
        fraction = 0.9 if options.mode == "paper" else 0.8
        splits = published_two(len(table), train=fraction) if part == "train" else ["test"] * len(table)
        for name, text, split in zip(names, table["annotation"].fillna(""), splits, strict=True):
            try:
                shapes = parse_shapes(text)
                boxes = _boxes(shapes, options.mode)
            except ValueError as error:
                yield Excluded(f"{part}/{name}", str(error))
                continue
            yield present(
                Record(
                    image_id=f"{part}/{name}",
                    image=folder / name,
                    patient=f"{part}/{name}",
                    study=f"{part}/{name}",
                    split=str(split),
                    labels={CLASSES[0]: float(bool(shapes))},
                    annotations=(*boxes, *shapes),
                    annotated=True,
                ),
                root=options.raw,
            )


def parse_shapes(text: str) -> tuple[Shape, ...]:
    """Objects joined by ";", each "kind x1 y1 x2 y2 ..." with kind 0, 1 or 2; ValueError where it is not."""
    shapes = []
    for item in filter(None, (part.split() for part in text.split(";"))):
        try:
            values = [float(value) for value in item[1:]]
            kind = KINDS[item[0]]
        except (ValueError, KeyError):
            raise ValueError("malformed annotation") from None
        points = tuple(zip(values[::2], values[1::2], strict=False))
        odd = len(values) % 2 or len(points) < 2 or (kind != "polygon" and len(points) > 2)
        if odd or not np.less(np.abs(values), LARGEST).all():  # nor NaN
            raise ValueError("malformed annotation")
        shapes.append(Shape(CLASSES[0], kind, points))
    return tuple(shapes)


def _boxes(shapes: tuple[Shape, ...], mode: Mode) -> tuple[Box, ...]:
    square = {"clean": (), "paper": ("polygon",)}[mode]
    boxes = tuple(square_box(shape) if shape.kind in square else tight_box(shape) for shape in shapes)
    for fault in filter(None, map(box_fault, boxes)):
        raise ValueError(fault)
    return boxes


def tight_box(shape: Shape) -> Box:
    (left, top), (right, bottom) = np.min(shape.points, axis=0), np.max(shape.points, axis=0)
    return Box(CLASSES[0], float(left), float(top), float(right - left), float(bottom - top))


def square_box(shape: Shape) -> Box:
    """The published box of a polygon: centred on the pole of inaccessibility of its line widened by 100 px.

    Half its side is the distance from there to the farthest vertex; it may leave the image. The pole is searched on a
    grid of at most 256 cells a side, so that it is exact to about 1/256 of the object.
    """
    from scipy.ndimage import distance_transform_edt

    points = np.array(shape.points)
    origin = points.min(axis=0) - 2 * REACH
    extent = points.max(axis=0) + 2 * REACH - origin
    step = max(1.0, float(extent.max()) / 256)
    width, height = (int(side) for side in np.ceil(extent / step) + 1)
    from PIL import Image, ImageDraw

    canvas = Image.new("1", (width, height), 1)
    ImageDraw.Draw(canvas).line([tuple(point) for point in (points - origin) / step], fill=0)
    widened = distance_transform_edt(np.array(canvas)) * step <= REACH
    depth = distance_transform_edt(widened)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    centre = origin + np.array([x, y]) * step
    reach = float(np.linalg.norm(points - centre, axis=1).max())
    return Box(CLASSES[0], float(centre[0]) - reach, float(centre[1]) - reach, 2 * reach, 2 * reach)


SOURCE = Source(
    records,
    ObjectCxrOptions,
    CLASSES,
    signs=(("train.csv", "dev.csv"),),
    expected={"images in train": 6_400, "images in val": 1_600, "images in test": 1_000},
    traits=Traits(patients="images", masks=True),
)
