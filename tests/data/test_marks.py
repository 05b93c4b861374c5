"""What is marked on an image: phrases and classes with their pixels, of boxes and of masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from folders import write_shards

from imitate.data.annotations import Box, encode_runs
from imitate.data.corpus import Corpus
from imitate.data.marks import filled, marked, marks
from imitate.errors import UserError

SIZE = 12


def box(
    label: str, x: float, y: float, width: float, height: float, phrase: str = "", reader: str = ""
) -> dict[str, Any]:
    return {"label": label, "x": x, "y": y, "width": width, "height": height, "phrase": phrase, "reader": reader}


def region(label: str, mask: np.ndarray, phrase: str = "") -> dict[str, str]:
    return {"label": label, "phrase": phrase, "reader": "", "runs": encode_runs(mask)}


def square(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def folder(root: Path, boxes: list[list[dict]], regions: list[list[dict]] | None = None) -> Corpus:
    names = [f"i{number}" for number in range(len(boxes))]
    table = pd.DataFrame({"image_id": names, "patient": names, "study": names, "split": "test", "boxes": boxes})
    if regions is not None:
        table["regions"] = regions
    return Corpus.open(write_shards(root, table, np.zeros((len(boxes), SIZE, SIZE), np.uint8)))


def test_boxes_of_one_phrase_are_one_mark_whoever_drew_them(tmp_path: Path) -> None:
    given = [
        box("A", 1, 2, 3, 4, "left"),
        box("A", 5, 2, 2, 2, "left", "R2"),
        box("A", 0, 0, 1, 1, "right"),
        box("A", 8, 8, 2, 2),
    ]
    found = marks(folder(tmp_path / "data", [given]), 0)
    assert [(each.label, each.phrase) for each in found] == [("A", "left"), ("A", "right"), ("A", "")]
    np.testing.assert_array_equal(found[0].mask, square(2, 1, 4, 3) | square(2, 5, 2, 2))
    np.testing.assert_array_equal(found[2].mask, square(8, 8, 2, 2))


def test_masks_count_in_place_of_the_boxes_of_the_same_phrase(tmp_path: Path) -> None:
    first, second = square(1, 1, 3, 2), square(6, 6, 2, 2)
    regions = [[], [region("A", first, "left"), region("A", second, "left"), region("B", second)]]
    data = folder(tmp_path / "data", [[], [box("A", 0, 0, 9, 9, "left"), box("C", 2, 2, 1, 1)]], regions)
    assert marks(data, 0) == []
    found = {(each.label, each.phrase): each.mask for each in marks(data, 1)}
    assert list(found) == [("A", "left"), ("C", ""), ("B", "")]
    np.testing.assert_array_equal(found["A", "left"], first | second)
    np.testing.assert_array_equal(found["B", ""], second)


def test_what_is_marked_in_several_folders_of_which_one_has_no_masks(tmp_path: Path) -> None:
    """A folder of before there was such a column, and one with it, of more than one shard."""
    old = folder(tmp_path / "old", [[box("A", 0, 0, 2, 2)], []])
    regions = [[region("B", square(number % 5, 2, 1, 1))] if number % 3 == 0 else [] for number in range(20)]
    new = folder(tmp_path / "new", [[]] * 20, regions)
    both = Corpus.open([old.root, new.root])
    assert marked(old).tolist() == [True, False]
    assert marked(both).tolist() == [True, False, *(number % 3 == 0 for number in range(20))]
    assert [each.label for each in marks(both, 0)] == ["A"] and marks(both, 1) == []
    (mark,) = marks(both, 2 + 18)
    np.testing.assert_array_equal(mark.mask, square(3, 2, 1, 1))


def test_pixels_are_marked_by_their_middle_and_no_box_vanishes() -> None:
    np.testing.assert_array_equal(filled([Box("", 1.4, 2.6, 2, 1)], SIZE), square(3, 1, 1, 2))
    np.testing.assert_array_equal(filled([Box("", 5.6, 7.1, 0.2, 0.3)], SIZE), square(7, 5, 1, 1))
    np.testing.assert_array_equal(filled([Box("", 11.9, 0, 0.1, 3)], SIZE), square(1, 11, 1, 1))
    np.testing.assert_array_equal(filled([Box("", -3, 10, 20, 9)], SIZE), square(10, 0, 2, 12))


def test_a_damaged_mask_is_one_line(tmp_path: Path) -> None:
    broken = {**region("A", square(1, 1, 2, 2)), "runs": "140 9"}
    with pytest.raises(UserError, match="run lengths exceed the image, of a mask of image 2: prepare it again"):
        marks(folder(tmp_path / "data", [[], []], [[], [broken]]), 1)
