from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from folders import write_shards

from imitate.data.annotations import encode_runs
from imitate.data.chosen import only
from imitate.data.corpus import Corpus
from imitate.errors import UserError

SIZE = 8


def run(label: str, rows: slice, columns: slice) -> dict[str, str]:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[rows, columns] = True
    return {"label": label, "phrase": "", "reader": "", "runs": encode_runs(mask)}


def box(label: str, x: float, y: float) -> dict[str, object]:
    return {"label": label, "x": x, "y": y, "width": 2.0, "height": 3.0, "phrase": "", "reader": ""}


def folder(root: Path) -> Corpus:
    """Two images with masks and boxes, one with a box alone, one with nothing."""
    table = pd.DataFrame(
        {
            "image_id": list("abcd"),
            "patient": list("abcd"),
            "study": list("abcd"),
            "split": "test",
            "regions": [
                [run("Heart", slice(0, 4), slice(0, 2)), run("Tube", slice(5, 8), slice(5, 8))],
                [run("Tube", slice(0, 1), slice(0, 8)), run("Tube", slice(7, 8), slice(0, 8))],
                [],
                [],
            ],
            "boxes": [[box("Heart", 5, 5)], [], [box("Heart", 1, 2), box("Tube", 4, 2)], []],
        }
    )
    images = np.zeros((4, SIZE, SIZE), np.uint8)
    return Corpus.open(write_shards(root, table, images, masks=np.ones_like(images), classes=[]))


@pytest.mark.parametrize("merged", [False, True])
def test_masks_and_boxes_are_those_of_the_classes_alone(merged: bool, tmp_path: Path) -> None:
    data = folder(tmp_path / "one")
    if merged:
        folder(tmp_path / "two")
        data = Corpus.open([tmp_path / "two", tmp_path / "one"])
    heart = only(data, ["Heart"])
    masks = np.zeros((4, SIZE, SIZE), np.uint8)
    masks[0, 0:4, 0:2] = 1  # the mask, not the box beside it
    masks[2, 2:5, 1:3] = 1
    copies = 2 if merged else 1
    np.testing.assert_array_equal(heart.masks, np.concatenate([masks] * copies))
    assert [[each.label for each in heart.boxes(row)] for row in range(4)] == [["Heart"], [], ["Heart"], []]
    assert heart.box_counts().tolist() == [1, 0, 1, 0] * copies
    np.testing.assert_array_equal(heart.masks[2], masks[2])
    np.testing.assert_array_equal(heart.masks[np.array([2, 0])], masks[[2, 0]])
    both = only(data, ["Heart", "Tube"])
    assert both.masks[1].sum() == 2 * SIZE and both.box_counts()[:4].tolist() == [1, 0, 2, 0]
    assert np.array(data.masks).all() and len(data.boxes(2)) == 2  # the folder stays as it is


def test_a_corpus_in_memory_has_boxes_alone(tmp_path: Path) -> None:
    table = pd.DataFrame({"patient": ["a"], "split": "test", "boxes": [[box("Heart", 1, 2), box("Tube", 4, 2)]]})
    data = Corpus(tmp_path, {"size": SIZE}, table, np.zeros((1, SIZE, SIZE), np.uint8), None)
    found = only(data, ["Tube"])
    assert [each.label for each in found.boxes(0)] == ["Tube"] and found.masks[0].sum() == 6


def test_a_class_that_is_marked_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"one marks no 'heart'; it marks Heart, Tube: choose among them"):
        only(folder(tmp_path / "one"), ["Tube", "heart"])
