import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from imitate.data.annotations import Box
from imitate.data.pixels import read_gray
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.names import VINDR, VINDR_LOCAL
from imitate.sources.vindr_cxr import SOURCE
from imitate.synthetic.layouts import LAYOUTS

CORNERS = ["x_min", "y_min", "x_max", "y_max"]


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def labels(*names: str) -> list[int]:
    return [int(name in names) for name in VINDR]


def tree(root: Path, *, reader: str = "rad_id", normal: int = 10) -> Path:
    """Two images with findings, ``normal`` without, and two test images."""
    train = [
        ["a", "R8", *labels("Cardiomegaly", "Nodule/Mass")],
        ["a", "R9", *labels("Cardiomegaly", "COPD")],
        ["a", "R10", *labels("Cardiomegaly", "Nodule/Mass")],
        ["b", "R1", *labels("Nodule/Mass")],
        ["b", "R2", *labels("No finding")],
        ["b", "R3", *labels("No finding")],
    ]
    train += [[f"n{i}", each, *labels("No finding")] for i in range(normal) for each in ("R8", "R9", "R10")]
    boxes: list[list[object]] = [
        ["a", "R8", "Cardiomegaly", 100, 200, 300, 300],
        ["a", "R9", "Cardiomegaly", 102, 200, 302, 300],
        ["a", "R10", "Cardiomegaly", 104, 200, 304, 300],
        ["a", "R8", "Nodule/Mass", 10, 10, 20, 20],
        ["a", "R10", "Nodule/Mass", 50, 50, 60, 60],
        ["b", "R1", "Nodule/Mass", 5, 5, 9, 9],
        ["b", "R2", "No finding", "", "", "", ""],
        ["n0", "R8", "No finding", 0, 0, 1, 1],
        ["a", "R9", "COPD", "", "", "", ""],
    ]
    write(root / "annotations/image_labels_train.csv", ["image_id", reader, *VINDR], train)
    write(root / "annotations/annotations_train.csv", ["image_id", reader, "class_name", *CORNERS], boxes)
    test = ["Other disease" if name == "Other diseases" else name for name in VINDR]
    write(root / "annotations/image_labels_test.csv", ["image_id", *test],
          [["t", *labels("Edema", "Other diseases")], ["u", *labels("No finding")]])  # fmt: skip
    write(root / "annotations/annotations_test.csv", ["image_id", "class_name", *CORNERS],
          [["t", "Edema", 1, 2, 31, 42], ["u", "No finding", "", "", "", ""]])  # fmt: skip
    for part, names in (("train", {str(row[0]) for row in train}), ("test", {"t", "u"})):
        (root / part).mkdir()
        for name in names:
            (root / part / f"{name}.dicom").touch()
    return root


def found(root: Path, **options: Any) -> dict[str, Record]:
    every = SOURCE.records(SOURCE.Options(raw=root, **options))
    return {each.image_id: each for each in every if isinstance(each, Record)}


def positive(record: Record) -> set[str]:
    return {name for name, value in (record.labels or {}).items() if value > 0}


@pytest.mark.parametrize("reader", ["rad_id", "rad_ID"])
def test_the_vote_decides_the_labels(reader: str, tmp_path: Path) -> None:
    root = tree(tmp_path, reader=reader)
    of_a = {votes: positive(found(root, votes=votes)["a"]) for votes in ("any", "majority", "all")}
    assert of_a == {
        "any": {"Cardiomegaly", "Nodule/Mass", "COPD"},
        "majority": {"Cardiomegaly", "Nodule/Mass"},
        "all": {"Cardiomegaly"},
    }
    assert positive(found(root)["b"]) == {"No finding"}
    assert positive(found(root, votes="any")["b"]) == {"Nodule/Mass", "No finding"}
    assert all(record.annotated for record in found(root).values())


def test_a_fraction_of_the_readers_is_a_label_of_training_images_alone(tmp_path: Path) -> None:
    records = found(tree(tmp_path, normal=60), votes="fraction")
    by_split = {split: [each for each in records.values() if each.split == split] for split in ("train", "val", "test")}
    assert [len(each) for each in by_split.values()] == [50, 12, 2]
    for name, fraction in (("Nodule/Mass", 2 / 3), ("COPD", 1 / 3), ("Cardiomegaly", 1.0), ("Edema", 0.0)):
        assert records["a"].split == "train" and records["a"].labels and records["a"].labels[name] == fraction
    for split in ("val", "test"):
        assert {value for each in by_split[split] for value in (each.labels or {}).values()} <= {0.0, 1.0}


def test_the_consensus_is_the_test_whatever_the_vote(tmp_path: Path) -> None:
    for votes in ("any", "all", "fraction"):
        record = found(tmp_path if votes != "any" else tree(tmp_path), votes=votes)["t"]
        assert record.split == "test" and positive(record) == {"Edema", "Other diseases"}
        assert record.annotations == (Box("Edema", 1, 2, 30, 40),)


def test_boxes_of_readers_are_fused_or_kept(tmp_path: Path) -> None:
    fused = found(tree(tmp_path))
    assert fused["a"].annotations == (
        Box("Cardiomegaly", 102, 200, 200, 100),
        Box("Nodule/Mass", 10, 10, 10, 10),
        Box("Nodule/Mass", 50, 50, 10, 10),
    )
    assert fused["b"].annotations == fused["n0"].annotations == ()  # voted down, and rows of No finding
    assert found(tmp_path, votes="any")["b"].annotations == (Box("Nodule/Mass", 5, 5, 4, 4),)
    kept = found(tmp_path, boxes="readers")
    assert [(box.label, box.reader) for box in kept["a"].annotations if isinstance(box, Box)] == [
        ("Cardiomegaly", "R8"), ("Cardiomegaly", "R9"), ("Cardiomegaly", "R10"), ("Nodule/Mass", "R8"),
        ("Nodule/Mass", "R10"),
    ]  # fmt: skip
    assert kept["b"].annotations == (Box("Nodule/Mass", 5, 5, 4, 4, reader="R1"),)


def test_an_image_is_a_patient_and_a_fifth_of_training_is_val(tmp_path: Path) -> None:
    records = found(tree(tmp_path, normal=38))
    assert Counter(each.split for each in records.values()) == {"train": 32, "val": 8, "test": 2}
    assert all(each.patient == each.image_id for each in records.values())
    assert SOURCE.traits_of(SOURCE.Options(raw=tmp_path)).patients == "images"
    assert {name: each.split for name, each in records.items()} == {k: v.split for k, v in found(tmp_path).items()}


def rewritten(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        ("image_labels_train", ("COPD", "CPOD"), r"image_labels_train\.csv lacks the labels COPD; its columns are image_id"),
        ("image_labels_train", ("a,R9", "a,R8"), "lists 1 ids more than once, first 'a of R8': remove the duplicate rows"),
        ("image_labels_train", ("n0,R8,0", "n0,R8,2"), "column 'Aortic enlargement' holds '2' in 1 rows: expected 0, 1"),
        ("image_labels_train", ("n0,R8,0", "n0,R8,"), "column 'Aortic enlargement' is blank in 1 of 36 rows"),
        ("annotations_train", ("a,R8,Cardiomegaly", "z,R8,Cardiomegaly"), "names 1 images without labels, z first"),
        ("annotations_train", ("R8,Cardiomegaly", "R8,Kyphosis"), "names the class 'Kyphosis', which is none of Aortic"),
        ("annotations_train", ("x_max", "xmax"), r"annotations_train\.csv lacks column 'x_max'"),
        ("annotations_test", ("1,2,31", "1,two,31"), "column 'y_min' holds 'two' in 1 rows"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_right_are_refused(
    table: str, change: tuple[str, str], said: str, tmp_path: Path
) -> None:
    rewritten(tree(tmp_path) / "annotations" / f"{table}.csv", change)
    with pytest.raises(UserError, match=said):
        found(tmp_path)


def reasons(root: Path) -> Iterator[tuple[str, str]]:
    for each in SOURCE.records(SOURCE.Options(raw=root)):
        if isinstance(each, Excluded):
            yield Path(each.source).stem, each.reason


def test_odd_rows_are_counted_and_bad_boxes_exclude_their_image(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    boxes = tree(tmp_path) / "annotations/annotations_train.csv"
    rewritten(boxes, ("b,R1,Nodule/Mass,5,5,9,9", "b,R1,Nodule/Mass,5,5,9,9\nb,R1,Nodule/Mass,5,5,9,9"))
    rewritten(boxes, ("a,R8,Cardiomegaly", "n2,R8,Edema,1,1,9,9\na,R8,Cardiomegaly"))
    rewritten(
        tmp_path / "annotations/image_labels_train.csv", (f"n1,R8,{','.join(map(str, labels('No finding')))}\n", "")
    )
    records = found(tmp_path, votes="any")
    assert records["b"].annotations == (Box("Nodule/Mass", 5, 5, 4, 4),)
    assert "annotations_train.csv: 1 rows repeat another one and are ignored" in caplog.messages
    assert records["n1"].notes == ("labels of 2 readers, not 3",)
    assert records["n2"].notes == ("box of a class that its labels deny",)
    (tmp_path / "train" / "n3.dicom").unlink()
    rewritten(boxes, ("5,5,9,9", "5,5,5,9"), ("100,200", ",200"))
    assert dict(reasons(tmp_path)) == {
        "a": "box without coordinates", "b": "box without area", "n3": "missing file",
    }  # fmt: skip


def test_both_gray_scales_of_the_layout_show_the_same(tmp_path: Path) -> None:
    """Its MONOCHROME1 files are negatives of what the others would hold."""
    LAYOUTS["vindr-cxr"](tmp_path, n=20, seed=1, size=64)
    kinds = Counter()
    for path in sorted(tmp_path.rglob("*.dicom")):
        data = pydicom.dcmread(path)
        kinds[data.PhotometricInterpretation] += 1
        stored = data.pixel_array.astype(int)
        shown = 4095 - stored if data.PhotometricInterpretation == "MONOCHROME1" else stored
        assert np.corrcoef(read_gray(path).ravel(), shown.ravel())[0, 1] > 0.999 and data.BitsStored == 12
    assert kinds == {"MONOCHROME1": 6, "MONOCHROME2": 14}


def test_the_published_counts_are_of_the_classes() -> None:
    counts = {
        votes: SOURCE.expected_of(SOURCE.Options(raw="x", votes=votes)) for votes in ("any", "majority", "fraction")
    }
    assert counts["majority"]["No finding"] == 12_652 and counts["majority"]["ILD"] == 373
    assert counts["any"]["ILD"] == 618 and "ILD" not in counts["fraction"] and counts["fraction"]["ILD in test"] == 221
    assert set(VINDR_LOCAL) < set(SOURCE.classes) == set(VINDR)
