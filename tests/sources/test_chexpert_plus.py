import json
import logging
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.names import CHEXPERT
from imitate.sources.chexpert_plus import HEADER, SOURCE, TABLE
from imitate.sources.conventions import UNCERTAIN


def row(name: str = "train/patient1/study2/view1_frontal.jpg", **values: Any) -> dict[str, Any]:
    part, patient, *_ = name.split("/")
    known = {"path_to_image": name, "path_to_dcm": name.replace(".jpg", ".dcm"), "deid_patient_id": patient}
    known |= {"frontal_lateral": "Frontal", "ap_pa": "AP", "split": part, "section_impression": "Clear."}
    return dict.fromkeys(HEADER, "") | known | values


def tree(raw: Path, *rows: dict[str, Any], suffix: str = ".png", folder: str = "PNG") -> Path:
    pd.DataFrame(rows).to_csv(raw / TABLE, index=False)
    for each in rows:
        path = raw / folder / str(each["path_to_image"]).replace(".jpg", suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return raw


def labelled(raw: Path, *entries: dict[str, Any], section: str = "impression") -> None:
    (raw / "chexbert_labels").mkdir(exist_ok=True)
    lines = [json.dumps(dict.fromkeys(CHEXPERT) | each) for each in entries]
    (raw / "chexbert_labels" / f"{section}_fixed.json").write_text("\n".join(lines) + "\n")


def read(raw: Path, **options: Any) -> tuple[list[Record], Counter[str]]:
    found = list(SOURCE.records(SOURCE.Options(**{"raw": raw, "labels": "none", **options})))
    excluded = Counter(each.reason for each in found if isinstance(each, Excluded))
    return [each for each in found if isinstance(each, Record)], excluded


@pytest.mark.parametrize(
    ("folder", "suffix", "taken"),
    [
        ("PNG", ".png", None),
        ("PNG/PNG", ".png", "png"),
        ("DICOM/Uncompressed", ".dcm", None),
        ("DICOM/Compressed", ".dcm", "dicom"),
        ("CheXpert-v1.0", ".jpg", None),
        (".", ".jpg", "jpg"),
    ],
)
def test_paths_end_in_jpg_whatever_the_images_are(tmp_path: Path, folder: str, suffix: str, taken: str | None) -> None:
    (record,), excluded = read(tree(tmp_path, row(), suffix=suffix, folder=folder), images=taken)
    assert record.image == tmp_path / folder / f"train/patient1/study2/view1_frontal{suffix}" and not excluded
    assert record.image_id == "train/patient1/study2/view1_frontal"
    assert (record.patient, record.study) == ("patient1", "train/patient1/study2")


def test_the_zips_of_png_files_are_read_in_place_and_a_truncated_one_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"train/patient{number}/study1/view1_frontal" for number in range(4)]
    tree(tmp_path, *(row(f"{name}.jpg") for name in names), folder="elsewhere")
    for number, some in enumerate((names[:2], names[2:])):
        with zipfile.ZipFile(tmp_path / f"png_chexpert_plus_chunk_{number}.zip", "w") as archive:
            for name in some:
                archive.writestr(f"PNG/{name}.png", b"pixels" * 99)
    records, _ = read(tmp_path)
    assert [(each.image.name[-5:], each.member) for each in records] == [
        (f"{number // 2}.zip", f"PNG/{name}.png") for number, name in enumerate(names)
    ]
    last = tmp_path / "png_chexpert_plus_chunk_1.zip"
    last.write_bytes(last.read_bytes()[:200])
    records, excluded = read(tmp_path)
    assert len(records) == 2 and excluded == {"damaged, encrypted or unsupported archive": 2}
    assert "chunk_1.zip cannot be read" in caplog.text


def test_one_kind_of_images_is_taken_and_the_rest_is_missing(tmp_path: Path) -> None:
    first, second, third = (f"train/patient{number}/study1/view1_frontal.jpg" for number in (1, 2, 3))
    tree(tmp_path, row(first), suffix=".dcm", folder="DICOM/Uncompressed")
    tree(tmp_path, row(first), row(second), row(third), suffix=".jpg", folder="CheXpert-v1.0")
    part = tmp_path / "DICOM/Uncompressed/train/patient2/study1"
    part.mkdir(parents=True)
    (part / ".azDownload-4f-view1_frontal.dcm").write_bytes(b"half")
    records, excluded = read(tmp_path)
    assert [each.image.suffix for each in records] == [".dcm"]
    assert excluded == {"partial download": 1, "missing file": 1}
    with pytest.raises(UserError, match=r"has no image of df_chexpert_plus_240401\.csv as png: put PNG, DICOM or"):
        read(tmp_path, images="png")


def test_cells_with_written_line_breaks_are_texts_or_nothing(tmp_path: Path) -> None:
    cells = {"section_findings": "\\n", "section_impression": "\\n1. Clear.\\n2. No\\n\\neffusion.\\n"}
    (record,), _ = read(tree(tmp_path, row(**cells)))
    assert (record.findings, record.impression) == (None, "1. Clear. 2. No effusion.")
    (record,), _ = read(tree(tmp_path, row(section_impression="")))
    assert (record.findings, record.impression, record.language) == (None, None, "")


def test_the_accession_number_is_no_key(tmp_path: Path) -> None:
    """One value covers hundreds of images."""
    rows = [row(f"train/patient{number}/study1/view1_frontal.jpg", section_accession_number="7") for number in (1, 2)]
    records, _ = read(tree(tmp_path, *rows))
    assert len({each.study for each in records}) == len({each.patient for each in records}) == 2


def test_projections_splits_and_people(tmp_path: Path) -> None:
    known = {"age": "61.0", "sex": "Female", "race": "White or Caucasian", "ethnicity": "Hispanic/Latino"}
    rows = [
        row(ap_pa="PA", insurance_type="Medicare", **known),
        row("valid/patient3/study1/view1_frontal.jpg", ap_pa="LL", age="0", sex="Unknown", race="Unknown"),
        row("valid/patient3/study1/view2_lateral.jpg", frontal_lateral="Lateral", ap_pa=""),
        row("train/patient4/study1/view1_frontal.jpg", split=""),
    ]
    records, excluded = read(tree(tmp_path, *rows))
    assert [each.projection for each in records] == ["PA", "FRONTAL", "LATERAL"]
    assert [each.split for each in records] == ["train", "val", "val"] and excluded == {"no split": 1}
    first, second, _ = records
    assert (first.sex, first.age, first.extra) == (
        "F", 61.0, {"race": "White", "ethnicity": "Hispanic/Latino", "insurance": "Medicare"},
    )  # fmt: skip
    assert (second.sex, second.age, second.extra) == ("", None, {})
    by_patient, _ = read(tmp_path, split_by="patient")
    assert len(by_patient) == 4 and len({(each.patient, each.split) for each in by_patient}) == 3
    assert SOURCE.traits_of(SOURCE.Options(raw=tmp_path)).test_sets == ()


@pytest.mark.parametrize(
    ("policy", "edema", "mass"),
    [("unknown", None, None), ("positive", 1, 1), ("negative", 0, 0), ("mixed", 1, 0)],
)
def test_uncertain_labels_by_policy(tmp_path: Path, policy: str, edema: int | None, mass: int | None) -> None:
    tree(tmp_path, row(), row("train/patient2/study1/view1_frontal.jpg"))
    said = {"Edema": -1.0, "Lung Lesion": -1.0, "Fracture": 1.0, "Pneumonia": 0.0}
    labelled(
        tmp_path,
        {"path_to_image": "train/patient1/study2/view1_frontal.jpg", **said},
        {"path_to_image": "train/patient2/study1/view1_frontal.jpg"},
    )
    (first, second), _ = read(tmp_path, labels="impression", uncertain=policy)
    assert first.labels is not None and list(first.labels) == list(CHEXPERT)
    found = {name: None if value != value else value for name, value in first.labels.items()}
    assert (found["Edema"], found["Lung Lesion"], found["Fracture"], found["Pneumonia"]) == (edema, mass, 1, 0)
    assert found["Cardiomegaly"] == 0, "not mentioned"
    assert second.labels is None, "there is no text to read labels from"
    assert policy in UNCERTAIN


def test_labels_of_the_first_release_are_joined_by_path(tmp_path: Path) -> None:
    tree(tmp_path, row())
    for part, patient in (("train", "patient1"), ("valid", "patient9")):
        path = f"CheXpert-v1.0-small/{part}/{patient}/study2/view1_frontal.jpg"
        pd.DataFrame([{"Path": path, **dict.fromkeys(CHEXPERT, 0), "Edema": 1}]).to_csv(tmp_path / f"{part}.csv")
    (record,), _ = read(tmp_path, labels="chexpert")
    assert record.labels == {name: float(name == "Edema") for name in CHEXPERT}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 2: not path_to_image and the 14 labels \(JSONDecodeError"),
        ('{"path_to_image": "a.jpg"}', r"line 2: not path_to_image and the 14 labels \(KeyError: 'No Finding'"),
        (json.dumps({"path_to_image": "a.jpg", **dict.fromkeys(CHEXPERT, 2)}), "14 labels are not 1, 0, -1 or null"),
    ],
)
def test_damaged_labels_are_one_line(tmp_path: Path, line: str, message: str) -> None:
    labelled(tree(tmp_path, row()), {"path_to_image": "train/patient1/study2/view1_frontal.jpg"})
    with (tmp_path / "chexbert_labels" / "impression_fixed.json").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=message):
        read(tmp_path, labels="impression")


def test_absent_labels_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no chexbert_labels/findings_fixed.json"):
        read(tree(tmp_path, row()), labels="findings")


def test_repeated_rows_are_excluded_and_contradicting_ones_refused(tmp_path: Path) -> None:
    records, excluded = read(tree(tmp_path, row(), row()))
    assert len(records) == 1 and excluded == {"listed again": 1}
    with pytest.raises(
        UserError, match="lists 1 ids again with other values, first 'train/patient1/study2/view1_frontal"
    ):
        read(tree(tmp_path, row(), row(age="7")))


def test_another_header_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An unnamed index column, which some copies have, is no difference."""
    caplog.set_level(logging.WARNING)
    pd.DataFrame([row()]).to_csv(tree(tmp_path, row()) / TABLE)
    assert len(read(tmp_path)[0]) == 1 and not caplog.messages
    table = pd.DataFrame([row()]).drop(columns=["recent_bmi", "report"]).assign(site="x")
    table.to_csv(tmp_path / TABLE, index=False)
    assert len(read(tmp_path)[0]) == 1
    assert caplog.messages == [
        f"the header of {TABLE} differs from the published one: it lacks report, recent_bmi; it also has site"
    ]
    table.drop(columns=["sex", "split"]).to_csv(tmp_path / TABLE, index=False)
    with pytest.raises(UserError, match="lacks column 'sex', 'split'; its columns are"):
        read(tmp_path)


@pytest.mark.parametrize(
    "values",
    [{"path_to_image": "../secret.jpg"}, {"deid_patient_id": "patient2"}, {"path_to_image": "train/patient1/../a.jpg"}],
)
def test_a_path_that_is_not_of_the_archive_is_refused(tmp_path: Path, values: dict[str, str]) -> None:
    tree(tmp_path, row())
    pd.DataFrame([row(**values)]).to_csv(tmp_path / TABLE, index=False)
    with pytest.raises(UserError, match="is not <part>/<deid_patient_id>/studyN/<file>"):
        read(tmp_path)


def test_an_unknown_split_is_refused_with_the_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{TABLE}: unknown split 'holdout'"):
        read(tree(tmp_path, row(split="holdout")))
