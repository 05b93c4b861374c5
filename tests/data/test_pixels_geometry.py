import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitate.data.annotations import Box
from imitate.data.pixels import Geometry, to_prepared
from imitate.names import Resize

RESIZES = st.sampled_from(["stretch", "letterbox"])


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, Box]:
    """A gray image with black margins, and a bright rectangle in it."""
    width, height = draw(st.integers(60, 200)), draw(st.integers(60, 200))
    left, top = draw(st.integers(0, 15)), draw(st.integers(0, 15))
    gray = np.zeros((height, width), np.float32)
    gray[top : height - 5, left : width - 9] = 1
    wide, high = draw(st.integers(12, 20)), draw(st.integers(12, 20))
    x, y = draw(st.integers(left, width - 9 - wide)), draw(st.integers(top, height - 5 - high))
    gray[y : y + high, x : x + wide] = 100
    return gray, Box("bright", x, y, wide, high)


def extent(mask: np.ndarray) -> np.ndarray:
    down, across = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return np.array([across[0], down[0], across[-1] + 1, down[-1] + 1])


def edges(box: Box) -> np.ndarray:
    return np.array([box.x, box.y, box.x + box.width, box.y + box.height])


@given(scene=scenes(), resize=RESIZES)
@settings(max_examples=60, deadline=None)
def test_boxes_and_masks_stay_on_what_they_mark(scene: tuple[np.ndarray, Box], resize: Resize) -> None:
    gray, box = scene
    image, geometry = to_prepared(gray, 96, resize)
    moved = geometry.box(box)
    assert moved is not None and moved.label == "bright"
    assert np.abs(extent(image > 127) - edges(moved)).max() <= 1
    mask = geometry.mask(gray == 100)
    assert set(np.unique(mask)) == {0, 1}
    assert np.abs(extent(mask) - edges(moved)).max() <= 1


@given(scene=scenes(), resize=RESIZES, factor=st.floats(0.25, 8))
@settings(max_examples=30, deadline=None)
def test_a_box_may_count_in_another_frame(scene: tuple[np.ndarray, Box], resize: Resize, factor: float) -> None:
    gray, box = scene
    _, geometry = to_prepared(gray, 96, resize)
    height, width = gray.shape
    frame = (round(width * factor), round(height * factor))
    across, down = frame[0] / width, frame[1] / height
    scaled = Box(box.label, box.x * across, box.y * down, box.width * across, box.height * down)
    assert geometry.box(scaled, frame)[1:] == pytest.approx(geometry.box(box)[1:])


def test_boxes_are_clipped_to_the_content_or_lost() -> None:
    geometry = Geometry(200, 100, 50, crop=(100, 0, 200, 100), content=(0, 0, 50, 50))
    assert geometry.box(Box("half", 90, 10, 20, 20)) == Box("half", 0, 5, 5, 10)
    assert geometry.box(Box("beyond", 180, 90, 500, 500)) == Box("beyond", 40, 45, 10, 5)
    for lost in (Box("left", 0, 0, 100, 50), Box("flat", 150, 50, 0, 9), Box("none", float("nan"), 1, 9, 9)):
        assert geometry.box(lost) is None


def test_padding_holds_no_mask() -> None:
    _, geometry = to_prepared(np.tile(np.arange(40, dtype=np.uint8) + 1, (80, 1)), 64, "letterbox")
    mask = geometry.mask(np.ones((80, 40), bool))
    assert mask[:, 16:48].all() and mask.sum() == 64 * 32


def test_a_tiny_mask_does_not_vanish_but_a_cropped_one_does() -> None:
    geometry = Geometry(1024, 1024, 64, crop=(0, 0, 1000, 1024), content=(0, 0, 64, 64))
    mask = np.zeros((1024, 1024), bool)
    mask[500, 500] = True
    small = geometry.mask(mask)
    assert small.sum() == 1 and small[500 * 64 // 1024, 500 * 64 // 1000]
    mask[500, 500], mask[500, 1010] = False, True
    assert not geometry.mask(mask).any()


def test_large_masks_keep_their_area() -> None:
    y, x = np.mgrid[:1024, :1024]
    disc = (x - 480) ** 2 + (y - 500) ** 2 < 200**2
    geometry = Geometry(1024, 1024, 128, crop=(0, 0, 1024, 1024), content=(0, 0, 128, 128))
    assert geometry.mask(disc).mean() == pytest.approx(disc.mean(), rel=0.02)


def test_a_mask_of_another_shape_is_a_mistake() -> None:
    geometry = Geometry(40, 30, 16, crop=(0, 0, 40, 30), content=(0, 0, 16, 16))
    with pytest.raises(AssertionError, match=r"mask \(40, 30\), image \(30, 40\)"):
        geometry.mask(np.ones((40, 30), bool))


def test_no_line_of_one_pixel_is_lost_between_two_windows_of_the_filter() -> None:
    """Column 33 of 67 lies on the edge of both of the prepared pixels that could show it."""
    geometry = Geometry(67, 64, 36, (0, 0, 67, 64), (0, 0, 36, 36))
    for column in range(67):
        mask = np.zeros((64, 67), bool)
        mask[:22, column] = True
        found = geometry.mask(mask)
        assert found[:12].any() and not found[13:].any()
        assert set(np.flatnonzero(found.any(axis=0))) <= {int(column * 36 / 67), int((column + 1) * 36 / 67)}
