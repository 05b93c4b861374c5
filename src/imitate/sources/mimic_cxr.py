"""MIMIC-CXR: the JPG or the DICOM tree, the tables of MIMIC-CXR-JPG, the reports of MIMIC-CXR.

``raw`` holds ``files/`` and the tables mimic-cxr-2.*-metadata, -split and, for labels, -chexpert, as csv or csv.gz.
The DICOM tree ships without them: put them beside its ``files/``. Reports are read from the unopened
``mimic-cxr-reports.zip`` or its unpacked tree, at ``reports`` or below ``raw``.

The default selection is PA and AP images. LL and RL, left and right lateral, count as LATERAL.
clean: a blank projection is filled from the view code or the procedure where these name one only. Official splits. A
    study without text stays if it has labels.
paper: the published selection. Blank projections stay unknown; validation and test make one split ``val``; neither the
    54 studies of custom sections nor those whose text has fewer than three words.
Sex, age, race and insurance come from the tables of MIMIC-IV (``patients``, ``admissions``), where they are at
    ``mimic_iv`` or in ``raw`` or its ``hosp``.
Labels: 1 and 0 as they are; blank (not mentioned) is 0; -1 (uncertain) is NaN; a study without a row has none.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from imitate.data.lazy import np, pd
from imitate.data.records import Excluded, Record
from imitate.data.reports import Sections, decode_report, parse_sections
from imitate.data.tables import MISSING, is_below, is_there, newest_table, numbers, read_table, split_name
from imitate.errors import UserError
from imitate.names import CHEXPERT, Mode
from imitate.sources import Options, Source, Traits
from imitate.sources.mimic_iv import People, read_people

CLASSES = tuple(sorted(CHEXPERT))
ZIP = "mimic-cxr-reports.zip"
MEMBER = re.compile(r"(?:^|/)(p1\d/p\d{8}/s\d{8}\.txt)$")
REPORT_LIMIT = 1 << 20  # bytes; the longest report has a few thousand
VIEW_CODE = "ViewCodeSequence_CodeMeaning"
VIEW_CODES = {"postero-anterior": "PA", "antero-posterior": "AP", "lateral": "LATERAL", "left lateral": "LATERAL"}
LATERAL = {"LL": "LATERAL", "RL": "LATERAL"}
PROCEDURES = ("PerformedProcedureStepDescription", "ProcedureCodeSequence_CodeMeaning")
PROCEDURE_WORDS = {"pa": "PA", "ap": "AP", "portable": "AP", "lat": "LATERAL", "lateral": "LATERAL"}

Read = Callable[[str], bytes]  # p10/p10000001/s50000001.txt -> its bytes


class MimicCxrOptions(Options):
    mode: Mode = Field("clean", description="paper: the published selection, with validation and test as one split")
    reports: Path | None = Field(
        None, description="mimic-cxr-reports.zip, or the unpacked folder; default: the one below raw"
    )
    mimic_iv: Path | None = Field(
        None, description="the folder of MIMIC-IV's patients.csv.gz and admissions.csv.gz; by default raw or raw/hosp"
    )


class _Tree(NamedTuple):
    files: Path
    read: Read
    labels: dict[str, np.ndarray]
    mode: Mode
    people: People


def records(options: MimicCxrOptions) -> Iterator[Record | Excluded]:
    """In the order of patients, studies and images; each report is read once, when its study comes."""
    raw = options.raw
    if not (raw / "files").is_dir():
        raise UserError(f"no MIMIC-CXR archive at {raw}: give the folder that holds files/ and the tables")
    images, labels = _images(raw, options.mode), _labels(raw)
    with _reports(options.reports or raw) as read:
        tree = _Tree(raw / "files", read, labels, options.mode, read_people(raw, options.mimic_iv))
        for _, rows in groupby(images.itertuples(index=False), key=lambda row: row.study_id):
            yield from _study(rows, tree)


def _study(rows: Iterable[Any], tree: _Tree) -> Iterator[Record | Excluded]:
    sections: Sections | str | None = None  # a string says why there are none
    for row in rows:
        flaw = _flaw(row)
        image = None if flaw else _image(row, tree.files)
        if image is None:
            yield Excluded(str(row.dicom_id), flaw or MISSING)
            continue
        sections = sections or _sections(row, tree)
        if isinstance(sections, str):
            yield Excluded(row.dicom_id, sections)
            continue
        labels = tree.labels.get(row.study_id)
        yield Record(
            image_id=row.dicom_id,
            image=image,
            patient=row.subject_id,
            study=row.study_id,
            split=row.split,
            projection=row.projection,
            findings=sections.findings,
            impression=sections.impression,
            language="en",
            labels=None if labels is None else dict(zip(CLASSES, labels.tolist(), strict=True)),
            **tree.people.fields(row.subject_id, row.day),
        )


def _flaw(row: Any) -> str | None:
    if not all(isinstance(part, str) for part in (row.dicom_id, row.subject_id, row.study_id)):
        return "row without ids"
    return None if isinstance(row.split, str) else "no split"


def _image(row: Any, files: Path) -> Path | None:
    folder = files / f"p{row.subject_id[:2]}" / f"p{row.subject_id}" / f"s{row.study_id}"
    paths = (folder / f"{row.dicom_id}{suffix}" for suffix in (".jpg", ".dcm"))
    return next((path for path in paths if is_below(path, files) and is_there(path)), None)


def _sections(row: Any, tree: _Tree) -> Sections | str:
    """The study's sections, or the reason why it cannot be used."""
    try:
        data = tree.read(f"p{row.subject_id[:2]}/p{row.subject_id}/s{row.study_id}.txt")
    except (KeyError, FileNotFoundError):
        return "report missing"
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError):
        return "report unreadable"
    sections = parse_sections(decode_report(data), study=row.study_id, mode=tree.mode)
    if sections.findings or sections.impression:
        few = tree.mode == "paper" and _published_words(sections) < 3
        return "fewer than three words" if few else sections
    unlabelled = tree.mode == "paper" or row.study_id not in tree.labels
    return "no findings and no impression" if unlabelled else sections


def _published_words(sections: Sections) -> int:
    """Words that the published selection counts: those of sentences of more than one word, enumeration removed."""
    *sentences, last = f"{sections.impression or ''} {sections.findings or ''}".split(".")
    words = [re.findall(r"\w+", text) for text in (*(text.rstrip("0123456789") for text in sentences), last)]
    return sum(bool(word.encode("ascii", "ignore")) for sentence in words if len(sentence) > 1 for word in sentence)


def _images(raw: Path, mode: Mode) -> pd.DataFrame:
    """One row an image: dicom_id, subject_id, study_id (digits only), projection, split (NaN where unknown)."""
    ids = ["dicom_id", "subject_id", "study_id"]
    optional = [VIEW_CODE, *PROCEDURES, "StudyDate"]
    metadata = read_table(_table(raw, "metadata"), [*ids, "ViewPosition"], optional=optional, text=True)
    table = _table(raw, "split")
    splits = read_table(table, ["dicom_id", "split"], optional=(), text=True).drop_duplicates("dicom_id")
    names = splits.set_index("dicom_id")["split"].map(split_name)
    images = metadata[ids].assign(projection=_projections(metadata, mode), split=metadata["dicom_id"].map(names))
    images["day"] = metadata.get("StudyDate", "")
    if mode == "paper":
        images["split"] = images["split"].replace("test", "val")
    for column in ("subject_id", "study_id"):  # some tables write p10000001 and s50000001
        images[column] = images[column].str.extract(r"(\d+)", expand=False)
    return images.sort_values(["subject_id", "study_id", "dicom_id"], ignore_index=True)


def _projections(metadata: pd.DataFrame, mode: Mode) -> pd.Series:
    projections = metadata["ViewPosition"].replace(LATERAL)
    if mode == "clean":
        blank = projections.isna()
        columns = [metadata[column][blank].fillna("") for column in (VIEW_CODE, *PROCEDURES) if column in metadata]
        if columns:
            projections[blank] = np.array([_named(*texts) for texts in zip(*columns, strict=True)], dtype=object)
    return projections.fillna("")


def _named(*texts: str) -> str:
    """The one projection that the view code, else the procedure names; empty if there is none or more than one."""
    for text in texts:
        if text.strip().lower() in VIEW_CODES:
            return VIEW_CODES[text.strip().lower()]
    words = re.findall("[a-z]+", " ".join(texts).lower())
    named = {PROCEDURE_WORDS[word] for word in words if word in PROCEDURE_WORDS}
    return named.pop() if len(named) == 1 else ""


def _labels(raw: Path) -> dict[str, np.ndarray]:
    path = newest_table(raw, "mimic-cxr-*-chexpert")
    if path is None:
        return {}
    table = read_table(path, ["study_id", *CLASSES], optional=())
    values = numbers(table, CLASSES, path, allowed=(1, 0, -1))
    values = np.select([np.isnan(values), values == -1], [np.float32(0), np.float32("nan")], values)
    studies = table["study_id"].astype(str).str.extract(r"(\d+)", expand=False)
    return dict(zip(studies, values, strict=True))


def _table(raw: Path, kind: str) -> Path:
    path = newest_table(raw, f"mimic-cxr-*-{kind}")
    if path is None:
        raise UserError(f"no mimic-cxr-*-{kind}.csv.gz in {raw}: copy it there from MIMIC-CXR-JPG")
    return path


@contextmanager
def _reports(place: Path) -> Iterator[Read]:
    """A reader of single reports from the zip or the unpacked tree at or below ``place``."""
    for path in (place, place / ZIP):
        if path.is_file():
            with _open_zip(path) as archive:
                yield partial(_read_member, archive, _prefix(archive, path))
            return
    for folder in (place, place / "files", place / ZIP[:-4] / "files", place / ZIP[:-4]):
        if _has_reports(folder):
            yield partial(_read_file, folder)
            return
    raise UserError(f"no reports at {place}: pass {ZIP} as --reports; it is part of MIMIC-CXR, not of MIMIC-CXR-JPG")


def _has_reports(folder: Path) -> bool:
    """Looks at the first patients only: in a tree without reports there are 65,000."""
    return any(any(patient.glob("s*.txt")) for patient in islice(folder.glob("p1?/p*"), 100))


def _read_file(folder: Path, name: str) -> bytes:
    if not (folder / name).is_file():  # a pipe would never end
        raise FileNotFoundError(name)
    with (folder / name).open("rb") as file:
        data = file.read(REPORT_LIMIT + 1)
    if len(data) > REPORT_LIMIT:
        raise EOFError(f"{name} is oversized")
    return data


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path} is not a readable zip ({error}): copy or download it again") from error


def _prefix(archive: zipfile.ZipFile, path: Path) -> str:
    """What stands before p10/..., usually ``files/``."""
    for name in archive.namelist():
        if found := MEMBER.search(name):
            return name[: found.start(1)]
    raise UserError(f"{path} holds no files/pNN/pNNNNNNNN/sNNNNNNNN.txt: give --reports the path of {ZIP}")


def _read_member(archive: zipfile.ZipFile, prefix: str, name: str) -> bytes:
    member = archive.getinfo(prefix + name)
    if member.file_size > REPORT_LIMIT:
        raise zipfile.BadZipFile(f"{name} is oversized")
    return archive.read(member)


def _traits(options: MimicCxrOptions) -> Traits:
    return Traits(
        uncertainty="unknown; what a report does not mention is negative",
        test_sets=() if options.mode == "paper" else ("test",),
        projections=("PA", "AP"),
        population="mimic-cxr",
    )


SOURCE = Source(
    records,
    MimicCxrOptions,
    CLASSES,
    signs=(("mimic-cxr-*-metadata.csv*",),),
    expected={"records": 377_110},
    traits=_traits,
)
