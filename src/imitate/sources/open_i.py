"""Open-i, the Indiana University chest X-rays: the official archive or its widespread CSV form.

Below ``raw``: ``indiana_reports.csv``, else the XML reports (``NLMCXR_reports.tgz``, read in place, or the folder
``ecgen-radiology``); ``indiana_projections.csv``, which alone knows the projections and is needed beside the CSV
reports; images anywhere, named as either form names them. The default selection is frontal images. Without that table
the projections are unknown: then all images are selected, with a warning.
A study is its own patient: the archive has no patient ids. Splits come from ``splits.csv`` (uid, split), else 80/10/10
by a hash of the study; labels from ``openi_gld_std14.csv``. A study without any text stays if it has labels.
"""

import logging
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from imitate.data.records import Excluded, Record
from imitate.data.reports import Sections, cell_text, clean_text
from imitate.data.tables import MISSING, hashed_split, numbers, read_table, split_name
from imitate.errors import UserError
from imitate.names import NIH
from imitate.sources import Options, Source, Traits

log = logging.getLogger(__name__)
CLASSES = (*NIH, "normal")
REPORTS, PROJECTIONS, ARCHIVE = "indiana_reports.csv", "indiana_projections.csv", "NLMCXR_reports.tgz"
SUFFIXES = (".dcm", ".png", ".jpg", ".jpeg")  # the first is taken where an image lies there twice
REPORT_LIMIT = 1 << 20  # bytes; a real one has about 5,000


class _Study(NamedTuple):
    sections: Sections
    images: tuple[str, ...] = ()  # as an XML report lists them


class _Tree(NamedTuple):
    studies: dict[str, _Study]
    images: dict[str, Path]
    splits: dict[str, str | None] | None
    labels: dict[str, dict[str, float]]


def records(options: Options) -> Iterator[Record | Excluded]:
    raw = options.raw
    if not raw.is_dir():
        raise UserError(f"no Open-i folder at {raw}: give the folder that holds {REPORTS} or {ARCHIVE}")
    tree = _Tree({}, _images(raw), _splits(raw), _labels(raw))
    for uid, study in _csv_studies(raw) if (raw / REPORTS).is_file() else _xml_studies(raw):
        if study is None:
            yield Excluded(uid, "report unreadable")
        else:
            tree.studies[uid] = study
    pictured, listed = set(), set()
    for uid, key, projection in _listing(raw, tree.studies):
        pictured.add(uid)
        listed.add(key)
        yield _record(uid, key, projection, tree)
    yield from (Excluded(uid, "report without image") for uid in tree.studies if uid not in pictured)
    yield from (Excluded(str(path), "image not listed") for key, path in tree.images.items() if key not in listed)


def _record(uid: str, key: str, projection: str, tree: _Tree) -> Record | Excluded:
    if key not in tree.images:
        return Excluded(key, MISSING)
    if uid not in tree.studies:
        return Excluded(key, "image without report")
    split = hashed_split(uid) if tree.splits is None else tree.splits.get(uid)
    if split is None:
        return Excluded(key, "no split")
    sections, labels = tree.studies[uid].sections, tree.labels.get(uid)
    if not sections.findings and not sections.impression and labels is None:
        return Excluded(key, "no findings and no impression")
    return Record(
        image_id=key,
        image=tree.images[key],
        patient=uid,
        study=uid,
        split=split,
        projection=projection,
        findings=sections.findings,
        impression=sections.impression,
        language="en",
        labels=labels,
    )


def _csv_studies(raw: Path) -> Iterator[tuple[str, _Study]]:
    table = read_table(raw / REPORTS, ["uid", "findings", "impression"], optional=(), text=True)
    for uid, findings, impression in zip(table["uid"], table["findings"], table["impression"], strict=True):
        yield str(uid), _Study(Sections(cell_text(findings), cell_text(impression)))


def _xml_studies(raw: Path) -> Iterator[tuple[str, _Study | None]]:
    """Every XML report by its uid; one that cannot be parsed as (file name, None)."""
    for name, data in _xml_files(raw):
        try:
            yield _xml_study(fromstring(data or b""))
        except (ParseError, DefusedXmlException, LookupError, ValueError):
            yield name, None


def _xml_study(report: Element) -> tuple[str, _Study]:
    uid = report.find("uId")
    if uid is None:
        raise ValueError("no uId")
    text = {part.get("Label"): clean_text("".join(part.itertext())) for part in report.iter("AbstractText")}
    images = tuple(_key(image.get("id", "")) for image in report.iter("parentImage"))
    return _uid(uid.attrib["id"]), _Study(Sections(text.get("FINDINGS"), text.get("IMPRESSION")), images)


def _xml_files(raw: Path) -> Iterator[tuple[str, bytes | None]]:
    """Names and contents of the XML reports, None for an oversized one; nothing is written to disk."""
    folder = next((path for path in sorted(raw.rglob("ecgen-radiology")) if path.is_dir()), None)
    if folder is not None:
        for path in sorted(folder.glob("*.xml")):
            yield path.name, path.read_bytes() if path.is_file() and path.stat().st_size <= REPORT_LIMIT else None
        return
    if not (raw / ARCHIVE).is_file():
        raise UserError(f"{raw} has neither {REPORTS} nor {ARCHIVE} nor ecgen-radiology/: is it the Open-i folder?")
    try:
        with tarfile.open(raw / ARCHIVE, "r|*") as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".xml"):
                    file = archive.extractfile(member) if member.size <= REPORT_LIMIT else None
                    yield member.name, file.read() if file else None
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{raw / ARCHIVE} cannot be read ({error}): copy or download it again") from error


def _listing(raw: Path, studies: dict[str, _Study]) -> Iterator[tuple[str, str, str]]:
    """(uid, image key, projection) of every image that the tree names; the projection is empty where unknown."""
    if (raw / REPORTS).is_file() or (raw / PROJECTIONS).is_file():
        table = read_table(raw / PROJECTIONS, ["uid", "filename", "projection"], optional=(), text=True)
        for uid, name, word in table.dropna()[["uid", "filename", "projection"]].itertuples(index=False, name=None):
            yield uid, _key(name), word.strip().upper()
        return
    log.warning("projections are unknown, so lateral images are selected, too: put %s into the folder", PROJECTIONS)
    for uid, study in studies.items():
        yield from ((uid, key, "") for key in study.images)


def _images(raw: Path) -> dict[str, Path]:
    paths = [path for path in _files(raw) if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise UserError(f"no images ({', '.join(SUFFIXES)}) below {raw}: unpack the image archive there")
    paths.sort(key=lambda path: (SUFFIXES.index(path.suffix.lower()), path))
    return {_key(path.name): path for path in reversed(paths)}


def _files(raw: Path) -> Iterator[Path]:
    """All files below, through linked folders too, each folder once."""
    seen = set()
    for folder, folders, names in os.walk(raw, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(folder, name) for name in names)


def _splits(raw: Path) -> dict[str, str | None] | None:
    if not (raw / "splits.csv").is_file():
        return None
    table = read_table(raw / "splits.csv", ["uid", "split"], optional=(), text=True)
    return dict(zip(table["uid"], table["split"].map(split_name), strict=True))


def _labels(raw: Path) -> dict[str, dict[str, float]]:
    path = raw / "openi_gld_std14.csv"
    if not path.is_file():
        return {}
    table = read_table(path, ["filename", *CLASSES], optional=())
    rows = numbers(table, CLASSES, path, allowed=(1, 0))
    return {
        _uid(name): dict(zip(CLASSES, row, strict=True))
        for name, row in zip(table["filename"], rows.tolist(), strict=True)
    }


def _uid(name: str) -> str:
    return name.removeprefix("CXR")


def _key(name: str) -> str:
    """One name for 7_IM-1-2.dcm.png, CXR7_IM-1-2.png and, as the archive names study 1, CXR1_1_IM-1-2."""
    while name.lower().endswith(SUFFIXES):
        name = name[: name.rindex(".")]
    return re.sub(r"^CXR(\d+)_(\1_)?", r"\1_", name)


SOURCE = Source(
    records,
    Options,
    CLASSES,
    signs=(("indiana_reports.csv",), ("NLMCXR_reports.tgz",), ("ecgen-radiology",)),
    expected={"records": 7_466},  # of the CSV form
    traits=Traits(patients="studies", projections=("FRONTAL", ""), prompts="open-i", population="open-i"),
)
