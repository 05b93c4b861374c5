"""Sex, age and further demographics of each source, from its tables and, only if asked, from DICOM headers."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import imitate
from imitate.data.corpus import Corpus
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.sources.chestxray14 import SOURCE as CHESTXRAY14
from imitate.sources.chexpert import CLASSES, OTHERS
from imitate.sources.chexpert import SOURCE as CHEXPERT
from imitate.sources.mimic_cxr import SOURCE as MIMIC
from imitate.sources.table import SOURCE as TABLE
from imitate.synthetic.cases import draw_case
from imitate.synthetic.files import save_dicom, save_picture


def usable(found: "list[Record | Excluded]") -> list[Record]:
    return [each for each in found if isinstance(each, Record)]


def save(root: Path, name: str, **columns: list[object]) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(root / name, index=False)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"pixels")


def test_chestxray14(tmp_path: Path) -> None:
    names, count = [f"{i:08}_000.png" for i in range(20)], 20
    columns = {"Image Index": names, "Finding Labels": ["Mass"] * count, "Patient ID": [*range(count)]}
    columns |= {"Patient Age": ["058Y", "414", *["60"] * 18], "Patient Gender": ["F", "M"] * 10}
    save(tmp_path, "Data_Entry_2017.csv", **columns, **{"View Position": ["PA"] * count})
    touch(tmp_path, *(f"images/{name}" for name in names))

    first, second, *_ = usable(list(CHESTXRAY14.records(CHESTXRAY14.Options(raw=tmp_path, split_by="patient"))))

    assert (first.sex, first.age, first.originals) == ("F", 58, ("sex: f", "age: nnnY"))
    assert (second.sex, second.age, second.originals) == ("M", None, ("sex: m", "age: impossible"))


def test_chexpert_with_its_table_of_races(tmp_path: Path) -> None:
    for part, start in (("train", 1), ("valid", 64541)):
        paths = [f"CheXpert-v1.0/{part}/patient{start + i}/study1/view1_frontal.jpg" for i in range(20)]
        touch(tmp_path, *(path.partition("/")[2] for path in paths))
        about = {"Path": paths, "Sex": ["Female"] * 20, "Age": [0, *[90] * 19], "Frontal/Lateral": ["Frontal"] * 20}
        labels = {name: [1.0 if place == i % 5 else None for i in range(20)] for place, name in enumerate(CLASSES)}
        save(tmp_path, f"{part}.csv", **about, **{"AP/PA": ["PA"] * 20}, **labels, **{n: [None] * 20 for n in OTHERS})
    races = {"PATIENT": ["patient64541"], "PRIMARY_RACE": ["White, non-Hispanic"], "ETHNICITY": ["Unknown"]}
    pd.DataFrame(races).to_excel(tmp_path / "CHEXPERT DEMO.xlsx", index=False)

    found = {each.patient: each for each in usable(list(CHEXPERT.records(CHEXPERT.Options(raw=tmp_path))))}

    assert (found["patient64541"].sex, found["patient64541"].age) == ("F", None)
    assert found["patient64541"].extra["race"] == "White" and found["patient64541"].extra["ethnicity"] == "Unknown"
    assert found["patient64541"].extra["race_recorded"] == "White, non-Hispanic"
    assert (found["patient64542"].age, found["patient64542"].extra) == (90, {})


def test_mimic_cxr_with_the_tables_of_mimic_iv(tmp_path: Path) -> None:
    subjects = ["10000001", "10000002", "10000003", "10000004"]
    ids = {"dicom_id": list("abcd"), "subject_id": subjects, "study_id": [f"5000000{i}" for i in range(4)]}
    days = {"StudyDate": ["21800506"] * 4, "ViewPosition": ["PA"] * 4}
    save(tmp_path, "mimic-cxr-2.0.0-metadata.csv", **ids, **days)
    save(tmp_path, "mimic-cxr-2.0.0-split.csv", **ids, split=["train"] * 4)
    studies = [f"p10/p{subject}/s5000000{i}" for i, subject in enumerate(subjects)]
    touch(tmp_path, *(f"files/{study}/{name}.jpg" for study, name in zip(studies, "abcd", strict=True)))
    for study in studies:
        (tmp_path / f"files/{study}.txt").write_text(" FINAL REPORT\n FINDINGS: The lungs are clear.\n")
    people = {"subject_id": subjects[:3], "gender": ["F", "M", "F"], "anchor_age": [60, 91, 0]}
    save(tmp_path, "hosp/patients.csv.gz", **people, anchor_year=[2178, 2150, 2170])
    stays = {
        "subject_id": [10000001, 10000001, 10000002, 10000002],
        "insurance": ["Private", "Medicare", None, "Other"],
    }
    times = ["2179-01-01 10:00:00", "2181-01-01 10:00:00", "2180-01-01 00:00:00", "2180-05-05 00:00:00"]
    races = ["WHITE", "UNKNOWN", "WHITE - RUSSIAN", "ASIAN"]
    save(tmp_path, "hosp/admissions.csv.gz", **stays, admittime=times, race=races)

    one, two, three, four = usable(list(MIMIC.records(MIMIC.Options(raw=tmp_path))))

    assert (one.sex, one.age) == ("F", 62)
    assert one.extra == {"race": "White", "race_recorded": "UNKNOWN; WHITE", "insurance": "Private"}
    assert (two.sex, two.age) == ("M", 91)  # over 89
    assert two.extra == {"race_recorded": "ASIAN; WHITE - RUSSIAN", "insurance": "Other"}
    assert (three.sex, three.age, three.originals) == ("F", None, ("sex: f", "age: zero"))
    assert (four.sex, four.age, four.originals) == ("", None, ("sex: blank", "age: blank"))
    with pytest.raises(UserError, match=r"no patients\.csv\.gz in .* give the folder of MIMIC-IV's tables"):
        list(MIMIC.records(MIMIC.Options(raw=tmp_path, mimic_iv=tmp_path / "files")))


def test_a_table_maps_its_own_columns(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.png" for i in range(60)))
    about = {
        "image_path": [f"{i}.png" for i in range(60)],
        "patient": [*range(60)],
        "report": ["Findings: clear."] * 60,
    }
    people = {"Geschlecht": ["w"] * 60, "Alter": ["3M", *["44"] * 59], "Site": ["B"] * 60}
    save(tmp_path, "t.csv", **about, **people, note=[f"text {i}" for i in range(60)])

    def read(*columns: str) -> Record:
        return usable(list(TABLE.records(TABLE.Options(raw=tmp_path, group_columns=columns))))[0]

    record = read("sex=Geschlecht", "age=Alter", "Site")
    assert (record.sex, record.age, record.extra) == ("F", 0.25, {"site": "B"})
    assert read().sex == "" and read().originals == ()
    with pytest.raises(UserError, match=r"group column 'note' holds 60 different values, more than 50"):
        read("note")
    with pytest.raises(UserError, match="ethnicity"):
        read("ethnicity")


def test_a_header_is_read_only_if_asked(tmp_path: Path) -> None:
    case = draw_case(0, 0)
    raw = tmp_path / "raw"
    pixels = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    save_dicom(raw / "a.dcm", pixels, case, uids=["1.2.3", "1.2.4", "1.2.5"])
    save_picture(raw / "b.png", pixels)
    about = {"image_path": ["a.dcm", "b.png"], "patient": [1, 2], "report": ["Findings: clear."] * 2}
    save(raw, "t.csv", **about, sex=["", "F"], split=["test"] * 2)
    options = {"raw": raw, "size": 32, "workers": 1, "group_columns": ("sex",)}

    plain = imitate.prepare("table", out=tmp_path / "plain", **options)
    asked = imitate.prepare(
        "table", out=tmp_path / "asked", **options, from_header=("PatientSex", "PatientAge", "ViewPosition")
    )

    table = Corpus.open(tmp_path / "asked").table
    assert (
        table["sex"].to_list() == [case.sex, "F"] and table["age"].iloc[0] == case.age and table["age"].isna().iloc[1]
    )
    assert table["projection"].to_list() == [case.view, ""]
    assert asked["demographics"] == {
        "sex": {"F": 2} if case.sex == "F" else {"F": 1, "M": 1},
        "age": {"known": 1, "missing": 1},
    }
    assert asked["originals"] == {
        "tables": {"sex": {"blank": 1, "f": 1}},
        "headers": {"age": {"nnnY": 1}, "sex": {case.sex.lower(): 1}, "file": {"no DICOM": 1}},
    }
    assert Corpus.open(tmp_path / "plain").table["sex"].to_list() == ["", "F"]
    assert plain["originals"]["headers"] == {} and json.loads((tmp_path / "plain/index.json").read_text()) == plain
    with pytest.raises(UserError, match="from_header: PatientName is not one of PatientSex, PatientAge"):
        imitate.prepare("table", out=tmp_path / "name", **options, from_header=("PatientName",))
