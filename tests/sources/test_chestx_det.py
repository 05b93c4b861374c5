import json
import shutil
import zipfile
from collections import Counter
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imitate.data.annotations import Box, Shape, draw_mask
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.sources.chestx_det import CLASSES, SOURCE, TEN

MASS = {
    "file_name": "1.png",
    "syms": ["Mass", "Effusion"],
    "boxes": [[100, 200, 300, 400], [512, 512, 1024, 1024]],
    "polygons": [[[100, 200], [300, 200], [300, 400], [100, 400]], [[512, 512], [1023, 512], [1023, 1023]]],
}
NOTHING = {"file_name": "2.png", "syms": [], "boxes": [], "polygons": []}


def tree(root: Path, first: dict[str, Any] = MASS, *, many: int = 0, names: str = "ChestX_Det_{}.json") -> Path:
    train = [first, NOTHING, *({**NOTHING, "file_name": f"{i}.png"} for i in range(3, 3 + many))]
    for part, entries in (("train", train), ("test", [{**MASS, "file_name": "900.png"}])):
        (root / names.format(part)).write_text(json.dumps(entries))
        (root / f"{part}_data").mkdir(exist_ok=True)
        for entry in entries:
            (root / f"{part}_data" / str(entry["file_name"])).touch()
    return root


def found(root: Path, **options: Any) -> dict[str, Record]:
    every = SOURCE.records(SOURCE.Options(raw=root, **options))
    return {each.image_id: each for each in every if isinstance(each, Record)}


def test_boxes_and_outlines_of_a_frame_of_1024(tmp_path: Path) -> None:
    records = found(tree(tmp_path))
    record, frame = records["train/1.png"], (1024, 1024)
    boxes = [each for each in record.annotations if isinstance(each, Box)]
    assert boxes == [
        Box("Mass", 100, 200, 200, 200, reference_size=frame), Box("Effusion", 512, 512, 512, 512, reference_size=frame),
    ]  # fmt: skip
    outlines = [each for each in record.annotations if isinstance(each, Shape)]
    assert [(each.label, each.kind, len(each.points)) for each in outlines] == [
        ("Mass", "polygon", 4),
        ("Effusion", "polygon", 3),
    ]
    assert record.labels == {name: float(name in ("Mass", "Effusion")) for name in CLASSES}
    mask = draw_mask(record.annotations, 512, 512)
    assert mask[100:201, 50:151].all() and not mask[:100].any()
    assert not mask[-1, 256] and mask[257, -3]  # the triangle, not its box
    assert records["train/2.png"].annotated and not draw_mask(records["train/2.png"].annotations, 8, 8).any()


def test_det10_has_boxes_alone_and_knows_nothing_of_three_classes(tmp_path: Path) -> None:
    boxed = {key: value for key, value in MASS.items() if key != "polygons"}
    record = found(tree(tmp_path, boxed, names="{}.json"))["train/1.png"]
    assert len(record.annotations) == 2 and draw_mask(record.annotations, 512, 512)[511, 256]  # the box
    unknown = {name for name, value in (record.labels or {}).items() if isnan(value)}
    assert unknown == set(CLASSES) - set(TEN) == {"Cardiomegaly", "Diffuse Nodule", "Pleural Thickening"}
    options = SOURCE.Options(raw=tmp_path)
    assert (
        SOURCE.expected_of(options)["Consolidation in test"] == 289 and SOURCE.expected_of(options)["images"] == 3_543
    )
    tree(tmp_path)
    assert SOURCE.expected_of(options)["images"] == 3_578
    assert len(found(tmp_path)["train/1.png"].annotations) == 4  # ChestX-Det where both are
    assert len(found(tmp_path, edition="det10")["train/1.png"].annotations) == 2


def test_the_official_test_and_a_tenth_for_validation(tmp_path: Path) -> None:
    records = found(tree(tmp_path, many=38))
    assert Counter(each.split for each in records.values()) == {"train": 36, "val": 4, "test": 1}
    assert all(each.patient == name for name, each in records.items())
    assert SOURCE.traits_of(SOURCE.Options(raw=tmp_path)).patients == "images"


def test_images_are_read_from_the_archives(tmp_path: Path) -> None:
    tree(tmp_path)
    shutil.rmtree(tmp_path / "train_data")
    with pytest.raises(UserError, match=r"has no train_data, nor train_data\.zip: download it beside ChestX_Det_train"):
        found(tmp_path)
    with zipfile.ZipFile(tmp_path / "train_data.zip", "w") as archive:
        archive.writestr("train_data/1.png", "x" * 999)
    every = list(SOURCE.records(SOURCE.Options(raw=tmp_path)))
    assert [(each.image.name, each.member) for each in every if isinstance(each, Record)] == [
        ("train_data.zip", "train_data/1.png"), ("900.png", ""),
    ]  # fmt: skip
    assert [each for each in every if isinstance(each, Excluded)] == [Excluded("train/2.png", "missing file")]
    (tmp_path / "train_data.zip").write_bytes((tmp_path / "train_data.zip").read_bytes()[:400])
    with pytest.raises(UserError, match=r"train_data\.zip is not a readable zip"):
        found(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"boxes": MASS["boxes"][:1]}, "boxes, outlines and classes of different number"),
        ({"polygons": MASS["polygons"][:1]}, "boxes, outlines and classes of different number"),
        ({"syms": ["Mass", "Kyphosis"]}, "class that is none of the data set's"),
        ({"boxes": [[100, 200, 90, 400], [0, 0, 1, 1]]}, "box without area"),
        ({"boxes": [[1030, 200, 1040, 400], [0, 0, 1, 1]]}, "box outside the image"),
        ({"boxes": [[100, 200, 300], [0, 0, 1, 1]]}, None),
        ({"boxes": None}, "malformed annotation"),
        ({"polygons": [[[1, 2], [3, 4]], [[1, 1], [2, 2], [3, 9]]]}, "malformed annotation"),
        ({"polygons": [[[1, 2], [3, 4], [9e9, 1]], [[1, 1], [2, 2], [3, 9]]]}, "malformed annotation"),
    ],
)
def test_an_image_of_a_bad_entry_is_excluded(change: dict[str, Any], reason: str | None, tmp_path: Path) -> None:
    every = list(SOURCE.records(SOURCE.Options(raw=tree(tmp_path, MASS | change))))
    (excluded,) = [each for each in every if isinstance(each, Excluded)]
    assert excluded.source == "train/1.png" and len(every) == 3
    assert excluded.reason == (reason or "malformed annotation")


def test_flat_outlines_are_read_too(tmp_path: Path) -> None:
    flat = [np.ravel(each).tolist() for each in MASS["polygons"]]
    assert found(tree(tmp_path, MASS | {"polygons": flat}))["train/1.png"].annotations == found(
        tree(tmp_path)
    )["train/1.png"].annotations  # fmt: skip


def test_a_wrong_tree_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no train\.json"):
        found(tmp_path)
    path = tree(tmp_path) / "ChestX_Det_train.json"
    for text, said in (
        (json.dumps([MASS, NOTHING, MASS]), r"lists no image, or one more than once \(1\.png\)"),
        ("[]", r"lists no image, or one more than once \(none\)"),
        ('[{"name": "1.png"}]', "must list objects with file_name, syms and boxes"),
        (json.dumps([MASS])[:-9], "is not readable JSON"),
        ("{}", "must hold a list, not dict"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            found(tmp_path)
