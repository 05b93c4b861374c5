"""Layouts of the sources with reports: official names and columns, files that are there, reports that fit."""

import hashlib
import io
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imitate.errors import UserError
from imitate.synthetic.cases import CLASSES
from imitate.synthetic.labels import CHEXPERT
from imitate.synthetic.layouts import LAYOUTS

N = 36


def written(name: str, out: Path) -> Path:
    LAYOUTS[name](out, n=N, seed=1, size=64)
    return out


@pytest.fixture(scope="module")
def mimic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written("mimic-cxr", tmp_path_factory.mktemp("mimic"))


@pytest.fixture(scope="module")
def open_i(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written("open-i", tmp_path_factory.mktemp("open-i"))


def digest(folder: Path) -> dict[str, str]:
    """Of each file, and of each member of a zip archive."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    for path in (path for path in files if path.suffix == ".zip"):
        with zipfile.ZipFile(path) as archive:
            found |= {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    return found


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(name: str, tmp_path: Path) -> None:
    for folder, seed in (("first", 7), ("second", 7), ("other", 8)):
        LAYOUTS[name](tmp_path / folder, n=20, seed=seed, size=64)
    first, second, other = (digest(tmp_path / folder) for folder in ("first", "second", "other"))
    assert first == second and len(first) > 20
    pictures = {value for name, value in first.items() if name.endswith((".png", ".jpg", ".dcm", ".dicom"))}
    assert len(pictures) == 20 and not pictures & set(other.values())


@pytest.mark.parametrize("name", LAYOUTS)
def test_mistakes_are_reported(name: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="not an empty folder: give --out"):
        LAYOUTS[name](tmp_path / "full", n=20, seed=0, size=64)
    with pytest.raises(UserError, match="3 images are too few"):
        LAYOUTS[name](tmp_path / "new", n=3, seed=0, size=64)
    with pytest.raises(UserError, match="32 px"):
        LAYOUTS[name](tmp_path / "new", n=20, seed=0, size=32)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


def test_mimic_tables_have_the_official_columns(mimic: Path) -> None:
    metadata = pd.read_csv(mimic / "mimic-cxr-2.0.0-metadata.csv.gz")
    assert metadata.columns.tolist() == [
        "dicom_id",
        "subject_id",
        "study_id",
        "PerformedProcedureStepDescription",
        "ViewPosition",
        "Rows",
        "Columns",
        "StudyDate",
        "StudyTime",
        "ProcedureCodeSequence_CodeMeaning",
        "ViewCodeSequence_CodeMeaning",
        "PatientOrientationCodeSequence_CodeMeaning",
    ]
    assert len(metadata) == N and metadata["dicom_id"].is_unique
    assert metadata["dicom_id"].str.fullmatch(r"([0-9a-f]{8}-){4}[0-9a-f]{8}").all()
    assert metadata["ViewPosition"].dropna().isin(["PA", "AP", "LATERAL", "LL"]).all()
    assert pd.to_datetime(metadata["StudyDate"], format="%Y%m%d").dt.year.between(2150, 2200).all()
    split = pd.read_csv(mimic / "mimic-cxr-2.0.0-split.csv.gz")
    assert split.columns.tolist() == ["dicom_id", "study_id", "subject_id", "split"]
    assert set(split["split"]) == {"train", "validate", "test"}
    assert (split.groupby("subject_id")["split"].nunique() == 1).all()


def test_mimic_images_lie_where_the_tables_say(mimic: Path) -> None:
    for row in pd.read_csv(mimic / "mimic-cxr-2.0.0-metadata.csv.gz").itertuples():
        path = mimic / f"files/p{str(row.subject_id)[:2]}/p{row.subject_id}/s{row.study_id}/{row.dicom_id}.jpg"
        assert re.fullmatch(r"1\d{7}", str(row.subject_id)) and re.fullmatch(r"5\d{7}", str(row.study_id))
        with Image.open(path) as image:
            assert image.mode == "L" and image.size == (row.Columns, row.Rows)
    names = (mimic / "IMAGE_FILENAMES").read_text().split()
    sums = dict(reversed(line.split()) for line in (mimic / "SHA256SUMS.txt").read_text().splitlines())
    assert sorted(names) == sorted(sums) and len(names) == N
    assert all(hashlib.sha256((mimic / name).read_bytes()).hexdigest() == sums[name] for name in names)


def test_mimic_has_one_report_and_one_row_of_labels_a_study(mimic: Path) -> None:
    metadata = pd.read_csv(mimic / "mimic-cxr-2.0.0-metadata.csv.gz")
    with zipfile.ZipFile(mimic / "mimic-cxr-reports.zip") as archive:
        names = set(archive.namelist())
        assert all(archive.read(name).decode("ascii").startswith(" ") for name in names)
    keys = metadata[["subject_id", "study_id"]].drop_duplicates()
    assert names == {f"files/p{str(p)[:2]}/p{p}/s{s}.txt" for p, s in keys.itertuples(index=False)}
    labels = pd.read_csv(mimic / "mimic-cxr-2.0.0-chexpert.csv.gz")
    assert labels.columns.tolist() == ["subject_id", "study_id", *sorted(CHEXPERT)]
    assert set(labels["study_id"]) == set(keys["study_id"]) and labels["study_id"].is_unique
    values = labels[list(CHEXPERT)].to_numpy()
    assert set(np.unique(values[~np.isnan(values)])) == {-1.0, 0.0, 1.0} and np.isnan(values).any()


def test_open_i_lists_reports_images_and_one_file_that_is_missing(open_i: Path) -> None:
    reports = pd.read_csv(open_i / "indiana_reports.csv")
    assert reports.columns.tolist() == [
        "uid",
        "MeSH",
        "Problems",
        "image",
        "indication",
        "comparison",
        "findings",
        "impression",
    ]
    assert reports["uid"].is_unique and reports["indication"].str.contains("XXXX").all()
    projections = pd.read_csv(open_i / "indiana_projections.csv")
    assert projections.columns.tolist() == ["uid", "filename", "projection"]
    assert set(projections["projection"]) == {"Frontal", "Lateral"}
    assert set(projections["uid"]) == set(reports["uid"])
    there = {path.name for path in (open_i / "images" / "images_normalized").iterdir()}
    assert len(there) == N and len(set(projections["filename"]) - there) == 1
    assert projections["filename"].str.fullmatch(r"\d+_IM-\d{4}-\d{4}\.dcm\.png").all()


def test_open_i_xml_holds_the_same_reports(open_i: Path) -> None:
    from defusedxml.ElementTree import parse

    reports = pd.read_csv(open_i / "indiana_reports.csv").set_index("uid")
    with tarfile.open(open_i / "NLMCXR_reports.tgz", "r:gz") as archive:
        documents = {member.name: archive.extractfile(member).read() for member in archive}
    assert set(documents) == {f"ecgen-radiology/{uid}.xml" for uid in reports.index}
    for uid, row in reports.iterrows():
        root = parse(io.BytesIO(documents[f"ecgen-radiology/{uid}.xml"])).getroot()
        texts = {part.get("Label"): part.text for part in root.iter("AbstractText")}
        assert root.find("uId").get("id") == f"CXR{uid}"
        for name in ("findings", "impression"):
            assert texts[name.upper()] == (None if pd.isna(row[name]) else row[name])
        assert root.find("parentImage").get("id").startswith(f"CXR{uid}_IM-")


def test_table_names_images_sections_and_labels(tmp_path: Path) -> None:
    table = pd.read_csv(written("table", tmp_path) / "table.csv")
    assert table.columns.tolist()[:7] == [
        "image_path",
        "patient",
        "study",
        "split",
        "projection",
        "findings",
        "impression",
    ]
    assert table.columns.tolist()[7:] == list(CLASSES) and table[list(CLASSES)].isin([0, 1]).all(axis=None)
    assert table["image_path"].is_unique and all((tmp_path / name).is_file() for name in table["image_path"])
    assert table["findings"].isna().any() and (table.groupby("patient")["split"].nunique() == 1).all()
