import logging
import zipfile
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imitate.data.decoding import Decoder
from imitate.data.dicom import ImageError
from imitate.data.jobs import Job, Setup
from imitate.data.records import Excluded, Record
from imitate.data.tables import hashed_split
from imitate.errors import UserError
from imitate.sources.padchest import CLASSES, HEADER, SOURCE, TABLE

PIXELS = np.linspace(0, 65_535, 32 * 32).astype(np.uint16).reshape(32, 32)


def row(name: str = "a.png", folder: str = "0", **values: Any) -> dict[str, Any]:
    known = {"ImageID": name, "ImageDir": folder, "StudyID": "s1", "PatientID": "p1", "Projection": "PA"}
    known |= {"Labels": "['normal']", "MethodLabel": "Physician", "Report": "sin hallazg ."}
    return {"": "0"} | dict.fromkeys(HEADER, "") | known | values


def png(pixels: np.ndarray = PIXELS) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def tree(raw: Path, *rows: dict[str, Any], zipped: tuple[str, ...] = ()) -> Path:
    """Those in ``zipped`` folders lie in archives."""
    pd.DataFrame(rows).to_csv(raw / f"{TABLE}.csv", index=False)
    for folder in {str(each["ImageDir"]) for each in rows}:
        names = [each["ImageID"] for each in rows if each["ImageDir"] == folder]
        if folder in zipped:
            with zipfile.ZipFile(raw / f"{folder}.zip", "w") as archive:
                for name in names:
                    archive.writestr(name, png())
            continue
        (raw / "images" / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (raw / "images" / folder / name).write_bytes(png())
    return raw


def read(raw: Path, **options: Any) -> tuple[list[Record], Counter[str]]:
    found = list(SOURCE.records(SOURCE.Options(raw=raw, **options)))
    excluded = Counter(each.reason for each in found if isinstance(each, Excluded))
    return [each for each in found if isinstance(each, Record)], excluded


def gray(record: Record) -> np.ndarray:
    return Decoder(Setup(32, "stretch", masks=False)).read(Job.of(record))[0]


def test_archives_are_read_in_place_at_full_depth(tmp_path: Path) -> None:
    raw = tree(tmp_path, row(), row("b.png", "1", PatientID="p2"), zipped=("1",))
    (first, second), excluded = read(raw)
    assert first.image == raw / "images" / "0" / "a.png" and not first.member and not excluded
    assert (second.image, second.member) == (raw / "1.zip", "b.png")
    for record in (first, second):
        np.testing.assert_array_equal(gray(record), PIXELS)
    assert not any(raw.rglob("b.png")), "nothing is unpacked"


def test_monochrome1_is_inverted_and_the_window_of_the_table_is_not_applied_again(tmp_path: Path) -> None:
    values = {
        "PhotometricInterpretation_DICOM": "MONOCHROME1",
        "WindowCenter_DICOM": "[5.0, 7]",
        "WindowWidth_DICOM": "9",
    }
    (record, other), _ = read(
        tree(
            tmp_path,
            row(**values),
            row("b.png", PatientID="p2", **{**values, "PhotometricInterpretation_DICOM": "MONOCHROME2"}),
        )
    )
    assert record.window is None and record.invert and not other.invert
    np.testing.assert_array_equal(gray(record), 65_535 - PIXELS)
    np.testing.assert_array_equal(gray(other), PIXELS)


def test_broken_files_are_found_while_decoding(tmp_path: Path) -> None:
    """Truncated ones, and those with a lost block, as on the lists of broken files that users have published."""
    raw = tree(tmp_path, row(), row("b.png", PatientID="p2"), row("c.png", "1", PatientID="p3"), zipped=("1",))
    whole = png(np.random.default_rng(0).integers(0, 2**16, (64, 64)).astype(np.uint16))
    (raw / "images/0/a.png").write_bytes(whole[: len(whole) // 2])
    (raw / "images/0/b.png").write_bytes(whole[:1000] + bytes(512) + whole[1512:])
    with zipfile.ZipFile(raw / "1.zip", "w") as archive:
        archive.writestr("c.png", whole[:100])
    for record in read(raw)[0]:
        with pytest.raises(ImageError, match="damaged"):
            gray(record)


def test_a_truncated_archive_excludes_its_images_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = tree(tmp_path, row(), row("b.png", "1"), row("c.png", "1"), zipped=("1",))
    (raw / "1.zip").write_bytes((raw / "1.zip").read_bytes()[:300])
    records, excluded = read(raw)
    assert [each.image_id for each in records] == ["a.png"]
    assert excluded == {"damaged, encrypted or unsupported archive": 2}
    (message,) = caplog.messages
    assert message.startswith(f"{raw / '1.zip'} cannot be read (")


def test_missing_images_and_hostile_names(tmp_path: Path) -> None:
    raw = tree(tmp_path, row(), row("b.png"), row("c.png", "7"))
    (raw / "images/0/b.png").unlink()
    (raw / "images/7/c.png").unlink()
    (tmp_path.parent / "secret.png").write_bytes(png())
    table = pd.read_csv(raw / f"{TABLE}.csv", dtype=str, keep_default_na=False)
    table.loc[3] = row("../../../secret.png")
    table.loc[4] = row("e.png", PatientID="")
    table.to_csv(raw / f"{TABLE}.csv", index=False)
    records, excluded = read(raw)
    assert [each.image_id for each in records] == ["a.png"]
    assert excluded == {"missing file": 2, "image outside the root": 1, "row without ids": 1}


@pytest.mark.parametrize(
    ("cell", "positive"),
    [
        ("['infiltrates', ' pleural effusion', '']", {"infiltrates", "pleural effusion"}),
        ("['Atelectasis basal ', 'rib fracture']", {"atelectasis", "fracture"}),
        ("['pseudonodule', 'multiple nodules', 'massive']", {"nodule"}),
        ("['COPD signs']", {"COPD signs"}),
        ("['normal', 'unchanged']", {"normal"}),
        ("[]", None),
        ("['unchanged']", None),
        ("", None),
    ],
)
def test_labels_are_texts_of_lists_with_stray_blanks_and_cases(
    tmp_path: Path, cell: str, positive: set[str] | None
) -> None:
    (record,), _ = read(tree(tmp_path, row(Labels=cell)))
    if positive is None:
        assert record.labels is None
    else:
        assert record.labels == {name: float(name in positive) for name in CLASSES}


def test_exact_classes_of_the_user_s_own(tmp_path: Path) -> None:
    raw = tree(tmp_path, row(Labels="['atelectasis basal', 'Scoliosis']"))
    own = {"classes": ("atelectasis", "scoliosis"), "match": "exact"}
    (record,), _ = read(raw, **own)
    assert record.labels == {"atelectasis": 0.0, "scoliosis": 1.0}
    assert SOURCE.classes_of(SOURCE.Options(raw=raw, **own)) == ("atelectasis", "scoliosis")


def test_images_that_their_readers_exclude_are_excluded(tmp_path: Path) -> None:
    rows = [
        row(Labels="['exclude']"),
        row("b.png", Labels="['cardiomegaly', ' suboptimal study']"),
        row("c.png", Projection="EXCLUDE"),
        row("d.png", Projection="AP_horizontal"),
        row("e.png", Projection="L"),
        row("f.png", Projection="COSTAL"),
    ]
    records, excluded = read(tree(tmp_path, *rows))
    assert excluded == {"labelled exclude": 1, "labelled suboptimal study": 1, "projection EXCLUDE": 1}
    assert [each.projection for each in records] == ["AP_HORIZONTAL", "LATERAL", "COSTAL"]
    assert SOURCE.traits_of(SOURCE.Options(raw=tmp_path)).projections == ("PA", "AP", "AP_HORIZONTAL")


def test_labels_of_physicians_only(tmp_path: Path) -> None:
    raw = tree(tmp_path, row(), row("b.png", MethodLabel="RNN_model"))
    assert [each.labels is None for each in read(raw)[0]] == [False, False]
    assert [each.labels is None for each in read(raw, labelled_by="physician")[0]] == [False, True]


def test_reports_are_spanish_findings(tmp_path: Path) -> None:
    rows = [row(Report=" derram pleural . cardiomegali . "), row("b.png", Report="", PatientID="p2")]
    (record, silent), _ = read(tree(tmp_path, *rows))
    assert (record.findings, record.impression, record.language) == ("derram pleural. cardiomegali.", None, "es")
    assert (silent.findings, silent.language) == (None, "")


def test_people_and_their_split(tmp_path: Path) -> None:
    known = {"PatientBirth": "1951.0", "StudyDate_DICOM": "20140512", "PatientSex_DICOM": "M"}
    rows = [
        row(Manufacturer_DICOM="PhilipsMedicalSystems", **known),
        row("b.png", PatientBirth="", StudyDate_DICOM="20140512", PatientSex_DICOM="O"),
        *(row(f"{number}.png", PatientID=str(number)) for number in range(200)),
    ]
    records, _ = read(tree(tmp_path, *rows))
    assert (records[0].sex, records[0].age, records[0].scanner) == ("M", 63.0, "PhilipsMedicalSystems")
    assert (records[1].sex, records[1].age) == ("O", None)
    assert all(each.split == hashed_split(each.patient) for each in records)
    assert {each.split for each in records} == {"train", "val", "test"}


def test_repeated_rows_are_excluded_and_contradicting_ones_refused(tmp_path: Path) -> None:
    """The index, which differs, is no part of a row."""
    records, excluded = read(tree(tmp_path, row(), {**row(), "": "1"}))
    assert len(records) == 1 and excluded == {"listed again": 1}
    with pytest.raises(UserError, match="lists 1 ids again with other values, first 'a.png'"):
        read(tree(tmp_path, row(), row(PatientID="p2")))


@pytest.mark.parametrize("cell", ["['normal'", "normal", "7", "{'a': 1}[", "[1]"])
def test_labels_that_are_no_list_are_one_line(tmp_path: Path, cell: str) -> None:
    with pytest.raises(UserError, match="is not a list of labels: download the table again"):
        read(tree(tmp_path, row(Labels=cell)))


def test_another_header_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    raw = tree(tmp_path, row())
    read(raw)
    assert not caplog.messages
    table = pd.DataFrame([row()])
    table.drop(columns=["", "labelCUIS"]).to_csv(raw / f"{TABLE}.csv", index=False)
    read(raw)
    assert caplog.messages == [f"the header of {TABLE}.csv differs from the published one: it lacks labelCUIS"]
    table.drop(columns="MethodLabel").to_csv(raw / f"{TABLE}.csv", index=False)
    with pytest.raises(UserError, match="lacks column 'MethodLabel'"):
        read(raw)
    (raw / f"{TABLE}.csv").unlink()
    with pytest.raises(UserError, match=rf"has no {TABLE}\.csv: --raw must be the folder"):
        read(raw)
