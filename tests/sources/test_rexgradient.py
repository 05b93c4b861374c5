import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imitate.data.pixels import read_gray
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.sources.rexgradient import HEADER, SOURCE

PLACE = "GRDN1/GRDN7/studies/S/series/T/instances"


def study(key: str = "pGRDN1_GRDN7", **values: str) -> dict[str, str]:
    return dict.fromkeys(HEADER, "None") | {"id": key, "Findings": "Clear lungs.", "Impression": "Normal."} | values


def tree(raw: Path, *studies: dict[str, str], **images: Any) -> Path:
    """``images`` is the content of the list of train, by study."""
    (raw / "metadata").mkdir(exist_ok=True)
    for part in ("train", "valid", "test"):
        rows = studies if part == "train" else [study(f"pGRDN_{part}")]
        pd.DataFrame(rows).to_csv(raw / "metadata" / f"{part}_metadata.csv", index=False)
        listed = images if part == "train" else {f"pGRDN_{part}": entry(f"{part}.png")}
        (raw / "metadata" / f"{part}_metadata_view_position.json").write_text(json.dumps(listed))
        for each in listed.values():
            for name in (name for name in each["ImagePath"] if name.startswith("../deid_png/")):
                path = raw / "deid_png" / name.removeprefix("../deid_png/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    return raw


def entry(*names: str, views: Any = None) -> dict[str, Any]:
    return {
        "ImagePath": [f"../deid_png/{PLACE}/{name}" for name in names],
        "ImageViewPosition": views or ["PA"] * len(names),
    }


def read(raw: Path) -> tuple[list[Record], Counter[str]]:
    found = list(SOURCE.records(SOURCE.Options(raw=raw)))
    excluded = Counter(each.reason for each in found if isinstance(each, Excluded))
    return [each for each in found if isinstance(each, Record) and each.split == "train"], excluded


def test_paths_lead_into_the_unpacked_folder_and_the_parts_are_splits(tmp_path: Path) -> None:
    raw = tree(tmp_path, study(PatientSex="F", PatientAge="045Y"), pGRDN1_GRDN7=entry("a.png"))
    (record,), _ = read(raw)
    assert record.image == tmp_path / "deid_png" / PLACE / "a.png"
    assert (record.patient, record.study, record.sex, record.age) == ("GRDN1", "pGRDN1_GRDN7", "F", 45.0)
    assert (record.findings, record.impression, record.language) == ("Clear lungs.", "Normal.", "en")
    every = [each for each in SOURCE.records(SOURCE.Options(raw=raw)) if isinstance(each, Record)]
    assert [each.split for each in every] == ["train", "val", "test"]


def test_projections_keep_abdomen_and_unknown_apart(tmp_path: Path) -> None:
    views = ["PA", "POSTERO_ANTERIOR", "ANTERO_POSTERIOR", "LL", "KUB", "N/A", "UNKNOWN", None, "AP AXIAL", "ERECT"]
    names = [f"{number}.png" for number in range(len(views))]
    records, _ = read(tree(tmp_path, study(), pGRDN1_GRDN7=entry(*names, views=views)))
    assert [each.projection for each in records] == [
        "PA",
        "PA",
        "AP",
        "LATERAL",
        "KUB",
        "",
        "",
        "",
        "AP AXIAL",
        "ERECT",
    ]
    traits = SOURCE.traits_of(SOURCE.Options(raw=tmp_path))
    assert traits.projections == ("PA", "AP"), "neither KUB nor an unknown one"


def test_the_word_none_is_no_section_and_infants_are_days_old(tmp_path: Path) -> None:
    row = study(Findings="None", Impression=" none. ", PatientAge="002D")
    (record,), _ = read(tree(tmp_path, row, pGRDN1_GRDN7=entry("a.png")))
    assert (record.findings, record.impression, record.language) == (None, None, "")
    assert record.age == pytest.approx(2 / 365.25, abs=1e-4)


def test_lists_may_be_texts(tmp_path: Path) -> None:
    given = entry("a.png", "b.png", views=["AP", "LATERAL"])
    raw = tree(tmp_path, study(PatientSex="['M']", Findings="['Clear.']"), pGRDN1_GRDN7=given)
    texts = {key: str(value) for key, value in given.items()}
    for content in ({"pGRDN1_GRDN7": texts}, [{"id": "pGRDN1_GRDN7", **texts}]):
        (raw / "metadata" / "train_metadata_view_position.json").write_text(json.dumps(content))
        records, _ = read(raw)
        assert [each.projection for each in records] == ["AP", "LATERAL"]
        assert {(each.sex, each.findings) for each in records} == {("M", "Clear.")}


def test_without_the_list_of_projections_they_are_unknown(tmp_path: Path) -> None:
    raw = tree(tmp_path, study(), pGRDN1_GRDN7=entry("a.png"))
    (raw / "metadata" / "train_metadata_view_position.json").unlink()
    listed = [{"id": "pGRDN1_GRDN7", "ImagePath": entry("a.png")["ImagePath"]}]
    (raw / "metadata" / "train_metadata.json").write_text(json.dumps(listed))
    (record,), _ = read(raw)
    assert record.projection == ""


def test_more_than_8_bits_are_read(tmp_path: Path) -> None:
    raw = tree(tmp_path, study(), pGRDN1_GRDN7=entry("a.png"))
    (record,), _ = read(raw)
    pixels = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 4
    Image.fromarray(pixels).save(record.image)
    np.testing.assert_array_equal(read_gray(record.image), pixels)


def test_what_does_not_match_is_excluded_with_its_reason(tmp_path: Path) -> None:
    listed = {"pGRDN1_GRDN7": entry("a.png", "gone.png"), "other": entry("b.png")}
    listed["pGRDN1_GRDN7"]["ImagePath"].append("../../secret.png")
    listed["pGRDN1_GRDN7"]["ImageViewPosition"].append("PA")
    raw = tree(tmp_path, study(), study("alone"), study("alone"), **listed)
    (raw / "deid_png" / PLACE / "gone.png").unlink()
    records, excluded = read(raw)
    assert [each.image.name for each in records] == ["a.png"]
    assert excluded == {
        "missing file": 1,
        "path is not of this archive": 1,
        "report without image": 1,
        "image without report": 1,
        "listed again": 1,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", r"is not the list of images \(JSONDecodeError"),
        ('[{"ImagePath": []}]', r"is not the list of images \(KeyError: 'id'"),
        ('{"a": {"ImagePath": ["x", "y"], "ImageViewPosition": ["PA"]}}', "2 images and 1 projections of one study"),
        ('{"a": {"ImagePath": "[open("}}', r"\(SyntaxError"),
        ("7", r"\(TypeError"),
    ],
)
def test_a_damaged_list_of_images_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    raw = tree(tmp_path, study(), pGRDN1_GRDN7=entry("a.png"))
    (raw / "metadata" / "train_metadata_view_position.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read(raw)


def test_parts_that_are_not_joined_yet_are_named(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    with pytest.raises(UserError, match="has no deid_png: --raw must be the folder"):
        read(tmp_path)
    (tmp_path / "deid_png.part00").touch()
    with pytest.raises(UserError, match=r"holds deid_png\.part00 and so on: join them into one file, which is a tar"):
        read(tmp_path)


def test_a_study_in_two_parts_is_refused(tmp_path: Path) -> None:
    raw = tree(tmp_path, study("pGRDN_valid"), pGRDN_valid=entry("a.png"))
    with pytest.raises(UserError, match=r"lists the study pGRDN_valid, which is in train_metadata\.csv too"):
        read(raw)


def test_another_header_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The order of the columns is free: the publishers' is not known."""
    raw = tree(tmp_path, study(), pGRDN1_GRDN7=entry("a.png"))
    path = raw / "metadata" / "train_metadata.csv"
    caplog.set_level(logging.WARNING)
    pd.DataFrame([study()])[list(reversed(HEADER))].to_csv(path, index=False)
    read(raw)
    assert not caplog.messages
    pd.DataFrame([study()]).drop(columns="StudyDate").to_csv(path, index=False)
    read(raw)
    assert caplog.messages == ["the header of train_metadata.csv differs from the published one: it lacks StudyDate"]
    pd.DataFrame([study()]).drop(columns="Findings").to_csv(path, index=False)
    with pytest.raises(UserError, match="lacks column 'Findings'"):
        read(raw)
