import csv
from pathlib import Path
from typing import Any

import pytest

from imitate.data.annotations import Box
from imitate.data.decoding import UNLIKE
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.sources.ms_cxr import SOURCE
from imitate.synthetic.layouts import LAYOUTS

HEADER = ["dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height"]
A, B = "files/p10/p10000001/s50000001/a.jpg", "files/p11/p11000002/s50000002/b.jpg"
ROWS = [
    ["a", "Pleural Effusion", "small  bilateral effusions", A, 10, 900, 200, 300, 2000, 2500, "train"],
    ["a", "Pleural Effusion", "small  bilateral effusions", A, 1700, 900, 200, 300, 2000, 2500, "train"],
    ["a", "Edema", "mild edema", A, 100, 100, 1800, 1800, 2000, 2500, "train"],
    ["b", "Pneumonia", "opacity at the right base", B, 0, 0, 50, 60, 1000, 1000, "test"],
]


def tree(root: Path, rows: list[list[Any]] = ROWS, *, split: bool = True, name: str = "1.1.0") -> Path:
    width = len(HEADER) + split
    with (root / f"MS_CXR_Local_Alignment_v{name}.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[*HEADER, "split"][:width], *(row[:width] for row in rows)])
    for path in (A, B):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def found(root: Path, **options: Any) -> dict[str, Record]:
    every = SOURCE.records(SOURCE.Options(raw=root, **options))
    return {each.image_id: each for each in every if isinstance(each, Record)}


def test_a_phrase_has_several_boxes_in_pixels_of_the_original(tmp_path: Path) -> None:
    record = found(tree(tmp_path))["a"]
    phrase, frame = "small bilateral effusions", (2000, 2500)
    assert record.annotations == (
        Box("Pleural Effusion", 10, 900, 200, 300, phrase, reference_size=frame),
        Box("Pleural Effusion", 1700, 900, 200, 300, phrase, reference_size=frame),
        Box("Edema", 100, 100, 1800, 1800, "mild edema", reference_size=frame),
    )
    assert (record.patient, record.study, record.split, record.projection) == (
        "10000001",
        "50000001",
        "train",
        "FRONTAL",
    )
    assert record.image == tmp_path / A and record.labels is None and record.annotated


def test_the_newest_version_counts_and_the_first_has_no_split(tmp_path: Path) -> None:
    tree(tmp_path, split=False, name="1.0.0")
    assert {each.split for each in found(tmp_path).values()} == {"test"}
    tree(tmp_path)
    assert {name: each.split for name, each in found(tmp_path).items()} == {"a": "train", "b": "test"}


def test_the_split_and_the_projections_of_mimic(tmp_path: Path) -> None:
    base = tmp_path / "mimic"
    base.mkdir()
    tree(base)
    raw = tmp_path / "raw"
    raw.mkdir()
    (base / "MS_CXR_Local_Alignment_v1.1.0.csv").rename(raw / "MS_CXR_Local_Alignment_v1.1.0.csv")
    with pytest.raises(UserError, match=r"no mimic-cxr-\*-split\.csv\.gz in .*mimic: copy it there"):
        found(raw, images=base, split_by="mimic")
    (base / "mimic-cxr-2.1.0-split.csv").write_text("dicom_id,split\na,validate\nc,train\n")
    (base / "mimic-cxr-2.1.0-metadata.csv").write_text("dicom_id,ViewPosition\na,AP\nb,\n")
    records = list(SOURCE.records(SOURCE.Options(raw=raw, images=base, split_by="mimic")))
    assert [(each.split, each.projection) for each in records if isinstance(each, Record)] == [("val", "AP")]
    assert [each for each in records if isinstance(each, Excluded)] == [Excluded("b", "no split, or several")]
    assert found(raw, images=base)["b"].projection == "FRONTAL"


def test_copies_of_another_size_are_found_by_their_names(tmp_path: Path) -> None:
    tree(tmp_path)
    copies = tmp_path / "copies"
    copies.mkdir()
    (copies / "a.png").touch()
    assert found(tmp_path, images=copies)["a"].image == copies / "a.png"
    with pytest.raises(
        UserError, match=r"no image of MS_CXR_Local_Alignment_v1\.1\.0\.csv is in .*raw: pass as --images"
    ):
        (tmp_path / "raw").mkdir()
        found(tmp_path, images=tmp_path / "raw")


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (3, "files/p10/p10000001/s50000001/c.jpg", "path that is not that of its image"),
        (3, "../p10/p10000001/a.jpg", "path that is not that of its image"),
        (8, "", "no image size, or several"),
        (9, 2400, "no image size, or several"),
        (10, "", "no split, or several"),
        (4, 2000, "box outside the image"),
        (6, 0, "box without area"),
        (5, "", "box without coordinates"),
    ],
)
def test_an_image_of_a_bad_row_is_excluded(place: int, value: object, reason: str, tmp_path: Path) -> None:
    bad = [[*row[:place], value, *row[place + 1 :]] if row is ROWS[1] else row for row in ROWS]
    every = list(SOURCE.records(SOURCE.Options(raw=tree(tmp_path, bad))))
    assert [each for each in every if isinstance(each, Excluded)] == [Excluded("a", reason)]
    assert len(every) == 2


def test_faulty_tables_are_named_and_repeated_rows_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(found(tree(tmp_path, [*ROWS, ROWS[2]]))["a"].annotations) == 3
    assert "MS_CXR_Local_Alignment_v1.1.0.csv: 1 rows repeat another one and are ignored" in caplog.messages
    tree(tmp_path, [[*ROWS[0][:1], "Fracture", *ROWS[0][2:]]])
    with pytest.raises(UserError, match="names the category 'Fracture', which is none of Cardiomegaly, Pneumothorax"):
        found(tmp_path)
    (tmp_path / "MS_CXR_Local_Alignment_v1.1.0.csv").write_text("dicom_id,label_text\na,x\n")
    with pytest.raises(UserError, match=r"v1\.1\.0\.csv lacks column 'category_name', 'path'"):
        found(tmp_path)
    (tmp_path / "MS_CXR_Local_Alignment_v1.1.0.csv").unlink()
    with pytest.raises(UserError, match=r"has no MS_CXR_Local_Alignment_v1\.\*\.csv: --raw must be the folder"):
        found(tmp_path)


def test_a_cropped_copy_is_noted(tmp_path: Path) -> None:
    """Its boxes would be elsewhere."""
    from PIL import Image

    from imitate.data.decoding import Decoder
    from imitate.data.jobs import Decoded, Job, Setup

    LAYOUTS["ms-cxr"](tmp_path, n=20, seed=0, size=64)
    record = next(iter(found(tmp_path).values()))
    decoder = Decoder(Setup(32, "stretch", False))
    with Image.open(record.image) as image:
        small, cropped = image.resize((2 * image.width, 2 * image.height)), image.crop((0, 0, image.width, 50))
        small.load()
    for picture, noted in ((small, False), (cropped, True)):
        picture.save(record.image)
        decoded = decoder(Job.of(record))
        assert isinstance(decoded, Decoded) and (UNLIKE in decoded.notes) == noted
