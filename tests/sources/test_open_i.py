import io
import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.sources.open_i import CLASSES, SOURCE

XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{uid}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="INDICATION">Cough.</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">{impression}</AbstractText>
</Abstract></Article></MedlineCitation>{images}</eCitation>"""


def xml(uid: int, findings: str, impression: str, *images: str) -> str:
    pictures = "".join(f'<parentImage id="{image}"><caption>x</caption></parentImage>' for image in images)
    return XML.format(uid=uid, findings=findings, impression=impression, images=pictures)


def images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"pixels")


def csv_tree(root: Path) -> Path:
    (root / "indiana_reports.csv").write_text(
        "uid,MeSH,Problems,image,indication,comparison,findings,impression\n"
        '1,,,,,,"Lungs are\n clear.",Normal.\n2,,,,,,,Edema.\n3,,,,,,,\n4,,,,,,Heart.,\n'
    )
    (root / "indiana_projections.csv").write_text(
        "uid,filename,projection\n1,1_IM-0001-4001.dcm.png,Frontal\n1,1_IM-0001-3001.dcm.png,Lateral\n"
        "2,2_IM-0002-1001.dcm.png,Frontal\n2,2_IM-0002-1002.dcm.png,Frontal\n3,3_IM-0003-1001.dcm.png,Frontal\n"
        "9,9_IM-0009-1001.dcm.png,Frontal\n"
    )
    return root


def archive(root: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(root / "NLMCXR_reports.tgz", "w:gz") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


def read(raw: Path) -> tuple[dict[str, Record], dict[str, str]]:
    found = list(SOURCE.records(SOURCE.Options(raw=raw)))
    excluded = {Path(entry.source).name: entry.reason for entry in found if isinstance(entry, Excluded)}
    return {entry.image_id: entry for entry in found if isinstance(entry, Record)}, excluded


def test_csv_form(tmp_path: Path) -> None:
    images(csv_tree(tmp_path), "a/b/1_IM-0001-4001.dcm.jpg", "a/1_IM-0001-3001.dcm.jpg", "2_IM-0002-1001.png")
    images(tmp_path, "3_IM-0003-1001.dcm.png", "9_IM-0009-1001.dcm.png", "8_IM-0008-1001.dcm.png")
    found, excluded = read(tmp_path)
    assert set(found) == {"1_IM-0001-4001", "1_IM-0001-3001", "2_IM-0002-1001"}
    lateral = found["1_IM-0001-3001"]
    assert (lateral.projection, lateral.findings) == ("LATERAL", "Lungs are clear.")
    first, second = found["1_IM-0001-4001"], found["2_IM-0002-1001"]
    assert (first.findings, first.impression) == ("Lungs are clear.", "Normal.")
    assert (first.patient, first.study, first.projection, first.labels) == ("1", "1", "FRONTAL", None)
    assert first.image == tmp_path / "a/b/1_IM-0001-4001.dcm.jpg"
    assert (second.findings, second.impression) == (None, "Edema.")
    assert excluded == {
        "2_IM-0002-1002": "missing file",
        "3_IM-0003-1001": "no findings and no impression",
        "9_IM-0009-1001": "image without report",
        "4": "report without image",
        "8_IM-0008-1001.dcm.png": "image not listed",
    }


def test_splits_and_labels(tmp_path: Path) -> None:
    images(csv_tree(tmp_path), "1_IM-0001-4001.dcm.png", "2_IM-0002-1001.png", "3_IM-0003-1001.dcm.png")
    (tmp_path / "splits.csv").write_text("uid,split\n2,validate\n3,test\n")
    columns = ",".join(["filename", *CLASSES])
    values = ",".join("1" if name == "Edema" else "0" for name in CLASSES)
    (tmp_path / "openi_gld_std14.csv").write_text(f"{columns}\nCXR2,{values}\nCXR3,{values}\n")
    found, excluded = read(tmp_path)
    assert {key: record.split for key, record in found.items()} == {"2_IM-0002-1001": "val", "3_IM-0003-1001": "test"}
    labels = found["3_IM-0003-1001"].labels  # no text, but labels: it stays
    assert labels == {name: float(name == "Edema") for name in CLASSES}
    assert excluded["1_IM-0001-4001"] == "no split"


def test_official_archive_is_read_in_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bomb = '<!DOCTYPE r [<!ENTITY a "x">]><eCitation><uId id="CXR6"/>&a;</eCitation>'
    members = {
        "ecgen-radiology/1.xml": xml(1, "Clear &amp; wide.", "Normal.", "CXR1_1_IM-0001-4001", "CXR1_1_IM-0001-3001"),
        "ecgen-radiology/2.xml": xml(2, "", "Edema.", "CXR2_IM-0002-1001"),
        "ecgen-radiology/3.xml": xml(3, "Heart.", ""),
        "ecgen-radiology/5.xml": "<eCitation>",
        "ecgen-radiology/6.xml": bomb,
        "ecgen-radiology/7.xml": "<eCitation/>",
        "ecgen-radiology/8.xml": xml(8, "x" * (1 << 20), "", "CXR8_IM-1"),
        "../../outside.xml": xml(9, "Clear.", "", "CXR9_IM-0009-1001"),
    }
    archive(tmp_path, {name: text.encode() for name, text in members.items()})
    images(tmp_path, "NLMCXR_png/CXR1_1_IM-0001-4001.png", "dcm/1/1_IM-0001-3001.dcm", "CXR2_IM-0002-1001.png")
    before = sorted(tmp_path.parent.rglob("*.xml"))
    found, excluded = read(tmp_path)
    assert set(found) == {"1_IM-0001-4001", "1_IM-0001-3001", "2_IM-0002-1001"}
    assert (found["1_IM-0001-3001"].findings, found["1_IM-0001-3001"].projection) == ("Clear & wide.", "")
    assert found["2_IM-0002-1001"].findings is None
    unreadable = dict.fromkeys(("5.xml", "6.xml", "7.xml", "8.xml"), "report unreadable")
    assert excluded == unreadable | {"3": "report without image", "9_IM-0009-1001": "missing file"}
    assert "projections are unknown" in caplog.text
    assert sorted(tmp_path.parent.rglob("*.xml")) == before


def test_unpacked_reports_with_projections(tmp_path: Path) -> None:
    csv_tree(tmp_path)
    (tmp_path / "indiana_reports.csv").unlink()
    (tmp_path / "reports/ecgen-radiology").mkdir(parents=True)
    (tmp_path / "reports/ecgen-radiology/1.xml").write_text(xml(1, "Clear.", "Normal."))
    images(tmp_path, "CXR1_1_IM-0001-4001.png", "CXR1_1_IM-0001-3001.png")
    found, _ = read(tmp_path)
    assert {key: record.projection for key, record in found.items()} == {
        "1_IM-0001-4001": "FRONTAL",
        "1_IM-0001-3001": "LATERAL",
    }


def test_of_two_files_the_dicom_is_taken_and_linked_folders_are_entered_once(tmp_path: Path) -> None:
    images(tmp_path / "store", "1_IM-0001-4001.dcm", "1_IM-0001-4001.dcm.jpg")
    raw = tmp_path / "raw"
    raw.mkdir()
    (csv_tree(raw) / "images").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "back").symlink_to(raw)
    found, _ = read(raw)
    assert found["1_IM-0001-4001"].image == raw / "images/1_IM-0001-4001.dcm"


def test_wrong_trees_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Open-i folder at"):
        read(tmp_path / "absent")
    with pytest.raises(UserError, match=r"no images .* below"):
        read(tmp_path)
    images(tmp_path, "1_IM-0001-4001.png")
    with pytest.raises(UserError, match=r"has neither indiana_reports\.csv nor NLMCXR_reports\.tgz nor ecgen"):
        read(tmp_path)
    archive(tmp_path, {"1.xml": xml(1, "Clear.", "").encode() * 50})
    data = (tmp_path / "NLMCXR_reports.tgz").read_bytes()
    for broken in (data[:-60], b"no archive"):
        (tmp_path / "NLMCXR_reports.tgz").write_bytes(broken)
        with pytest.raises(UserError, match=r"cannot be read .*again"):
            read(tmp_path)
    csv_tree(tmp_path)
    (tmp_path / "indiana_projections.csv").unlink()
    with pytest.raises(UserError, match=r"no table indiana_projections\.csv"):
        read(tmp_path)
    (tmp_path / "indiana_reports.csv").write_text("uid,findings\n1,x\n")
    with pytest.raises(UserError, match="lacks column 'impression'; its columns are uid, findings"):
        read(tmp_path)


def test_the_real_archive_in_both_forms(real_data: Path, tmp_path: Path) -> None:
    found = list(SOURCE.records(SOURCE.Options(raw=real_data / "open-i")))
    every = [entry for entry in found if isinstance(entry, Record)]
    assert Counter(record.projection for record in every) == {"FRONTAL": 3324, "LATERAL": 200}
    assert Counter(entry.reason for entry in found if isinstance(entry, Excluded)) == {"missing file": 2847}  # laterals
    assert len({record.image_id for record in every}) == len(every)
    splits = {(record.patient, record.split) for record in every}
    assert len(splits) == len({record.patient for record in every})
    records = [record for record in every if record.projection in SOURCE.traits.projections]
    assert (len(records), len({record.patient for record in records})) == (3324, 3215)
    assert Counter(record.split for record in records) == {"train": 2953, "val": 371}
    assert sum(record.findings is None for record in records) / len(records) == pytest.approx(0.13, abs=0.005)
    assert all(record.labels and record.image.is_file() for record in records)

    for name in ("images", "NLMCXR_reports.tgz", "indiana_projections.csv"):
        (tmp_path / name).symlink_to(real_data / "open-i" / name)
    official, _ = read(tmp_path)
    assert {key: (record.findings, record.impression) for key, record in official.items()} == {
        record.image_id: (record.findings, record.impression) for record in every
    }


def test_reports_that_are_no_files_are_excluded(tmp_path: Path) -> None:
    images(tmp_path, "1_IM-0001-4001.png")
    folder = tmp_path / "ecgen-radiology"
    folder.mkdir()
    (folder / "1.xml").write_text(xml(1, "Clear.", "Normal.", "CXR1_1_IM-0001-4001"))
    (folder / "2.xml").symlink_to("nowhere")
    (folder / "3.xml").symlink_to("3.xml")
    (folder / "4.xml").mkdir()
    os.mkfifo(folder / "5.xml")
    (folder / "6.xml").write_bytes(b"<a>" * 3000)
    found, excluded = read(tmp_path)
    assert len(found) == 1 and excluded == {f"{number}.xml": "report unreadable" for number in range(2, 7)}
