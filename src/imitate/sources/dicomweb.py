"""A PACS by DICOMweb (QIDO-RS, WADO-RS): radiographs with their reports, from a server instead of an archive.

``raw`` is a folder for what is fetched: DICOM files as the server has them, which hold names and ids. It is no part of
the prepared folder, and can be deleted when that is finished. Ids in the prepared folder are keyed hashes; the text of
reports is not changed, so it may hold names. Without ``reports``, the reports are the structured reports and the
encapsulated CDA or text documents of the study, the last one if there are several.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field

from imitate.data.records import Excluded, Record
from imitate.data.reports import Sections, cell_text
from imitate.data.section_labels import Headers, read_headers
from imitate.data.sections import EXCLUDED_TEXT, NO_HEADER, has_unknown_section, split_by_headers, whole_text
from imitate.data.tables import hashed_split, read_table
from imitate.data.words import is_nothing
from imitate.errors import UserError
from imitate.names import REPORT, SECTIONS
from imitate.sources import Options, Source, Traits

log = logging.getLogger(__name__)
KEYS = ("AccessionNumber", "StudyInstanceUID")
LATERAL = ("LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT")
NO_PATIENT, NO_TEXT = "no patient", "no report"


class DicomwebOptions(Options):
    raw: Path = Field(description="folder for the fetched DICOM files; it holds names and ids")
    url: str = Field(exclude=True, description="root of DICOMweb, such as https://pacs.example.org/dicom-web")
    since: str = Field("", pattern=r"^(\d{8})?$", description="first day of the studies, YYYYMMDD")
    until: str = Field("", pattern=r"^(\d{8})?$", description="last day of the studies, YYYYMMDD")
    filters: tuple[str, ...] = Field((), description="further filters of the search, as KEYWORD=VALUE of DICOM")
    modalities: tuple[str, ...] = Field(("CR", "DX"), min_length=1, description="modalities of the series")
    body_parts: tuple[str, ...] = Field(
        ("CHEST", "THORAX", "PORT CHEST", ""),
        description="BodyPartExamined of the series; an empty word for series without one",
    )
    reports: Path | None = Field(
        None,
        description="a table with AccessionNumber or StudyInstanceUID, and report or findings and impression; "
        "default: reports that are DICOM objects",
    )
    textless: bool = Field(False, description="also fetch images without a report, to classify them")
    sections: Path | None = Field(None, description="YAML that maps the section headers of a house style")
    whole_report: Literal["findings", "impression", "report"] | None = Field(
        None, description="use a report without a known header as a whole: as this section, or (report) as both"
    )
    id_key: Path | None = Field(
        None, exclude=True, description="file with the key for hashing ids; default: RAW/id.key, made if missing"
    )
    timeout: float = Field(30, gt=0, exclude=True, description="seconds to wait for a response")
    parallel: int = Field(4, ge=1, le=16, exclude=True, description="number of studies that are fetched at a time")
    retries: int = Field(4, ge=0, le=10, exclude=True, description="how often a request is sent again")
    certificates: Path | None = Field(None, exclude=True, description="PEM file of the authority to trust")


class _Texts(NamedTuple):
    """Reports of a table by the hash of their key, and how they are read."""

    table: Mapping[str, Mapping[str, str | None]] | None
    headers: Headers
    whole: str | None


def records(options: DicomwebOptions) -> Iterator[Record | Excluded]:
    from imitate.data.pacs import Server, Store, Wanted

    parts = urlsplit(options.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--url {options.url}: give the root of DICOMweb, such as https://pacs.example.org/dicom-web")
    server = Server(options.url.rstrip("/"), options.timeout, options.parallel, options.retries, options.certificates)
    wanted = Wanted(_filters(options), options.modalities, options.body_parts, reports=options.reports is None)
    store = Store(options.raw, server, wanted, key=options.id_key)
    table = None if options.reports is None else _table(options.reports, store.key)
    texts = _Texts(table, read_headers(options.sections), options.whole_report)
    counts: Counter[str] = Counter()
    for study in store.studies():
        yield from _records(study, texts, options, counts)
    if counts:
        log.info("; ".join(f"{count} studies: {what}" for what, count in counts.most_common()))


def _filters(options: DicomwebOptions) -> dict[str, str]:
    found = {}
    for each in options.filters:
        key, equals, value = each.partition("=")
        if not (key and equals and value):
            raise UserError(f"--filters {each}: write it as KEYWORD=VALUE, such as InstitutionName=North")
        if key in found or key == "ModalitiesInStudy" or (key == "StudyDate" and (options.since or options.until)):
            raise UserError(f"--filters {each}: {key} is given twice, or by --modalities, --since or --until: keep one")
        found[key] = value
    if options.since or options.until:
        found["StudyDate"] = f"{options.since}-{options.until}"
    return found


def _table(path: Path, key: bytes) -> dict[str, dict[str, str | None]]:
    """The texts by the hash of each study's accession number or uid. UserError where two rows of one study differ."""
    from imitate.data.pacs import hidden

    texts = (REPORT, *SECTIONS)
    table = read_table(path, [], optional=[*KEYS, *texts], text=True)
    keys = [name for name in KEYS if name in table.columns]
    if not keys or not set(texts) & set(table.columns):
        raise UserError(f"{path} needs a column {' or '.join(KEYS)}, and {', '.join(texts)} or some of these")
    found: dict[str, dict[str, str | None]] = {}
    for row in table.to_dict("records"):
        values = {name: cell_text(row[name]) if name != REPORT else row[name] or None for name in texts if name in row}
        for name in keys:
            number = str(row[name] or "").strip()
            if is_nothing(number):
                continue
            known = found.setdefault(hidden(key, number), values)
            if known != values:
                raise UserError(f"{path} has two reports of one {name}: keep one of them")
    return found


def _records(
    study: Mapping[str, Any], texts: _Texts, options: DicomwebOptions, counts: Counter[str]
) -> Iterator[Record | Excluded]:
    for name, reason in study["excluded"]:
        yield Excluded(name, reason)
    sections, notes = _sections(study, texts)
    for note in {*study["notes"], *notes}:
        counts[note] += 1
    has_text = bool(sections.findings or sections.impression)
    for name, file, view in study["images"]:
        if not study["patient"]:
            yield Excluded(name, NO_PATIENT)
        elif not has_text and not options.textless:
            yield Excluded(name, NO_HEADER if NO_HEADER in notes else NO_TEXT)
        else:
            view = view.strip().upper()
            yield Record(
                image_id=name,
                image=options.raw / file,
                patient=study["patient"],
                study=study["study"],
                split=hashed_split(study["patient"]),
                projection="LATERAL" if view in LATERAL else view,
                findings=sections.findings,
                impression=sections.impression,
                notes=notes,
            )


def _sections(study: Mapping[str, Any], texts: _Texts) -> tuple[Sections, tuple[str, ...]]:
    row: Mapping[str, str | None] = {REPORT: study["report"]}
    if texts.table is not None:
        row = next((texts.table[key] for key in study["keys"] if key in texts.table), {})
    if row.get("findings") or row.get("impression"):
        cells = (row.get(name) for name in SECTIONS)
        return Sections(*(whole_text(cell, texts.headers) if cell else None for cell in cells)), ()
    report = row.get(REPORT)
    if not report:
        return Sections(), ()
    found = split_by_headers(report, texts.headers)
    if found.findings or found.impression:
        return found, (EXCLUDED_TEXT,) if has_unknown_section(report, texts.headers) else ()
    text = whole_text(report, texts.headers)
    return Sections(*(text if texts.whole in (name, REPORT) else None for name in SECTIONS)), (NO_HEADER,)


SOURCE = Source(records=records, Options=DicomwebOptions, traits=Traits())
