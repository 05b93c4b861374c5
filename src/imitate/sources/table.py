"""A hospital's own table: one row an image, with its patient and a report, sections or labels; CSV, Excel or Parquet.

``raw`` is the table, or a folder that holds exactly one. Image paths count from the table's folder and may not leave
it, neither by ``..`` nor by a link. Where the table has a section column, its report column is not read; a report is
split at its headers (``read_headers``), or used whole where it has none (``whole_report``). Without a split column,
patients are split 80/10/10 by a hash of their id. Rows are the user's own selection: every projection is used. A row
without any text stays if it has a label.
"""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from imitate.config import Config
from imitate.data.demographics import demographics
from imitate.data.lazy import pd
from imitate.data.lookup import find_image
from imitate.data.person_columns import spell_out_groups
from imitate.data.records import Excluded, Record
from imitate.data.reports import Sections, cell_text
from imitate.data.section_labels import Headers, read_headers
from imitate.data.sections import (
    EXCLUDED_TEXT,
    LEFT_OVER,
    NO_HEADER,
    contains_header,
    has_header,
    has_unknown_section,
    header_like,
    split_by_headers,
    whole_text,
)
from imitate.data.tables import (
    MISSING,
    hashed_split,
    is_there,
    label_value,
    one_spelling,
    read_table,
    require_once,
    split_name,
)
from imitate.data.words import is_nobody, is_nothing
from imitate.errors import UserError
from imitate.names import REPORT, SECTIONS
from imitate.sources import Options, Source, Traits
from imitate.sources.table_marks import BAD_MASK, MarkColumns, Marks, image_key, read_marks, warn_of_strangers

log = logging.getLogger(__name__)
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".parquet", ".xlsx")
PLAIN = (".txt", ".txt.gz")  # a table where no other is
_ROUNDED = r"\d([.,]\d+)?[eE]\+\d+"
OLD_PROJECTION = "view"  # the name of the column in version 0.1
OUTSIDE = "image outside the root"
NO_TEXT = "no findings and no impression"
LOOKED_AT, SHOWN = 10_000, 5  # reports without a known header; lines of theirs

Row = Mapping[str, str | None]  # column -> text; None where blank


class TableColumns(Config):
    """The names of the table's columns; the defaults are the names that are looked for."""

    image_path: str = Field("image_path", description="column of the image path, relative to the folder of the table")
    patient: str = Field("patient", description="column of the patient, who stays in one split")
    study: str = Field("study", description="column that groups the images of one examination")
    split: str = Field("split", description="column of the split: train, val or test")
    projection: str = Field("projection", description="column of the projection: PA, AP, LATERAL or another word")
    report: str = Field("report", description="column of the whole report")
    findings: str = Field("findings", description="column of the Findings section")
    impression: str = Field("impression", description="column of the Impression section")
    labels: tuple[str, ...] = Field((), description="columns of 1, 0 or blank, or of yes and no; they become classes")
    group_columns: tuple[str, ...] | None = Field(
        None, description="demographics to keep, as COLUMN or NAME=COLUMN with the names sex, age, scanner or any other"
    )


class TableOptions(TableColumns, MarkColumns, Options):
    raw: Path = Field(description="the table, or the folder that holds exactly one")
    sheet: str | None = Field(None, description="sheet of an Excel workbook, if several have the columns")
    sections: Path | None = Field(None, description="YAML that maps the section headers of a house style")
    whole_report: Literal["findings", "impression", "report"] | None = Field(
        None, description="use a report without a known header as a whole: as this section, or (report) as both"
    )
    language: str | None = Field(None, pattern="^[a-z]{2}$", description="report language (ISO 639-1), such as de")


class _Layout(NamedTuple):
    root: Path
    columns: TableColumns
    headers: Headers
    whole: str | None
    same: Mapping[str, str]  # patients by another spelling -> by the one that counts
    language: str
    marks: Marks | None
    groups: Mapping[str, str]  # sex, age, ... -> column


@dataclass
class _Tally:
    """What is logged when all rows are read."""

    reports: int = 0
    unknown: int = 0  # reports without a known header
    lines: Counter[str] = field(default_factory=Counter)  # of theirs, those that look like headers
    missing: int = 0
    first_missing: str = ""


def records(options: TableOptions) -> Iterator[Record | Excluded]:
    path, columns = _path(options.raw), options
    texts = (columns.report, columns.findings, columns.impression)
    optional = [columns.study, columns.split, columns.projection, OLD_PROJECTION, *texts]
    groups = _groups(columns.group_columns or ())
    require_once("--labels", [(label, label) for label in columns.labels])
    required = [columns.image_path, columns.patient, *columns.labels, *groups.values()]
    table = read_table(path, list(dict.fromkeys(required)), optional=optional, text=True, sheet=options.sheet)
    if not columns.labels and not set(texts) & set(table.columns):
        raise UserError(
            f"{path} has no column {', '.join(texts)}, and no label columns are given: name the columns that it has"
        )
    if OLD_PROJECTION in table.columns and columns.projection not in table.columns:
        log.warning("%s: the column %s is now called %s: rename it", path.name, OLD_PROJECTION, columns.projection)
        columns = columns.model_copy(update={"projection": OLD_PROJECTION})
    same = _same_ids(table[columns.patient], path, "patient", "patients")
    if columns.study in table.columns:
        studies = _same_ids(table[columns.study], path, "study", "studies")
        table[columns.study] = table[columns.study].map(lambda name: studies.get(name, name))
    _check_values(table, columns, path, same)
    spell_out_groups(table, groups, path)
    root, headers, language = path.parent.resolve(), read_headers(options.sections), options.language or ""
    marks = read_marks(options, path, columns.image_path, sheet=options.sheet, find=partial(find_image, root))
    layout = _Layout(root, columns, headers, options.whole_report, same, language, marks, groups)
    tally, seen = _Tally(), set[str]()
    for number, values in enumerate(table.itertuples(index=False, name=None), start=1):
        row = {name: _cell(value) for name, value in zip(table.columns, values, strict=True)}
        name = image_key(row[columns.image_path] or "")
        if marks and marks.several and name in seen:
            continue  # another mark of an image
        seen.add(name)
        yield _record(row, layout, tally, place=f"{path.name}, row {number}")
    if marks:
        warn_of_strangers(marks, seen, options)
    _log(tally, path, layout)


def _cell(value: object) -> str | None:
    return None if not isinstance(value, str) or is_nothing(value) else value.strip()


def _record(row: Row, layout: _Layout, tally: _Tally, *, place: str) -> Record | Excluded:
    columns = layout.columns
    name, patient = row[columns.image_path], row[columns.patient]
    if name is None:
        return Excluded(place, "no image path")
    if patient is None or is_nobody(patient):
        return Excluded(place, "no patient")
    patient = layout.same.get(patient, patient)
    split = split_name(row[columns.split]) if columns.split in row else hashed_split(patient)
    if split is None:
        return Excluded(place, "no split")
    image = find_image(layout.root, name)
    if image is None or not is_there(image):
        tally.missing += 1
        tally.first_missing = tally.first_missing or f"{place}: {image or name}"
        return Excluded(place, MISSING if image else OUTSIDE)
    marks = layout.marks
    if marks and image_key(name) in marks.unreadable:
        return Excluded(place, BAD_MASK)
    sections, notes = _sections(row, layout, tally)
    labels = {label: _label(row[label]) for label in columns.labels}
    if not sections.findings and not sections.impression and all(value != value for value in labels.values()):
        return Excluded(place, NO_HEADER if NO_HEADER in notes else NO_TEXT)
    return Record(
        image_id=unicodedata.normalize("NFC", name),
        image=image,
        patient=patient,
        study=row.get(columns.study) or name,
        split=split,
        projection=(row.get(columns.projection) or "").upper(),
        findings=sections.findings,
        impression=sections.impression,
        language=layout.language if sections.findings or sections.impression else "",
        labels=labels or None,
        annotations=marks.of.get(image_key(name), ()) if marks else (),
        annotated=True if marks and image_key(name) in marks.of else None,
        notes=notes,
        **demographics(**{name: row[column] for name, column in layout.groups.items()}),
    )


def _groups(given: tuple[str, ...]) -> dict[str, str]:
    """Name -> column of NAME=COLUMN; a column alone has its own name, in lower case."""
    pairs = [(name.strip(), column.strip()) for name, _, column in (each.rpartition("=") for each in given)]
    return require_once("--group-columns", [(name or column.casefold(), column) for name, column in pairs])


def _path(raw: Path) -> Path:
    if raw.is_file():
        return raw
    if not raw.is_dir():
        raise UserError(f"no table at {raw}: give a CSV, Excel or Parquet file, or the folder that holds it")
    entries = [entry for entry in sorted(raw.iterdir()) if not entry.name.startswith((".", "~$"))]  # those of editors
    kinds = ([entry for entry in entries if entry.name.lower().endswith(suffixes)] for suffixes in (SUFFIXES, PLAIN))
    found = next(filter(None, kinds), [])
    if len(found) != 1:
        names = ", ".join(entry.name for entry in found) or "none"
        raise UserError(f"{raw} must hold exactly one table ({', '.join(SUFFIXES)}), it holds {names}: name the file")
    return found[0]


def _check_values(table: pd.DataFrame, columns: TableColumns, path: Path, same: Mapping[str, str]) -> None:
    """Labels and splits hold known words, before any image is touched."""
    for label in columns.labels:
        for value in table[label].dropna().unique():
            if not is_nothing(value) and label_value(value) is None:
                raise UserError(f"{path}: label column {label!r} holds {value!r}: write 1, 0, -1 or leave it blank")
    if columns.split not in table.columns:
        return
    patients = table[columns.patient].map(_cell).map(lambda patient: same.get(patient, patient))
    shared = int((table[columns.split].map(_split).groupby(patients).nunique() > 1).sum())
    if shared:
        log.warning("%s: %d patients are in more than one split: metrics will be too optimistic", path.name, shared)


def _split(value: object) -> str | None:
    return split_name(_cell(value))


def _same_ids(ids: pd.Series, path: Path, what: str, several: str) -> dict[str, str]:
    """Ids in another spelling -> the one that counts."""
    given = ids.map(_cell).dropna()
    if rounded := int(given.str.fullmatch(_ROUNDED).sum()):
        said = "%s: %d %s ids such as %r are numbers rounded by a spreadsheet: different %s may have the same"
        log.warning(said, path.name, rounded, what, given[given.str.fullmatch(_ROUNDED)].iloc[0], several)
    same = one_spelling(given)
    if same:
        spelled = "differs from another only in leading zeros, a final .0, case or spaces: they count as the same"
        log.warning("%s: the id of %d %s %s", path.name, len(same), several, spelled)
    return same


def _log(tally: _Tally, path: Path, layout: _Layout) -> None:
    if tally.missing:
        said = "%s: %d images were not found; paths must be relative to its folder. The first: %s"
        log.warning(said, path.name, tally.missing, tally.first_missing)
    if not tally.unknown:
        return
    lines = ", ".join(f"{line!r} ({n})" for line, n in tally.lines.most_common(SHOWN) if n > 1)
    used = f"are used whole ({layout.whole})" if layout.whole else "lose their text"
    way = "" if layout.whole else "; list headers in --sections FILE, or give --whole-report"
    said = "%s: %d of %d reports (%.0f%%) have no known section header and %s; frequent lines that look like one: %s%s"
    fraction = 100 * tally.unknown / tally.reports
    log.warning(said, path.name, tally.unknown, tally.reports, fraction, used, lines or "none", way)


def _sections(row: Row, layout: _Layout, tally: _Tally) -> tuple[Sections, tuple[str, ...]]:
    """The sections, and what is odd about them."""
    columns, headers = layout.columns, layout.headers
    if columns.findings in row or columns.impression in row:
        cells = (cell_text(row.get(name)) for name in (columns.findings, columns.impression))
        found = Sections(*(whole_text(cell, headers) if cell else None for cell in cells))
    elif (report := row.get(columns.report)) is None:
        return Sections(), ()
    else:
        tally.reports += 1
        found = split_by_headers(report, headers)
        if not found.findings and not found.impression and not has_header(report, headers):
            tally.unknown += 1
            if tally.unknown <= LOOKED_AT:
                tally.lines.update(set(header_like(report)))
            text = whole_text(report, headers)
            return Sections(*(text if layout.whole in (name, REPORT) else None for name in SECTIONS)), (NO_HEADER,)
        if has_unknown_section(report, headers):
            return found, (EXCLUDED_TEXT,)
    left = any(contains_header(section, headers) for section in (found.findings, found.impression))
    return found, (LEFT_OVER,) if left else ()


def _label(value: str | None) -> float:
    found = None if value is None else label_value(value)
    return float("nan") if found is None else found


SOURCE = Source(
    records,
    TableOptions,
    classes=lambda options: options.labels,
    traits=lambda options: Traits(masks=options.mask is not None),
)
