import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitate.data.annotations import Box, Shape, box_fault, boxes_mask, encode_runs, parse_runs, runs_mask, shapes_mask


def encode(mask: np.ndarray) -> str:
    """The published code, naively: walk down the columns, count the gap since the last run, then the run."""
    numbers, inside, count = [], False, 0
    for column in range(mask.shape[1]):
        for row in range(mask.shape[0]):
            if bool(mask[row, column]) != inside:
                numbers.append(count)
                inside, count = not inside, 0
            count += 1
    if inside:
        numbers.append(count)
    return " ".join(map(str, numbers))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_runs_survive_the_round_trip(width: int, height: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    decoded = runs_mask(width, height, runs=[encode(mask)], frame=(width, height))
    np.testing.assert_array_equal(decoded, mask)
    assert encode_runs(mask) == encode(mask)


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (["....", "...."], ""),
        (["####", "####"], "0 8"),
        (["#...", "...."], "0 1"),
        (["....", "...#"], "7 1"),
        (["...#", "#..."], "3 2"),
        ([".##.", ".#.#"], "1 2 2 1 1 1"),
    ],
)
def test_masks_as_runs(columns: list[str], text: str) -> None:
    mask = np.array([[cell == "#" for cell in column] for column in columns]).T
    assert encode_runs(mask) == text
    assert runs_mask(2, 4, runs=[text], frame=(2, 4)).tolist() == mask.tolist()


def test_a_gap_counts_from_the_end_of_the_run_before_and_down_a_column() -> None:
    mask = runs_mask(2, 4, runs=["1 2 2 1"], frame=(2, 4))  # absolute gaps would give [1, 3) and [2, 3)
    assert mask.T.tolist() == [[False, True, True, False], [False, True, False, False]]


def test_rows_of_one_image_are_united() -> None:
    both = runs_mask(2, 2, runs=["0 1", "3 1"], frame=(2, 2))
    assert both.tolist() == [[True, False], [False, True]]


def test_no_run_is_an_empty_mask_and_another_size_is_sampled_at_pixel_centres() -> None:
    assert not runs_mask(8, 8, runs=[], frame=(1024, 1024)).any()
    left_half = runs_mask(4, 2, runs=["0 8"], frame=(4, 4))
    assert left_half.tolist() == [[True, True, False, False]] * 2


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1 x", "not integers"),
        ("1 2 3", "not pairs"),
        ("-1", "not pairs"),
        ("5 -2", "not pairs"),
        ("10 7", "exceed the image"),
        ("9223372036854775807 9223372036854775807 9 1", "exceed the image"),  # 64 bits would come round to 7
    ],
)
def test_bad_runs_are_named(text: str, fault: str) -> None:
    assert parse_runs("10 6", pixels=16) == [(10, 16)]
    with pytest.raises(ValueError, match=fault):
        parse_runs(text, pixels=16)


def test_a_box_covers_its_rows_and_columns_in_any_size_and_stays_in_the_image() -> None:
    box = Box("Pneumonia", 2, 4, 6, 10)
    exact = boxes_mask(16, 20, boxes=[box], frame=(16, 20))
    assert exact[4:14, 2:8].all()
    assert exact.sum() == 60
    assert boxes_mask(8, 10, boxes=[box], frame=(16, 20)).sum() == 15
    beyond = boxes_mask(16, 20, boxes=[Box("", -5, -5, 7, 7), Box("", 14, 18, 9, 9)], frame=(16, 20))
    assert beyond[:2, :2].all()
    assert beyond[18:, 14:].all()
    assert beyond.sum() == 8


def test_shapes_have_their_areas_and_half_of_their_outlines() -> None:
    rectangle = Shape("", "rectangle", ((60.0, 20.0), (10.0, 40.0)))  # corners in any order
    ellipse = Shape("", "ellipse", ((10.0, 50.0), (70.0, 90.0)))
    triangle = Shape("", "polygon", ((80.0, 10.0), (99.0, 10.0), (80.0, 90.0)))
    areas = [int(shapes_mask(100, 100, shapes=[shape]).sum()) for shape in (rectangle, ellipse, triangle)]
    np.testing.assert_allclose(areas, [1000 + 70, 600 * np.pi + 79, 760 + 91], rtol=0.01)
    assert shapes_mask(100, 100, shapes=[rectangle, ellipse, triangle]).sum() == sum(areas)
    assert shapes_mask(100, 100, shapes=[rectangle])[30, 15]  # [row, column]
    assert not shapes_mask(100, 100, shapes=[]).any()


def test_masks_travel_to_worker_processes() -> None:
    mask = partial(runs_mask, runs=("3 2",), frame=(4, 4))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(mask))(4, 4), mask(4, 4))


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        (Box("", 0, 0, 5, 5), None),
        (Box("", -3, 8, 5, 5), None),  # partly outside: the writer clips it
        (Box("", 2, 2, 0, 5), "box without area"),
        (Box("", 2, 2, 5, -1), "box without area"),
        (Box("", 10, 2, 5, 5), "box outside the image"),
        (Box("", 2, -5, 5, 5), "box outside the image"),
        (Box("", 2, float("nan"), 5, 5), "box without coordinates"),
    ],
)
def test_a_box_that_cannot_be_used_says_why(box: Box, fault: str | None) -> None:
    assert box_fault(box, frame=(10, 10)) == fault
