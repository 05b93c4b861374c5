import pytest

from imitate.data.annotations import Box
from imitate.data.fusion import fuse


def box(x: float, y: float, width: float, height: float, reader: str = "R1") -> Box:
    return Box("Nodule/Mass", x, y, width, height, reader=reader)


def test_boxes_that_overlap_are_their_mean_and_others_stay_apart() -> None:
    fused = fuse([box(10, 10, 20, 20), box(12, 10, 20, 20, "R2"), box(14, 10, 20, 20, "R3"), box(60, 60, 8, 8)])
    assert fused == (Box("Nodule/Mass", 12, 10, 20, 20), Box("Nodule/Mass", 60, 60, 8, 8))


def test_a_box_joins_the_group_that_it_overlaps_most() -> None:
    """IoU with the first is 2/3, with the second 9/11."""
    first, second, between = box(0, 0, 10, 10), box(3, 0, 10, 10), box(2, 0, 10, 10)
    assert fuse([first, box(30, 0, 10, 10), between, second])[0].x == pytest.approx(5 / 3)
    assert [each.x for each in fuse([box(0, 0, 10, 10), box(4, 0, 10, 10), box(3, 0, 10, 10)])] == [0, 3.5]


def test_half_is_not_enough_and_nothing_is_nothing() -> None:
    assert len(fuse([box(0, 0, 10, 10), box(0, 0, 10, 5)])) == 2  # an IoU of exactly a half
    assert fuse([]) == ()
