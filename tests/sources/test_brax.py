import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from imitate.data.records import Excluded, Record
from imitate.data.tables import hashed_split
from imitate.errors import UserError
from imitate.names import CHEXPERT
from imitate.sources.brax import HEADER, SOURCE, TABLES


def row(number: int = 1, **values: Any) -> dict[str, Any]:
    place = f"id_p{number}/Study_s/Series_t/image-{number}"
    known = {"DicomPath": f"Anonymized_DICOMs/{place}.dcm", "PngPath": f"images/{place}.png"}
    known |= {"PatientID": f"p{number}", "AccessionNumber": "1", "ViewPosition": "PA"}
    return {"": number} | dict.fromkeys(HEADER, "") | known | values


def tree(raw: Path, *rows: dict[str, Any], column: str = "PngPath", name: str = TABLES[0]) -> Path:
    pd.DataFrame(rows).to_csv(raw / name, index=False)
    for each in rows:
        path = raw / each[column]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return raw


def read(raw: Path, **options: Any) -> tuple[list[Record], Counter[str]]:
    found = list(SOURCE.records(SOURCE.Options(raw=raw, **options)))
    excluded = Counter(each.reason for each in found if isinstance(each, Excluded))
    return [each for each in found if isinstance(each, Record)], excluded


@pytest.mark.parametrize("name", TABLES)
def test_either_table_and_either_kind_of_images(tmp_path: Path, name: str) -> None:
    raw = tree(tmp_path, row(), column="DicomPath", name=name)
    (record,), _ = read(raw)
    assert record.image.suffix == ".dcm"
    tree(tmp_path, row(), row(2), name=name)
    assert [each.image.suffix for each in read(raw)[0]] == [".png", ".png"]
    records, excluded = read(raw, images="dicom")
    assert [each.image.suffix for each in records] == [".dcm"] and excluded == {"missing file": 1}


@pytest.mark.parametrize("ending", ["-123456", "1234567", "_pp.png"])
def test_the_ending_of_a_path_is_checked_against_the_disk(tmp_path: Path, ending: str) -> None:
    raw = tree(tmp_path, row())
    written = f"images/id_p1/Study_s/Series_t/image-1{'.png' * (not ending.endswith('.png'))}{ending}"
    pd.DataFrame([row(PngPath=written)]).to_csv(raw / TABLES[0], index=False)
    (record,), _ = read(raw)
    assert record.image == raw / "images/id_p1/Study_s/Series_t/image-1.png"


def test_projections_people_and_studies(tmp_path: Path) -> None:
    views = ["PA", "AP", "L", "RL", "RLO", "LT-DECUB", "AP LLD", ""]
    ages = ["85 or more", "0", "25", "", "", "", "", ""]
    rows = [
        row(number, ViewPosition=view, PatientAge=age, PatientSex="F", Manufacturer="Philips")
        for number, (view, age) in enumerate(zip(views, ages, strict=True))
    ]
    records, _ = read(tree(tmp_path, *rows))
    assert [each.projection for each in records] == ["PA", "AP", "LATERAL", "LATERAL", "RLO", "LT-DECUB", "AP LLD", ""]
    assert [each.age for each in records[:3]] == [85.0, None, 25.0]
    assert {each.sex for each in records} == {"F"} and {each.scanner for each in records} == {"Philips"}
    assert len({each.study for each in records}) == len(records), "an accession number is unique with its patient only"
    assert all(each.split == hashed_split(each.patient) for each in records)
    assert SOURCE.traits_of(SOURCE.Options(raw=tmp_path)).projections == ("PA", "AP")


@pytest.mark.parametrize(("policy", "edema"), [("unknown", None), ("positive", 1), ("negative", 0), ("mixed", 1)])
def test_labels_by_policy(tmp_path: Path, policy: str, edema: int | None) -> None:
    (record,), _ = read(tree(tmp_path, row(Edema="-1", Fracture="1.0", Pneumonia="0")), uncertain=policy)
    assert record.labels is not None and list(record.labels) == list(CHEXPERT)
    found = {name: None if value != value else value for name, value in record.labels.items()}
    assert found == dict.fromkeys(CHEXPERT, 0) | {"Edema": edema, "Fracture": 1}


def test_faults_of_the_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    records, excluded = read(tree(tmp_path, row(), {**row(), "": "2"}))
    assert len(records) == 1 and excluded == {"listed again": 1} and not caplog.messages
    with pytest.raises(UserError, match="lists 1 ids again with other values"):
        read(tree(tmp_path, row(), row(Edema="1")))
    with pytest.raises(UserError, match="column 'Edema' holds 'yes' in 1 rows: expected 1, 0, -1 or blank"):
        read(tree(tmp_path, row(Edema="yes")))
    with pytest.raises(UserError, match="column 'PatientID' is blank in 1 of 1 rows"):
        read(tree(tmp_path, row(PatientID="")))
    pd.DataFrame([row()]).drop(columns="Rows").assign(Site="x").to_csv(tmp_path / TABLES[0], index=False)
    read(tmp_path)
    assert caplog.messages == [
        f"the header of {TABLES[0]} differs from the published one: it lacks Rows; it also has Site"
    ]
    pd.DataFrame([row()]).drop(columns="PngPath").to_csv(tmp_path / TABLES[0], index=False)
    with pytest.raises(UserError, match="lacks column 'PngPath'"):
        read(tmp_path)


def test_images_that_are_not_there(tmp_path: Path) -> None:
    pd.DataFrame([row()]).to_csv(tmp_path / TABLES[0], index=False)
    with pytest.raises(UserError, match="has no images or Anonymized_DICOMs: --raw must be the folder"):
        read(tmp_path)
    raw = tree(tmp_path, row())
    pd.DataFrame([row(), row(2), row(3, PngPath="../../secret.png")]).to_csv(raw / TABLES[0], index=False)
    records, excluded = read(raw)
    assert len(records) == 1 and excluded == {"missing file": 1, "image outside the root": 1}
