import logging
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.names import NIH
from imitate.sources.chestxray14 import SOURCE as CHESTXRAY14
from imitate.sources.nih_google import ALL, FOUR, SETS, SOURCE


def row(name: str = "00000001_000.png", **values: Any) -> dict[str, Any]:
    patient = str(int(name[:8]))
    known = {
        "Image Index": name,
        "Patient ID": patient,
        "View Position": "AP",
        "Patient Age": "58",
        "Patient Gender": "F",
    }
    return dict.fromkeys(SETS["four"].header, "NO") | known | values


def every(name: str = "00000001_000.png", **values: Any) -> dict[str, Any]:
    return dict.fromkeys(SETS["all"].header, "NO") | {"Image ID": name, "Patient ID": str(int(name[:8]))} | values


def tree(raw: Path, *, val: list[dict[str, Any]] | None = None, test: list[dict[str, Any]] | None = None) -> Path:
    folders = [raw / each.folder for each in SETS.values()]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    pd.DataFrame(val or [row("00000002_000.png")]).to_csv(folders[0] / "validation_labels.csv", index=False)
    pd.DataFrame(test or [row()]).to_csv(folders[0] / "test_labels.csv", index=False)
    pd.DataFrame([every()]).to_csv(folders[1] / "test_labels.csv", index=False)
    (raw / "images").mkdir(exist_ok=True)
    for number in (1, 2, 3):
        (raw / "images" / f"{number:08d}_000.png").touch()
    return raw


def read(raw: Path, **options: Any) -> tuple[list[Record], Counter[str]]:
    found = list(SOURCE.records(SOURCE.Options(raw=raw, **options)))
    excluded = Counter(each.reason for each in found if isinstance(each, Excluded))
    return [each for each in found if isinstance(each, Record)], excluded


def test_four_findings_of_val_and_test(tmp_path: Path) -> None:
    (val, test), _ = read(tree(tmp_path, test=[row(**{"Fracture": "YES", "Nodule or mass": "YES"})]))
    assert (val.split, test.split, test.projection, test.age, test.sex) == ("val", "test", "AP", 58.0, "F")
    assert test.labels == {name: float(name in ("Fracture", "Nodule or mass")) for name in FOUR}
    assert (test.image_id, test.patient, test.study) == ("00000001_000.png", "1", "00000001_000")


def test_all_findings_have_the_names_of_chestxray14(tmp_path: Path) -> None:
    raw = tree(tmp_path)
    path = raw / SETS["all"].folder / "test_labels.csv"
    pd.DataFrame([every(**{"Abnormal": "1", "Pleural Thickening": "YES", "Edema": ""})]).to_csv(path, index=False)
    (record,), _ = read(raw, findings="all")
    assert set(NIH) < set(ALL) and record.labels is not None and list(record.labels) == ["Abnormal", *NIH, "Other"]
    assert {name for name, value in record.labels.items() if value == 1} == {"Abnormal", "Pleural_Thickening"}
    assert record.labels["Edema"] != record.labels["Edema"], "blank is unknown"
    assert (record.split, record.projection) == ("test", "PA")
    options = SOURCE.Options(raw=raw, findings="all")
    assert SOURCE.classes_of(options) == tuple(ALL) and SOURCE.expected_of(options)["images in test"] == 810


@pytest.mark.parametrize("layout", ["images", "images_001/images", "images_003"])
def test_the_images_are_those_of_a_chestxray14_folder(tmp_path: Path, layout: str) -> None:
    raw = tree(tmp_path)
    (tmp_path / "nih" / layout).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(raw / "images", tmp_path / "nih" / layout)
    with pytest.raises(UserError, match=r"has no images/\*\.png: name the folder of ChestX-ray14 with --images"):
        read(raw)
    records, _ = read(raw, images=tmp_path / "nih")
    assert all(each.image.parent == tmp_path / "nih" / layout for each in records) and len(records) == 2


def test_patients_are_those_of_chestxray14() -> None:
    """Without zeros in front there, as here."""
    assert SOURCE.traits_of(SOURCE.Options(raw="x")).population == "chest-xray14"
    assert CHESTXRAY14.traits_of(CHESTXRAY14.Options(raw="x")).population == "chest-xray14"


def test_other_spellings_of_the_columns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    raw = tree(tmp_path)
    path = raw / SETS["four"].folder / "test_labels.csv"
    names = {"Nodule or mass": "Nodule/mass", "Set Id": "Set ID", "Airspace opacity": "Airspace Opacity"}
    pd.DataFrame([row(**{"Airspace opacity": "YES"})]).rename(columns=names).to_csv(path, index=False)
    (_, record), _ = read(raw)
    assert record.labels is not None and record.labels["Airspace opacity"] == 1 and not caplog.messages
    pd.DataFrame([row()]).drop(columns="Set Id").assign(Reader="x").to_csv(path, index=False)
    read(raw)
    assert caplog.messages == [
        "the header of test_labels.csv differs from the published one: it lacks Set Id; it also has Reader"
    ]
    pd.DataFrame([row()]).drop(columns="Fracture").to_csv(path, index=False)
    with pytest.raises(UserError, match="lacks column 'Fracture'"):
        read(raw)


def test_faults_of_the_rows(tmp_path: Path) -> None:
    rows = [row(), row(), row("00000009_000.png")]
    records, excluded = read(tree(tmp_path, test=rows))
    assert len(records) == 2 and excluded == {"listed again": 1, "missing file": 1}
    with pytest.raises(UserError, match="lists 1 ids again with other values"):
        read(tree(tmp_path, test=[row(), row(Fracture="YES")]))
    with pytest.raises(UserError, match="column 'Fracture' holds 'PERHAPS': expected YES, NO or blank"):
        read(tree(tmp_path, test=[row(Fracture="PERHAPS")]))
    with pytest.raises(UserError, match="holds 1 images of validation_labels.csv too, 00000001_000.png first"):
        read(tree(tmp_path, val=[row()], test=[row()]))
