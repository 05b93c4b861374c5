import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from imitate.data.annotations import Box
from imitate.data.decoding import Decoder
from imitate.data.jobs import Decoded, Job, Setup
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.sources.padchest_gr import SOURCE
from imitate.synthetic.layouts import LAYOUTS

EFFUSION = {
    "sentence_en": "Small left  pleural effusion.",
    "sentence_es": "Pequeño derrame pleural izquierdo.",
    "abnormal": True,
    "boxes": [[0.6, 0.7, 0.9, 0.95], [0.1, 0.8, 0.2, 0.9]],
    "extra_boxes": [[0.5, 0.7, 0.9, 1.0]],
    "labels": ["pleural effusion", "Loculated Pleural Effusion"],
}
DIFFUSE = {"sentence_en": "Osteopenia.", "sentence_es": "Osteopenia.", "abnormal": True, "labels": ["osteopenia"]}
NORMAL = {"sentence_en": "No consolidation.", "sentence_es": "Sin consolidación.", "abnormal": False}
HEADER = ["StudyID", "ImageID", "label", "split", "PatientID", "PatientSex_DICOM", "PatientAge"]
ROWS = [
    ["s1", "a.png", "pleural effusion", "train", "p1", "F", "71"],
    ["s1", "a.png", "loculated pleural effusion", "train", "p1", "F", "71"],
    ["s1", "a.png", "osteopenia", "train", "p1", "F", "71"],
    ["s2", "b.png", "Normal", "validation", "p2", "O", "0"],
]


def tree(root: Path, rows: list[list[str]] = ROWS, *, more: Any = (), **changes: Any) -> Path:
    entries = [
        {"StudyID": "s1", "ImageID": "a.png", "findings": [EFFUSION | changes, DIFFUSE, NORMAL]},
        {"StudyID": "s2", "ImageID": "b.png", "findings": [NORMAL]},
        *more,
    ]
    (root / "grounded_reports_20240819.json").write_text(json.dumps(entries), encoding="utf-8")
    with (root / "master_table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *rows])
    (root / "PadChest_GR").mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        (root / "PadChest_GR" / name).touch()
    return root


def found(root: Path, **options: Any) -> dict[str, Record]:
    every = SOURCE.records(SOURCE.Options(raw=root, **options))
    return {each.image_id: each for each in every if isinstance(each, Record)}


def test_sentences_are_the_report_and_the_phrases_of_their_boxes(tmp_path: Path) -> None:
    records = found(tree(tmp_path))
    phrase = "Small left pleural effusion."
    first, second = records["a.png"].annotations
    assert isinstance(first, Box) and isinstance(second, Box)
    assert first[1:5] == pytest.approx((0.6, 0.7, 0.3, 0.25)) and second[1:5] == pytest.approx((0.1, 0.8, 0.1, 0.1))
    for box in (first, second):
        assert (box.label, box.phrase, box.reader, box.reference_size) == ("pleural effusion", phrase, "1", (1, 1))
    assert records["a.png"].findings == f"{phrase} Osteopenia. No consolidation." and records["a.png"].language == "en"
    assert records["b.png"].annotations == () and records["b.png"].findings == "No consolidation."
    spanish = found(tmp_path, language="es")["a.png"]
    assert spanish.language == "es" and spanish.annotations[0].phrase == "Pequeño derrame pleural izquierdo."


def test_the_second_reader_is_kept_apart(tmp_path: Path) -> None:
    tree(tmp_path)
    boxes = {name: found(tmp_path, readers=name)["a.png"].annotations for name in ("first", "second", "both")}
    assert {name: [box.reader for box in some] for name, some in boxes.items()} == {
        "first": ["1", "1"], "second": ["2"], "both": ["1", "1", "2"],
    }  # fmt: skip


def test_labels_and_patients_are_those_of_the_table(tmp_path: Path) -> None:
    records = found(tree(tmp_path))
    labels = ("loculated pleural effusion", "normal", "osteopenia", "pleural effusion")
    assert SOURCE.classes_of(SOURCE.Options(raw=tmp_path)) == labels
    assert records["a.png"].labels == dict(zip(labels, (1.0, 0.0, 1.0, 1.0), strict=True))
    about = [(each.patient, each.split, each.sex, each.age) for each in records.values()]
    assert about == [("p1", "train", "F", 71.0), ("p2", "val", "O", None)]
    assert found(tree(tmp_path, labels=["kyphosis"]))["a.png"].notes == ("label that the table lacks",)


def test_images_are_read_from_the_archive(tmp_path: Path) -> None:
    LAYOUTS["padchest-gr"](tmp_path / "raw", n=20, seed=0, size=64)
    folder = tmp_path / "raw/PadChest_GR"
    unpacked = found(tmp_path / "raw")
    with zipfile.ZipFile(tmp_path / "raw/PadChest_GR.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"PadChest_GR/{path.name}")
    folder.rename(tmp_path / "elsewhere")
    zipped = found(tmp_path / "raw")
    assert zipped.keys() == unpacked.keys() and len(zipped) == 20
    decoder = Decoder(Setup(32, "stretch", False))
    for name, record in list(zipped.items())[:2]:
        assert record.image.name == "PadChest_GR.zip"
        there = Job.of(record)
        here = there._replace(image=tmp_path / "elsewhere" / name, member="")
        one, other = decoder(there), decoder(here)
        assert isinstance(one, Decoded) and isinstance(other, Decoded) and (one.image == other.image).all()
    whole = (tmp_path / "raw/PadChest_GR.zip").read_bytes()
    (tmp_path / "raw/PadChest_GR.zip").write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"PadChest_GR\.zip is not a readable zip .*: copy or download it again"):
        found(tmp_path / "raw")
    (tmp_path / "raw/PadChest_GR.zip").rename(tmp_path / "raw/PadChest_GR.zip.001")
    with pytest.raises(UserError, match=r"has no images in PadChest_GR: join .*PadChest_GR\.zip\.001 and the parts"):
        found(tmp_path / "raw")


def test_negatives_are_named_by_padchest_s_own_table(tmp_path: Path) -> None:
    tree(tmp_path)
    assert [each.invert for each in found(tmp_path).values()] == [None, None]
    table = tmp_path / "PADCHEST.csv"
    table.write_text("ImageID,PhotometricInterpretation_DICOM\na.png,MONOCHROME1\nb.png,MONOCHROME2\n")
    assert [each.invert for each in found(tmp_path, padchest=table).values()] == [True, False]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"boxes": [[0.6, 0.7, 0.6, 0.9]]}, "box without area"),
        ({"boxes": [[1.1, 0.7, 1.2, 0.9]]}, "box outside the image"),
        ({"boxes": [[0.6, 0.7, None, 0.9]]}, "malformed entry"),
        ({"boxes": [[0.6, 0.7, 0.9]]}, "malformed entry"),
        ({"labels": 3}, "malformed entry"),
    ],
)
def test_an_image_of_a_bad_entry_is_excluded(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    every = list(SOURCE.records(SOURCE.Options(raw=tree(tmp_path, **change))))
    assert [each for each in every if isinstance(each, Excluded)] == [Excluded("a.png", reason)] and len(every) == 2


def test_images_that_something_lacks_are_excluded(tmp_path: Path) -> None:
    more = [{"ImageID": "c.png", "findings": []}, {"ImageID": "d.png", "findings": []}, {"findings": []}, 7]
    rows = [*ROWS[:3], [*ROWS[3][:3], "", *ROWS[3][4:]]]
    tree(tmp_path, rows, more=more)
    (tmp_path / "PadChest_GR/c.png").touch()
    every = SOURCE.records(SOURCE.Options(raw=tmp_path))
    assert [(each.source.rpartition(", ")[2], each.reason) for each in every if isinstance(each, Excluded)] == [
        ("b.png", "no split"),
        ("c.png", "not in master_table.csv"),
        ("d.png", "missing file"),
        ("entry 5", "malformed entry"),
        ("entry 6", "malformed entry"),
    ]


def test_a_wrong_tree_is_reported_in_one_line(tmp_path: Path) -> None:
    tree(tmp_path, more=[{"ImageID": "a.png", "findings": []}])
    with pytest.raises(UserError, match=r"grounded_reports_20240819\.json lists a\.png again"):
        found(tmp_path)
    tree(tmp_path, [*ROWS, ["s2", "b.png", "x", "test", "p2", "O", "0"]])
    with pytest.raises(UserError, match=r"several splits, patients, sexes or ages for b\.png"):
        found(tmp_path)
    (tmp_path / "master_table.csv").write_text("ImageID,split,label\na.png,train,x\n")
    with pytest.raises(UserError, match=r"master_table\.csv lacks column 'PatientID'"):
        found(tmp_path)
    (tmp_path / "grounded_reports_20240819.json").write_text('[{"ImageID": "a')
    with pytest.raises(UserError, match="is not readable JSON"):
        found(tmp_path)
    (tmp_path / "grounded_reports_20240819.json").unlink()
    with pytest.raises(UserError, match=r"has no grounded_reports_\*\.json"):
        found(tmp_path)
