from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from imitate.config import Config
from imitate.data.annotations import Box, Shape, draw_mask
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.sources import object_cxr as module
from imitate.sources.object_cxr import SOURCE, parse_shapes, square_box, tight_box

ALL_KINDS = "0 10 20 40 80;1 50 20 90 40;2 100 100 160 110 130 180 100 100"


def tree(root: Path, annotations: list[str], *, column: str = "image_name", prefix: str = "") -> Config:
    for part in ("train", "dev"):
        lines = [f'{prefix}{i:05}.jpg,"{text}"' for i, text in enumerate(annotations)]
        (root / f"{part}.csv").write_text("\n".join([f"{column},annotation", *lines]))
        (root / part).mkdir()
        for i in range(len(annotations)):
            (root / part / f"{i:05}.jpg").touch()
    return SOURCE.Options(raw=root)


def test_tight_boxes_keep_width_and_height_apart(tmp_path: Path) -> None:
    records = [r for r in SOURCE.records(tree(tmp_path, [ALL_KINDS, "", "", "", ""])) if isinstance(r, Record)]
    assert len(records) == 10
    first = records[0]
    assert first.annotations[:3] == (
        Box("Foreign object", 10, 20, 30, 60),
        Box("Foreign object", 50, 20, 40, 20),
        Box("Foreign object", 100, 100, 60, 80),
    )
    assert first.labels == {"Foreign object": 1.0}
    assert first.annotations[3:] == parse_shapes(ALL_KINDS)
    assert {each.reference_size for each in first.annotations} == {None}  # the pixels of the file itself
    mask = draw_mask(first.annotations, 200, 300)
    assert mask.shape == (300, 200)
    assert mask[21:80, 11:40].all()
    assert mask[30, 70] and not mask[21, 51]  # an ellipse has no corners
    assert mask[105, 130] and not mask[170, 105]
    empty = records[1]
    assert empty.labels == {"Foreign object": 0.0}
    assert empty.annotations == () and empty.annotated


@pytest.mark.parametrize(("column", "prefix"), [("image_name", ""), ("image_path", "train/")])
def test_both_spellings_of_the_name_column(tmp_path: Path, column: str, prefix: str) -> None:
    records = list(SOURCE.records(tree(tmp_path, [""] * 5, column=column, prefix=prefix)))
    assert Counter(r.split for r in records if isinstance(r, Record)) == {"train": 4, "val": 1, "test": 5}


def test_the_published_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "present", lambda record, root: record)
    for part, count in (("train", 8_000), ("dev", 1_000)):
        (tmp_path / part).mkdir()
        lines = ["image_name,annotation", *(f"{i:05}.jpg," for i in range(count))]
        (tmp_path / f"{part}.csv").write_text("\n".join(lines))
    for mode, train, val in (("clean", 6_400, 1_600), ("paper", 7_200, 800)):
        records = list(SOURCE.records(SOURCE.Options.model_validate({"raw": tmp_path, "mode": mode})))
        assert Counter(r.split for r in records) == {"train": train, "val": val, "test": 1_000}


def test_the_published_box_of_a_polygon_is_a_square_around_its_heart() -> None:
    """Of a straight line, the widened region is a capsule whose depth is 100 all along: the square covers the line."""
    line = Shape("", "polygon", ((0.0, 50.0), (300.0, 50.0)))
    box = square_box(line)
    assert box.width == box.height
    assert box.x + box.width / 2 == pytest.approx(150, abs=151)
    assert box.y + box.height / 2 == pytest.approx(50, abs=5)
    assert box.width / 2 >= 149
    # of a small closed one, the region is close to a disc about its middle
    triangle = Shape("", "polygon", ((100.0, 100.0), (140.0, 100.0), (120.0, 130.0), (100.0, 100.0)))
    square, tight = square_box(triangle), tight_box(triangle)
    centre = np.array([square.x + square.width / 2, square.y + square.height / 2])
    distances = np.linalg.norm(np.array(triangle.points) - centre, axis=1)
    assert square.width / 2 == pytest.approx(distances.max())
    assert square.width * square.height > tight.width * tight.height
    assert np.linalg.norm(centre - [120, 110]) < 15


def test_paper_changes_polygons_alone(tmp_path: Path) -> None:
    options = tree(tmp_path, [ALL_KINDS, *[""] * 9])
    clean, paper = (
        next(r for r in SOURCE.records(options.model_copy(update={"mode": mode})) if isinstance(r, Record)).annotations
        for mode in ("clean", "paper")
    )
    assert clean[:2] == paper[:2]
    assert clean[2] == Box("Foreign object", 100, 100, 60, 80)
    assert paper[2].width == paper[2].height > 60


@pytest.mark.parametrize(
    "text",
    [
        "3 1 2 3 4",
        "0 1 2 3",
        "1 1 2 3 4 5 6",
        "2 1 2",
        "0 a b c d",
        "0",
        "-1 1 2 3 4",
        "x",
        "2 1 2 nan 4",
        "0 1 2 inf 4",
        "1 -1000000 -1000000 1000000 1000000",  # which would take half a minute to draw
    ],
)
def test_malformed_annotations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="malformed annotation"):
        parse_shapes(text)
    assert parse_shapes("") == parse_shapes(" ; ") == ()


def test_one_bad_record_is_excluded_with_its_reason(tmp_path: Path) -> None:
    found = list(SOURCE.records(tree(tmp_path, ["0 5 5 5 9", "0 -9 -9 -1 -1", "7 1 2 3 4", "", ""])))
    assert [item for item in found if isinstance(item, Excluded) and item.source.startswith("train")] == [
        Excluded("train/00000.jpg", "box without area"),
        Excluded("train/00001.jpg", "box outside the image"),
        Excluded("train/00002.jpg", "malformed annotation"),
    ]
    assert len(found) == 10


def test_wrong_trees_are_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no train\.csv"):
        list(SOURCE.records(SOURCE.Options(raw=tmp_path)))
    options = tree(tmp_path, [""] * 5, column="file")
    with pytest.raises(UserError, match="lacks the column image_name or image_path; it has file, annotation"):
        list(SOURCE.records(options))
    (tmp_path / "train.csv").write_text("image_name,annotation\na.jpg,\na.jpg,\n")
    with pytest.raises(UserError, match=r"lists 1 ids more than once, first 'a\.jpg'"):
        list(SOURCE.records(options))
