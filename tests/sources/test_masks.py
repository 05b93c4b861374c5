"""The annotations of each source give the masks and boxes that the first edition had, bit for bit."""

from collections.abc import Callable
from pathlib import Path

import first_masks
import numpy as np
import pytest
from PIL import Image

from imitate.data.annotations import Box, RunLengths, Shape, draw_mask
from imitate.data.pixels import Geometry, read_gray, to_prepared
from imitate.data.records import Record
from imitate.sources import find_source
from imitate.synthetic.cases import TRAITS, draw_case
from imitate.synthetic.layouts import LAYOUTS
from imitate.synthetic.phantom import render

N, SEED, FRAME = 60, 5, (1024, 1024)
SIZES = ((64, 64), (1024, 1024), (300, 211))
Draw = Callable[[Record, int, int], np.ndarray]


def of_boxes(record: Record, width: int, height: int) -> np.ndarray:
    return first_masks.boxes_mask(width, height, boxes=record.annotations, frame=FRAME)


def of_runs(record: Record, width: int, height: int) -> np.ndarray:
    runs = [each.runs for each in record.annotations if isinstance(each, RunLengths)]
    return first_masks.runs_mask(width, height, runs=runs, frame=FRAME)


def of_shapes(record: Record, width: int, height: int) -> np.ndarray:
    return first_masks.shapes_mask(width, height, shapes=[s for s in record.annotations if isinstance(s, Shape)])


def of_findings(record: Record, width: int, height: int) -> np.ndarray:
    """Rendered once more."""
    regions = render(draw_case(SEED, int(record.image_id.rsplit("-", 1)[1])), height, width).regions
    masks = [region.mask for region in regions if TRAITS[region.finding.name].in_lung]
    return np.any([np.zeros((height, width), bool), *masks], axis=0)


@pytest.mark.parametrize(
    ("source", "mode", "draw", "frame"),
    [
        ("rsna", "clean", of_boxes, FRAME),
        ("siim", "clean", of_runs, None),
        ("siim", "paper", of_runs, None),
        ("object-cxr", "clean", of_shapes, None),
        ("object-cxr", "paper", of_shapes, None),
        ("synthetic", None, of_findings, None),
        ("chestxray14", None, None, FRAME),
    ],
)
def test_masks_and_boxes_are_those_of_the_first_edition(
    source: str, mode: str | None, draw: Draw | None, frame: tuple[int, int] | None, tmp_path: Path
) -> None:
    records = made(source, mode, tmp_path)
    origin, filled, boxed = find_source(source), 0, 0
    assert origin.traits_of(origin.Options.model_validate({"raw": tmp_path})).masks == (draw is not None)
    for record in records:
        _, geometry = to_prepared(read_gray(record.image), 97, "letterbox")
        sizes = (*SIZES, (geometry.width, geometry.height)) if source != "synthetic" else [(256, 256)]
        for width, height in sizes if draw else ():
            mask = draw_mask(record.annotations, width, height)
            np.testing.assert_array_equal(mask, draw(record, width, height))
            filled += bool(mask.any())
        boxes = [each for each in record.annotations if isinstance(each, Box)]
        boxed += len(boxes)
        assert [place(geometry, box) for box in boxes] == [
            first_masks.prepared_box(geometry, box, frame) for box in boxes
        ]
    assert (filled >= 8 or not draw) and (boxed >= 4 or source == "siim")


def made(source: str, mode: str | None, folder: Path) -> list[Record]:
    options: dict[str, object] = {"raw": folder / "raw"} | ({"mode": mode} if mode else {})
    if source == "synthetic":
        options |= {"n": N, "seed": SEED}
        (folder / "raw").mkdir()
    else:
        LAYOUTS[source](folder / "raw", n=N, seed=SEED, size=64)
    origin = find_source(source)
    found = [each for each in origin.records(origin.Options.model_validate(options)) if isinstance(each, Record)]
    assert len(found) > N / 2
    return found


def place(geometry: Geometry, box: Box) -> tuple[float, ...] | None:
    found = geometry.box(box)
    return None if found is None else found[1:5]


def test_an_image_without_findings_in_the_lungs_has_an_empty_mask(tmp_path: Path) -> None:
    """Its boxes, of a fracture or a device, must not become the mask."""
    every = list(made("synthetic", None, tmp_path))
    outside = [
        record
        for record in every
        if (boxes := [each for each in record.annotations if isinstance(each, Box)])
        and not any(TRAITS[box.label].in_lung for box in boxes)
    ]
    assert outside
    for record in outside:
        with Image.open(record.image) as image:
            assert not draw_mask(record.annotations, *image.size).any()
