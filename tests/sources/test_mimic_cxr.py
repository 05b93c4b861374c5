import gzip
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.names import Mode
from imitate.sources.mimic_cxr import CLASSES, SOURCE

REPORT = " FINAL REPORT\n FINDINGS: The lungs are clear.\n \n IMPRESSION: Normal chest.\n"


class Image(NamedTuple):
    dicom: str
    study: str = "50000001"
    subject: str = "10000001"
    view: str = "PA"
    split: str = "train"
    procedure: str = ""
    code: str = ""
    file: str = ".jpg"

    @property
    def path(self) -> str:
        return f"files/p{self.subject[:2]}/p{self.subject}/s{self.study}/{self.dicom}{self.file}"

    @property
    def report(self) -> str:
        return f"files/p{self.subject[:2]}/p{self.subject}/s{self.study}.txt"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_tree(root: Path, *images: Image, end: str = ".csv.gz", version: str = "2.0.0") -> Path:
    header = "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate"
    header += ",StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning"
    metadata = [
        f"{i.dicom},{i.subject},{i.study},{i.procedure},{i.view},9,9,21800506,213014.531,,{i.code}" for i in images
    ]
    splits = [f"{i.dicom},{i.study},{i.subject},{i.split}" for i in images]
    write(root / f"mimic-cxr-{version}-metadata{end}", "\n".join([header, *metadata]))
    write(root / f"mimic-cxr-{version}-split{end}", "\n".join(["dicom_id,study_id,subject_id,split", *splits]))
    (root / "files").mkdir(exist_ok=True)
    for image in images:
        if image.file:
            write(root / image.path, "pixels")
    return root


def write_zip(path: Path, reports: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in reports.items():
            archive.writestr(name, text)


def read(raw: Path, mode: Mode = "clean", reports: Path | None = None) -> tuple[dict[str, Record], dict[str, str]]:
    found = list(SOURCE.records(SOURCE.Options(raw=raw, mode=mode, reports=reports)))
    excluded = {entry.source: entry.reason for entry in found if isinstance(entry, Excluded)}
    return {entry.image_id: entry for entry in found if isinstance(entry, Record)}, excluded


@pytest.mark.parametrize("end", [".csv.gz", ".csv"])
def test_an_image_meets_its_report_split_and_patient(tmp_path: Path, end: str) -> None:
    one = Image("b-1", split="validate")
    other = Image("a-2", study="50000002", subject="11000002", view="AP", split="test", file=".dcm")
    write_tree(tmp_path, other, one, end=end, version="2.1.0")
    write_zip(tmp_path / "mimic-cxr-reports.zip", {one.report: REPORT, other.report: "x\n IMPRESSION: Edema."})
    found, excluded = read(tmp_path)
    assert list(found) == ["b-1", "a-2"] and not excluded  # by patient
    image = tmp_path / "files/p10/p10000001/s50000001/b-1.jpg"
    texts = ("The lungs are clear.", "Normal chest.")
    assert found["b-1"] == Record(
        "b-1", image, "10000001", "50000001", split="val", projection="PA", findings=texts[0],
        impression=texts[1], language="en",
    )  # fmt: skip
    assert found["a-2"].image == tmp_path / "files/p11/p11000002/s50000002/a-2.dcm"
    assert (found["a-2"].split, found["a-2"].findings, found["a-2"].impression) == ("test", None, "Edema.")


@pytest.mark.parametrize(
    "place",
    [
        lambda raw: raw,
        lambda raw: raw / "mimic-cxr-reports",
        lambda raw: raw.parent / "elsewhere",
        lambda raw: raw.parent / "elsewhere" / "files",
    ],
)
def test_unpacked_reports(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    image = Image("a")
    raw = write_tree(tmp_path / "raw", image)
    root = place(raw)
    write((root.parent if root.name == "files" else root) / image.report, REPORT)
    found, _ = read(raw, reports=None if root.is_relative_to(raw) else root)
    assert found["a"].findings == "The lungs are clear."


@pytest.mark.parametrize("given", ["reports", "reports/mimic-cxr-reports.zip", "renamed.zip"])
def test_the_zip_in_a_place_of_its_own(tmp_path: Path, given: str) -> None:
    image = Image("a")
    raw = write_tree(tmp_path / "raw", image)
    path = tmp_path / (given if given.endswith("zip") else f"{given}/mimic-cxr-reports.zip")
    path.parent.mkdir(exist_ok=True)
    write_zip(path, {"__MACOSX/files/p10/p10000001/._s50000001.txt": "x", f"mimic-cxr/{image.report}": REPORT})
    found, _ = read(raw, reports=tmp_path / given)
    assert found["a"].impression == "Normal chest."


def test_projections(tmp_path: Path) -> None:
    cases = {
        "coded": ("", "CHEST (PA AND LAT)", "postero-anterior", "PA"),
        "portable": ("", "CHEST (PORTABLE AP)", "", "AP"),
        "both": ("", "CHEST (PA AND LAT)", "", ""),
        "none": ("", "", "", ""),
        "side": ("", "CHEST (PORTABLE AP)", "left lateral", "LATERAL"),
        "stated": ("LATERAL", "CHEST (PORTABLE AP)", "antero-posterior", "LATERAL"),
        "left": ("LL", "", "", "LATERAL"),
        "axial": ("AP AXIAL", "", "", "AP AXIAL"),
    }
    images = [Image(name, view=v, procedure=p, code=c) for name, (v, p, c, _) in cases.items()]
    write_tree(tmp_path, *images)
    write_zip(tmp_path / "mimic-cxr-reports.zip", {images[0].report: REPORT})
    found, excluded = read(tmp_path)
    assert not excluded
    assert {name: record.projection for name, record in found.items()} == {n: c[-1] for n, c in cases.items()}
    found, _ = read(tmp_path, "paper")
    stated = {"stated": "LATERAL", "left": "LATERAL", "axial": "AP AXIAL"}
    assert {name: record.projection for name, record in found.items()} == dict.fromkeys(cases, "") | stated
    assert SOURCE.traits_of(SOURCE.Options(raw=tmp_path, mode="paper")).projections == ("PA", "AP")


def test_labels_join_on_the_study(tmp_path: Path) -> None:
    images = [Image("a"), Image("b"), Image("c", study="50000002")]
    write_tree(tmp_path, *images)
    values = dict.fromkeys(CLASSES, "") | {"Edema": "1.0", "Fracture": "0.0", "Pneumonia": "-1.0"}
    header = ",".join(["subject_id", "study_id", *CLASSES])
    rows = f"10000001,50000001,{','.join(values.values())}"
    write(tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz", f"{header}\n{rows}\n")
    write_zip(tmp_path / "mimic-cxr-reports.zip", {images[0].report: "No header.", images[2].report: REPORT})
    found, excluded = read(tmp_path)
    assert set(found) == {"a", "b", "c"} and not excluded  # a and b have no text, but labels
    labels = dict(found["b"].labels or {})
    assert list(labels) == list(SOURCE.classes)
    assert math.isnan(labels.pop("Pneumonia"))
    assert labels == {name: float(name == "Edema") for name in CLASSES if name != "Pneumonia"}
    assert found["c"].labels is None  # eight real studies have no row
    _, excluded = read(tmp_path, "paper")
    assert excluded == {"a": "no findings and no impression", "b": "no findings and no impression"}


def test_what_cannot_be_used_is_excluded_with_its_reason(tmp_path: Path) -> None:
    images = [
        Image("1", study="50000001"),
        Image("2", study="50000002", file=""),
        Image("3", study="50000003"),
        Image("4", study="50000004"),
        Image("5", study="50000005", split=""),
        Image("6", study=""),
        Image("7", study="50000007"),
    ]
    write_tree(tmp_path, *images)
    path = tmp_path / "mimic-cxr-reports.zip"
    write_zip(path, {i.report: REPORT.replace("clear", i.study) for i in images if i.dicom not in "367"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(images[6].report, REPORT + " " * (1 << 20))
    path.write_bytes(path.read_bytes().replace(b"50000004.\n", b"50000009.\n"))  # its checksum no longer fits
    found, excluded = read(tmp_path)
    assert list(found) == ["1"]
    assert excluded == {
        "2": "missing file",
        "3": "report missing",
        "4": "report unreadable",
        "5": "no split",
        "6": "row without ids",
        "7": "report unreadable",
    }


def test_the_published_selection(tmp_path: Path) -> None:
    texts = {
        "50000001": REPORT,
        "50000002": "x\n IMPRESSION: 1. Edema. 2. Nodule.\n",  # sentences of one word do not count
        "50000003": "x\n IMPRESSION: Clear lungs.\n",  # two words
        "50000004": "x\n IMPRESSION: No lung nodule.\n",
        "50913680": "x\n RECOMMENDATION(S): The lungs are clear.\n",  # a custom section
    }
    splits = ["train", "train", "train", "test", "validate"]
    images = [Image(study, study, split=split) for study, split in zip(texts, splits, strict=True)]
    write_tree(tmp_path, *images)
    write_zip(tmp_path / "mimic-cxr-reports.zip", {i.report: texts[i.study] for i in images})
    found, excluded = read(tmp_path, "paper")
    assert {name: record.split for name, record in found.items()} == {"50000001": "train", "50000004": "val"}
    assert excluded == {
        "50000002": "fewer than three words",
        "50000003": "fewer than three words",
        "50913680": "no findings and no impression",
    }
    found, excluded = read(tmp_path)
    assert found["50913680"].impression == "The lungs are clear." and not excluded
    assert [record.split for record in found.values()] == ["train", "train", "train", "test", "val"]


def test_prefixed_ids_and_the_newest_table(tmp_path: Path) -> None:
    image = Image("a")
    write_tree(tmp_path, image, version="2.0.0")
    metadata = "dicom_id,subject_id,study_id,ViewPosition\na,p10000001,s50000001,AP\n"
    write(tmp_path / "mimic-cxr-2.1.0-metadata.csv", metadata)
    write_zip(tmp_path / "mimic-cxr-reports.zip", {image.report: REPORT})
    found, _ = read(tmp_path)
    assert (found["a"].projection, found["a"].patient, found["a"].study) == ("AP", "10000001", "50000001")


def test_a_report_is_read_once_a_study_and_only_when_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [Image("a"), Image("e"), Image("c", study="50000002", view="LL"), Image("d", study="50000003", file="")]
    write_tree(tmp_path, *images)
    write_zip(tmp_path / "mimic-cxr-reports.zip", {image.report: REPORT for image in images})
    names: list[object] = []
    genuine = zipfile.ZipFile.read

    def spy(self: zipfile.ZipFile, name: zipfile.ZipInfo) -> bytes:
        names.append(name.filename)
        return genuine(self, name)

    monkeypatch.setattr(zipfile.ZipFile, "read", spy)
    found = SOURCE.records(SOURCE.Options(raw=tmp_path))
    next(found)
    assert names == [images[0].report]
    assert len(list(found)) == 3 and names == [images[0].report, images[2].report]


def test_wrong_trees_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no MIMIC-CXR archive at"):
        read(tmp_path)
    (tmp_path / "files").mkdir()
    (tmp_path / "cxr-record-list.csv.gz").touch()
    with pytest.raises(UserError, match=r"no mimic-cxr-\*-metadata\.csv\.gz in .*: copy it there from MIMIC-CXR-JPG"):
        read(tmp_path)
    write_tree(tmp_path, Image("a"))
    with pytest.raises(UserError, match=r"no reports at .*: pass mimic-cxr-reports.zip as --reports"):
        read(tmp_path)
    (tmp_path / "mimic-cxr-reports.zip").write_bytes(b"PK no zip")
    with pytest.raises(UserError, match="is not a readable zip"):
        read(tmp_path)
    write_zip(tmp_path / "mimic-cxr-reports.zip", {"files/readme.txt": "x"})
    with pytest.raises(UserError, match="holds no files/pNN/"):
        read(tmp_path)
    write(tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz", f"study_id,{','.join(CLASSES)}\n50000001{',x' * 14}\n")
    with pytest.raises(UserError, match="not every label is a number"):
        read(tmp_path)
    write(tmp_path / "mimic-cxr-2.0.0-split.csv.gz", "dicom_id,part\na,train\n")
    with pytest.raises(UserError, match="lacks column 'split'; its columns are dicom_id, part"):
        read(tmp_path)
