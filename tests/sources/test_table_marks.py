"""Boxes and masks by columns."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import imitate
from imitate.data.annotations import Box, RunLengths
from imitate.data.corpus import Corpus
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.sources.table import SOURCE


def archive(root: Path, table: str, **more: str) -> Path:
    for name in ("a", "b", "c"):
        Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(64, 48).astype(np.uint8)).save(root / f"{name}.png")
    (root / "t.csv").write_text(table)
    for name, text in more.items():
        (root / f"{name}.csv").write_text(text)
    return root / "t.csv"


def read(raw: Path, **options: object) -> list[Record | Excluded]:
    return list(SOURCE.records(SOURCE.Options(raw=raw, **options)))


ROWS = "image_path,patient,findings\na.png,1,x\nb.png,2,y\nc.png,3,z\n"
BOX = {"box": ("x", "y", "w", "h")}


def test_a_row_for_each_box_of_the_table_itself(tmp_path: Path) -> None:
    path = archive(
        tmp_path,
        "image_path,patient,findings,x,y,w,h,what,text,who\n"
        'a.png,1,t,2,"3,5",10,"4,25",Nodule,small nodule,R1\na.png,1,t,5,6,7,8,Mass,,R2\nb.png,2,t,,,,,,,\n',
    )
    first, second = read(path, **BOX, mark_label="what", phrase="text", reader="who")
    assert first.annotations == (
        Box("Nodule", 2, 3.5, 10, 4.25, "small nodule", "R1"), Box("Mass", 5, 6, 7, 8, "", "R2")
    )  # fmt: skip
    assert (second.annotations, second.annotated, first.annotated) == ((), True, True)


def test_a_second_table_with_corners_and_a_frame(tmp_path: Path, caplog) -> None:
    boxes = "image_path,l,t,r,b\na.png,.1,.2,.5,.6\nabsent.png,.1,.1,.2,.2\na.png,.5,.5,.4,.9\n"
    path = archive(tmp_path, ROWS, boxes=boxes)
    options = {"boxes": tmp_path / "boxes.csv", "corners": ("l", "t", "r", "b")}
    with pytest.raises(UserError, match="all coordinates are within 0 and 1: if these are fractions, give --frame 1 1"):
        read(path, **options)
    found = read(path, **options, frame=(1, 1))
    (box,) = found[0].annotations
    assert box[1:5] == pytest.approx((0.1, 0.2, 0.4, 0.4)) and box.reference_size == (1, 1)
    assert [each.annotated for each in found] == [True, None, None]
    assert "boxes.csv: 1 rows are not used: box without area" in caplog.text
    assert "boxes.csv: 1 images are not in the table, the first 'absent.png'" in caplog.text


def test_mask_files_become_masks_and_regions(tmp_path: Path) -> None:
    mask = np.zeros((64, 48), np.uint8)
    mask[16:32, 12:36] = 1  # of ones, not of 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    rows = "image_path,patient,findings,m,what\na.png,1,x,m.png,Mass\nb.png,2,y,,\nc.png,3,z,torn.png,Mass\n"
    path = archive(tmp_path, rows)
    first, second, third = read(path, mask="m", mark_label="what")
    assert isinstance(first.annotations[0], RunLengths) and first.annotations[0].reference_size == (48, 64)
    assert second.annotations == (RunLengths("", "", (1, 1)),)
    assert third == Excluded("t.csv, row 3", "missing or unreadable mask")
    imitate.prepare("table", raw=path, out=tmp_path / "out", size=64, workers=1, mask="m", mark_label="what")
    data = Corpus.open(tmp_path / "out")
    assert data.masks is not None and data.masks[1].sum() == 0
    np.testing.assert_array_equal(np.argwhere(data.masks[0])[[0, -1]], [[16, 16], [31, 47]])
    assert data.columns is not None and [each.label for each in data.columns.regions(0)] == ["Mass"]


@pytest.mark.parametrize(
    ("boxes", "options", "message"),
    [
        ("x,y,w,h\n1,2,,4\n", BOX, r"boxes\.csv, row 1: column 'w' is blank, others are not"),
        ("x,y,w,h\n1,2,three,4\n", BOX, r"boxes\.csv, row 1: column 'w' holds 'three': expected a number"),
        ('x,y,w,h\n"1,234",2,3,4\n', BOX, r"row 1: '1,234' in column 'x' may be in thousands or a decimal fraction"),
        ('x,y,w,h\n"1.234,5",2,3,4\n', BOX, r"may be in thousands or a decimal fraction"),
        ("x,y,w\n1,2,3\n", BOX, r"lacks column 'h'"),
    ],
)
def test_numbers_that_could_mean_several_things_are_refused(tmp_path: Path, boxes, options, message) -> None:
    header, row = boxes.split("\n")[:2]
    path = archive(tmp_path, ROWS, boxes=f"image_path,{header}\na.png,{row}\n")
    with pytest.raises(UserError, match=message):
        read(path, boxes=tmp_path / "boxes.csv", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({**BOX, "corners": BOX["box"]}, "give box or corners, not both"),
        ({"phrase": "text"}, "phrase: also name the columns of box, corners or mask"),
        ({**BOX, "frame": (0, 1)}, "give a width and a height of 1 or more"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        imitate.prepare("table", raw=archive(tmp_path, ROWS), out=tmp_path / "out", **options)


def test_names_in_mixed_unicode_forms_are_found(tmp_path: Path) -> None:
    folder, name = unicodedata.normalize("NFD", "Röntgen"), unicodedata.normalize("NFC", "Übersicht.png")
    archive(tmp_path, ROWS)
    (tmp_path / folder).mkdir()
    (tmp_path / "a.png").rename(tmp_path / folder / name)
    (tmp_path / "t.csv").write_text("image_path,patient,findings\nRöntgen/Übersicht.png,1,x\n", encoding="utf-8")
    (record,) = read(tmp_path / "t.csv")
    assert record.image == (tmp_path / folder / name).resolve()


def test_ids_that_a_spreadsheet_rounded_or_could_not_compute(tmp_path: Path, caplog) -> None:
    path = archive(tmp_path, 'image_path,patient,findings\na.png,"1,23E+11",x\nb.png,#REF!,y\nc.png,#N/A,z\n')
    found = read(path)
    assert "t.csv: 1 patient ids such as '1,23E+11' are numbers rounded by a spreadsheet" in caplog.text
    assert [each.reason for each in found[1:]] == ["no patient", "no patient"]


@pytest.mark.parametrize(
    ("yes", "no"),
    [("WAHR", "FALSCH"), ("verdadero", "falso"), ("Vrai", "faux"), ("vorhanden", "nicht vorhanden"), ("Presente", "ausente"),
     ("présent", "absent"), ("Sí", "No"), ("oui", "non"), ("J", "N"), ("yes", "no")],
)  # fmt: skip
def test_yes_and_no_in_four_languages(yes: str, no: str, tmp_path: Path) -> None:
    path = archive(tmp_path, f"image_path,patient,Edema\na.png,1,{yes}\nb.png,2,{no}\nc.png,3,\n")
    assert [each.labels["Edema"] for each in read(path, labels=("Edema",))[:2] if isinstance(each, Record)] == [1, 0]


def test_a_mask_of_several_classes_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path, "image_path,patient,findings,m\na.png,1,x,m.png\n")
    mask = np.zeros((64, 48), np.uint8)
    mask[4:20, 4:20], mask[30:40, 4:20], mask[44:60, 25:40] = 1, 2, 3
    palette = Image.fromarray(mask).convert("P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    for image in (Image.fromarray(mask), palette):
        image.save(tmp_path / "m.png")
        with pytest.raises(
            UserError,
            match=r"mask .*m\.png has areas of the values .*: are these classes\? Write a file for each class",
        ):
            read(path, mask="m")


def test_smooth_edges_and_compression_are_no_classes(tmp_path: Path) -> None:
    path = archive(tmp_path, "image_path,patient,findings,m\na.png,1,x,m.jpg\n")
    canvas = Image.new("L", (480, 640))
    ImageDraw.Draw(canvas).ellipse((100, 100, 300, 420), fill=255)
    for quality, size in ((30, (480, 640)), (90, (48, 64)), (75, (960, 1280))):
        canvas.resize(size, Image.Resampling.BILINEAR).save(tmp_path / "m.jpg", quality=quality)
        (record,) = read(path, mask="m")
        assert isinstance(record, Record) and record.annotations[0].runs
