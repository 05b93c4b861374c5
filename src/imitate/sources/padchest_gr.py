"""PadChest-GR: sentences of a report in Spanish and English, each with the boxes that radiologists drew for it.

``raw`` holds grounded_reports_*.json, master_table.csv (splits, patients) and the images: the folder that
PadChest_GR.zip unpacks to, or that archive itself, joined from its parts. The sentences are the report's Findings, and
each is the phrase of its boxes; a sentence may have several boxes or none. A box has the first label of its sentence.
Boxes are fractions of the image; those of the second reader are kept apart by their reader.
The files are PadChest's, whose table alone says which are negatives: with ``padchest`` those are inverted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from imitate.data.annotations import Box, box_fault
from imitate.data.demographics import demographics
from imitate.data.places import Place, find_images, load_json
from imitate.data.records import Excluded, Record
from imitate.data.reports import cell_text
from imitate.data.tables import MISSING, find, read_table, require_filled, split_name
from imitate.errors import UserError
from imitate.sources import Options, Source, Traits

TABLE, ARCHIVE, REPORTS = "master_table.csv", "PadChest_GR.zip", "grounded_reports_*.json"
FOLDERS = ("PadChest_GR", "images", "PadChest_GR/PadChest_GR", "Padchest_GR_files/PadChest_GR")
ARCHIVES = (ARCHIVE, f"Padchest_GR_files/{ARCHIVE}")
WHOLE = (1, 1)  # boxes are fractions of the image
READERS = {"boxes": "1", "extra_boxes": "2"}
CHOICES = {"boxes": "first", "extra_boxes": "second"}
PEOPLE = {"sex": "PatientSex_DICOM", "age": "PatientAge"}
NEGATIVE = "MONOCHROME1"
MALFORMED = "malformed entry"


class PadchestGrOptions(Options):
    language: Literal["en", "es"] = Field("en", description="sentences in English, or in Spanish as written")
    readers: Literal["first", "second", "both"] = Field(
        "first", description="reader whose boxes are kept; the second one read only some sentences"
    )
    padchest: Path | None = Field(
        None, description=f"PadChest's own table of images; those listed as {NEGATIVE} are inverted"
    )


class _Row(NamedTuple):
    """What the table says of an image."""

    split: str | None
    patient: str
    person: tuple[tuple[str, str], ...]  # sex and age, as they are written


def records(options: PadchestGrOptions) -> Iterator[Record | Excluded]:
    raw = options.raw
    path = max(raw.glob(REPORTS), default=None)
    if path is None:
        raise UserError(f"{raw} has no {REPORTS}: --raw must be the folder that contains it")
    entries, table = load_json(path, list), find(raw, TABLE)
    rows, known = _rows(table), _labels(table)
    negatives = _negatives(options.padchest) if options.padchest else None
    images = find_images(raw, FOLDERS, ARCHIVES)
    if not images:
        raise UserError(_no_images(raw))
    seen: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        name = entry.get("ImageID") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not isinstance(entry.get("findings"), list):
            yield Excluded(f"{path.name}, entry {number}", MALFORMED)
            continue
        if name in seen:
            raise UserError(f"{path} lists {name} again: download it again")
        seen.add(name)
        row, place = rows.get(name), images.get(name)
        if place is None or row is None or row.split is None:
            yield Excluded(name, MISSING if place is None else "no split" if row else f"not in {TABLE}")
            continue
        record = _record(entry, row, place, known, options)
        yield record if negatives is None or isinstance(record, Excluded) else _inverted(record, negatives)


def _no_images(raw: Path) -> str:
    parts = sorted(raw.glob(f"{ARCHIVE}.001")) + sorted(raw.glob(f"*/{ARCHIVE}.001"))
    way = f"join {parts[0]} and the parts after it to one {ARCHIVE}" if parts else f"put {ARCHIVE} there"
    return f"{raw} has no images in {FOLDERS[0]}: {way}"


def _rows(path: Path) -> dict[str, _Row]:
    """By image; the table has a row for each label of a sentence."""
    table = read_table(path, ["ImageID", "split", "PatientID"], optional=[*PEOPLE.values()], text=True)
    require_filled(table, ["ImageID", "PatientID"], path=path)
    people = {name: column for name, column in PEOPLE.items() if column in table}
    rows: dict[str, _Row] = {}
    for each in table.drop_duplicates().fillna("").to_dict("records"):
        person = tuple((name, each[column]) for name, column in people.items())
        row = _Row(split_name(each["split"]), each["PatientID"], person)
        if rows.setdefault(each["ImageID"], row) != row:
            found = f"several splits, patients, sexes or ages for {each['ImageID']}"
            raise UserError(f"{path} has {found}: download it again")
    return rows


def _labels(path: Path) -> tuple[str, ...]:
    labels = read_table(path, ["label"], optional=(), text=True)["label"]
    return tuple(sorted({_plain(label) for label in labels.dropna()} - {""}))


def _plain(label: object) -> str:
    return " ".join(str(label).lower().split())


def _negatives(path: Path) -> frozenset[str]:
    said = "PhotometricInterpretation_DICOM"
    table = read_table(path, ["ImageID", said], optional=(), text=True)
    return frozenset(table["ImageID"][table[said].fillna("").str.strip().str.upper() == NEGATIVE])


def _inverted(record: Record, negatives: frozenset[str]) -> Record:
    return replace(record, invert=record.image_id in negatives)


def _record(
    entry: Mapping[str, Any], row: _Row, place: Place, known: tuple[str, ...], options: PadchestGrOptions
) -> Record | Excluded:
    name, findings = entry["ImageID"], entry["findings"]
    try:
        sentences = [" ".join(str(each.get(f"sentence_{options.language}") or "").split()) for each in findings]
        pairs = zip(findings, sentences, strict=True)
        boxes = tuple(box for finding, text in pairs for box in _boxes(finding, text, options.readers))
        labels = {_plain(label) for finding in findings for label in finding.get("labels") or ()}
    except (AttributeError, TypeError, ValueError):
        return Excluded(name, MALFORMED)
    if fault := next(filter(None, (box_fault(box, frame=WHOLE) for box in boxes)), None):
        return Excluded(name, fault)
    return Record(
        image_id=name,
        image=place[0],
        member=place[1],
        patient=row.patient,
        study=str(entry.get("StudyID") or name),
        split=row.split or "",
        projection="FRONTAL",
        findings=cell_text(" ".join(filter(None, sentences))),
        language=options.language,
        labels={label: float(label in labels) for label in known},
        annotations=boxes,
        annotated=True,
        notes=("label that the table lacks",) if labels - set(known) else (),
        **demographics(**dict(row.person)),
    )


def _boxes(finding: Mapping[str, Any], sentence: str, readers: str) -> Iterator[Box]:
    label = next((_plain(each) for each in finding.get("labels") or ()), "")
    for key, reader in READERS.items():
        if readers in ("both", CHOICES[key]):
            for left, top, right, bottom in finding.get(key) or ():
                left, top, right, bottom = map(float, (left, top, right, bottom))
                yield Box(label, left, top, right - left, bottom - top, sentence, reader, reference_size=WHOLE)


def _classes(options: PadchestGrOptions) -> tuple[str, ...]:
    """The labels that occur in the table, where there is one."""
    path = options.raw / TABLE
    return _labels(path) if path.is_file() else ()


SOURCE = Source(
    records,
    PadchestGrOptions,
    _classes,
    signs=((REPORTS, TABLE),),
    expected={"images": 4_555, "patients": 4_459},
    traits=Traits(population="padchest"),
    tables=(REPORTS,),
)
