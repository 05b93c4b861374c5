"""Annotations as rows of a manifest, and as masks: every field, every kind, every boundary."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from imitate.data.annotations import (
    ARROW,
    Annotation,
    Box,
    RunLengths,
    Shape,
    box_fault,
    boxes_mask,
    draw_mask,
    from_row,
    parse_runs,
    runs_mask,
    shapes_mask,
    to_row,
)

SIZE = (7, 5)
EVERY: list[Annotation] = [
    Box("a", 1.5, 2.5, 3.5, 4.5, "left base", "R1", SIZE),
    Box("a", 1, 2, 3, 4),
    RunLengths("b", "1 2 3 4", SIZE, "right apex", "R2"),
    RunLengths("b", "", SIZE),
    *(Shape("c", kind, ((1.0, 2.0), (3.0, 4.5)), "a tube", "R3", SIZE) for kind in ("rectangle", "ellipse", "polygon")),
    Shape("c", "polygon", ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0))),
]
FIELDS = {
    "kind": pa.string(),
    "label": pa.string(),
    "phrase": pa.string(),
    "reader": pa.string(),
    "runs": pa.string(),
    "values": pa.list_(pa.float64()),
    "reference_size": pa.list_(pa.int32()),
}


@pytest.mark.parametrize("annotation", EVERY)
def test_an_annotation_survives_arrow_with_every_field(annotation: Annotation) -> None:
    stored = pa.array([[to_row(annotation)]], pa.list_(ARROW)).to_pylist()[0][0]
    found = from_row(stored)
    assert found == annotation and type(found) is type(annotation)


def test_the_columns_are_those_of_the_format() -> None:
    """Folders outlive versions: a renamed field would make those of today unreadable."""
    assert {field.name: field.type for field in ARROW} == FIELDS
    rows = [to_row(each) for each in EVERY]
    assert all(list(row) == ["kind", "label", "phrase", "reader", "runs", "values", "reference_size"] for row in rows)
    assert [row["kind"] for row in rows[::2]] == ["Box", "RunLengths", "rectangle", "polygon"]
    assert rows[0] == {
        "kind": "Box",
        "label": "a",
        "phrase": "left base",
        "reader": "R1",
        "runs": None,
        "values": [1.5, 2.5, 3.5, 4.5],
        "reference_size": [7, 5],
    }
    assert rows[1]["reference_size"] is None and rows[2]["values"] is None and rows[3]["runs"] == ""
    assert rows[-1]["values"] == [1, 2, 3, 4, 5, 6] and rows[-1]["runs"] is None


def test_run_lengths_need_the_size_that_they_count_in() -> None:
    with pytest.raises(AssertionError):
        from_row(to_row(EVERY[2]) | {"reference_size": None})


def test_half_a_point_is_not_dropped() -> None:
    with pytest.raises(ValueError, match="shorter"):
        from_row(to_row(EVERY[-1]) | {"values": [1.0, 2.0, 3.0]})


def filled(*places: tuple[int, int], width: int = 7, height: int = 5) -> list[list[bool]]:
    """The mask of these (row, column) places."""
    return [[(row, column) in places for column in range(width)] for row in range(height)]


def test_a_mask_unites_runs_and_shapes_and_takes_boxes_only_where_there_is_nothing_finer() -> None:
    box = Box("", 0, 0, 2, 1)
    runs, more = RunLengths("", "5 2", SIZE), RunLengths("", "34 1", SIZE)  # down the second column; the last pixel
    shape = Shape("", "rectangle", ((3.0, 4.0), (4.0, 4.0)))
    assert draw_mask([], *SIZE).tolist() == filled()
    assert draw_mask([box], *SIZE).tolist() == filled((0, 0), (0, 1))
    assert draw_mask([box, runs, more], *SIZE).tolist() == filled((0, 1), (1, 1), (4, 6))
    assert draw_mask([box, shape], *SIZE).tolist() == filled((4, 3), (4, 4))
    both = filled((4, 3), (4, 4), (0, 1), (1, 1), (4, 6))
    assert draw_mask([runs, box, shape, more], *SIZE).tolist() == both


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("0 1", [(0, 1)]),
        ("0 4", [(0, 4)]),
        ("3 1", [(3, 4)]),
        ("0 0", [(0, 0)]),
        ("1 1 1 1", [(1, 2), (3, 4)]),
    ],
)
def test_runs_may_end_with_the_image(text: str, found: list[tuple[int, int]]) -> None:
    assert parse_runs(text, pixels=4) == found


@pytest.mark.parametrize("text", ["0 5", "4 1", "3 1 1 0", "5 0"])
def test_runs_may_not_end_beyond_the_image(text: str) -> None:
    with pytest.raises(ValueError, match="^run lengths exceed the image$"):
        parse_runs(text, pixels=4)


@pytest.mark.parametrize("text", ["-1 1", "0 -1", "3", "1 1 1"])
def test_runs_are_pairs_that_are_not_negative(text: str) -> None:
    with pytest.raises(ValueError, match="^run lengths are not pairs of gap and length$"):
        parse_runs(text, pixels=4)


def test_runs_of_another_size_are_sampled_at_pixel_centres() -> None:
    """(6, 4) to (3, 2): the centre of pixel i lies in pixel 2 i + 1; rows and columns are not confused."""
    grid = np.zeros((4, 6), dtype=bool)
    grid[1, 3] = grid[3, 5] = True
    flat = np.flatnonzero(grid.T.ravel())
    text = " ".join(f"{gap} 1" for gap in (flat[0], flat[1] - flat[0] - 1))
    assert runs_mask(3, 2, runs=[text], frame=(6, 4)).tolist() == [[False, True, False], [False, False, True]]
    assert runs_mask(12, 8, runs=[text], frame=(6, 4)).tolist() == np.kron(grid, np.ones((2, 2))).astype(bool).tolist()
    assert runs_mask(6, 8, runs=[text], frame=(6, 4)).tolist() == grid.repeat(2, 0).tolist()  # one side alone


def test_boxes_are_scaled_by_each_side_of_their_own_size_and_clipped() -> None:
    own, other = Box("", 2, 4, 2, 4, reference_size=(8, 16)), Box("", 1, 1, 1, 1)
    assert boxes_mask(4, 4, boxes=[own]).tolist() == filled((1, 1), width=4, height=4)
    assert boxes_mask(4, 4, boxes=[other], frame=(2, 4)).tolist() == filled((1, 2), (1, 3), width=4, height=4)
    assert boxes_mask(4, 4, boxes=[own], frame=(2, 4)).tolist() == filled((1, 1), width=4, height=4)
    assert boxes_mask(4, 4, boxes=[other]).tolist() == filled((1, 1), width=4, height=4)
    assert boxes_mask(4, 4, boxes=[Box("", -2, -3, 3, 5)]).tolist() == filled((0, 0), (1, 0), width=4, height=4)
    assert boxes_mask(4, 4, boxes=[Box("", 3, 2, 9, 1)]).tolist() == filled((2, 3), width=4, height=4)


def test_shapes_are_scaled_by_each_side_of_their_own_size() -> None:
    rectangle = Shape("", "rectangle", ((4.0, 6.0), (2.0, 3.0)), reference_size=(14, 15))
    assert shapes_mask(7, 5, shapes=[rectangle]).tolist() == filled((1, 1), (2, 1), (1, 2), (2, 2))
    line = Shape("", "polygon", ((0.0, 0.0), (6.0, 0.0)), reference_size=(7, 5))
    assert shapes_mask(7, 5, shapes=[line]).tolist() == filled(*((0, column) for column in range(7)))
    triangle = Shape("", "polygon", ((0.0, 0.0), (4.0, 0.0), (0.0, 4.0)))
    assert shapes_mask(7, 5, shapes=[triangle])[1, 1] and not shapes_mask(7, 5, shapes=[triangle])[4, 4]
    ellipse = Shape("", "ellipse", ((6.0, 4.0), (0.0, 0.0)))
    drawn = shapes_mask(7, 5, shapes=[ellipse])
    assert drawn[2].all() and drawn[:, 3].all() and not drawn[0, 0] and not drawn[4, 6]


@pytest.mark.parametrize(
    ("corners", "fault"),
    [
        ((0, 0, 0, 1), "box without area"),
        ((0, 0, 1, 0), "box without area"),
        ((0, 0, -1, 1), "box without area"),
        ((0, 0, 0.5, 0.5), None),
        ((-1, 0, 1, 1), "box outside the image"),  # it ends at the edge
        ((-1, 0, 1.5, 1), None),
        ((0, -1, 1, 1), "box outside the image"),
        ((0, -1, 1, 1.5), None),
        ((7, 0, 1, 1), "box outside the image"),  # it begins at the edge
        ((6.5, 0, 1, 1), None),
        ((0, 5, 1, 1), "box outside the image"),
        ((0, 4.5, 1, 1), None),
        *((tuple(np.nan if i == j else 1 for j in range(4)), "box without coordinates") for i in range(4)),
        ((np.inf, 1, 1, 1), "box without coordinates"),
        ((1, 1, 1, -np.inf), "box without coordinates"),
    ],
)
def test_a_box_is_refused_at_and_beyond_each_edge(corners: Any, fault: str | None) -> None:
    assert box_fault(Box("", *corners), frame=SIZE) == fault


def test_without_a_frame_a_box_is_refused_only_where_every_image_would_exclude_it() -> None:
    assert box_fault(Box("", 1e6, 1e6, 1, 1)) is None
    assert box_fault(Box("", -2, 0, 2, 1)) == "box outside the image"
    assert box_fault(Box("", 0, 0, 1, -1)) == "box without area"
