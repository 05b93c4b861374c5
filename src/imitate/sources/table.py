"""A hospital's own table: one row an image, with its patient and a report, sections or labels; CSV or Parquet.

``raw`` is the table, or a folder that holds exactly one. Image paths count from the table's folder and may not leave
it, neither by ``..`` nor by a link. Where the table has a section column, its report column is not read; a report is
split at its headers (``read_headers``). Without a split column, patients are split 80/10/10 by a hash of their id.
Rows are the user's own selection: every projection is used. A row without any text stays if it has a label.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from imitate.config import Config
from imitate.data.lazy import pd
from imitate.data.records import Excluded, Record
from imitate.data.reports import Sections, cell_text
from imitate.data.sections import Headers, read_headers, split_by_headers
from imitate.data.tables import MISSING, hashed_split, is_there, read_table, split_name
from imitate.errors import UserError
from imitate.sources import Options, Source

log = logging.getLogger(__name__)
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".parquet")
LABEL_VALUES = {"1": 1.0, "1.0": 1.0, "true": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0}
BLANKS = ("", "na", "nan")
OLD_PROJECTION = "view"  # the name of the column in version 0.1

Row = Mapping[str, str | None]  # column -> text; None where blank


class TableColumns(Config):
    """The names of the table's columns; the defaults are the names that are looked for."""

    image_path: str = Field("image_path", description="path of the image, counted from the table's folder")
    patient: str = Field("patient", description="who stays in one split")
    study: str = Field("study", description="groups the images of one examination")
    split: str = Field("split", description="train, val or test")
    projection: str = Field("projection", description="PA, AP, LATERAL or another word")
    report: str = Field("report", description="the whole report")
    findings: str = Field("findings", description="the Findings section")
    impression: str = Field("impression", description="the Impression section")
    labels: tuple[str, ...] = Field((), description="columns of 1, 0 or blank; they become the classes")


class TableOptions(TableColumns, Options):
    raw: Path = Field(description="the table, or the folder that holds exactly one")
    sections: Path | None = Field(None, description="YAML that maps the section headers of a house style")


class _Layout(NamedTuple):
    root: Path
    columns: TableColumns
    headers: Headers


def records(options: TableOptions) -> Iterator[Record | Excluded]:
    path, columns = _path(options.raw), options
    texts = (columns.report, columns.findings, columns.impression)
    optional = [columns.study, columns.split, columns.projection, OLD_PROJECTION, *texts]
    table = read_table(path, [columns.image_path, columns.patient, *columns.labels], optional=optional, text=True)
    if not columns.labels and not set(texts) & set(table.columns):
        raise UserError(f"{path} has no column {', '.join(texts)}, and no label columns are given: say which it has")
    if OLD_PROJECTION in table.columns and columns.projection not in table.columns:
        log.warning("%s: the column %s is now called %s: rename it", path.name, OLD_PROJECTION, columns.projection)
        columns = columns.model_copy(update={"projection": OLD_PROJECTION})
    _check_values(table, columns, path)
    layout = _Layout(path.parent.resolve(), columns, read_headers(options.sections))
    for number, values in enumerate(table.itertuples(index=False, name=None), start=1):
        row = {name: _cell(value) for name, value in zip(table.columns, values, strict=True)}
        yield _record(row, layout, place=f"{path.name}, row {number}")


def _cell(value: object) -> str | None:
    return (value.strip() or None) if isinstance(value, str) else None


def _record(row: Row, layout: _Layout, *, place: str) -> Record | Excluded:
    columns = layout.columns
    name, patient = row[columns.image_path], row[columns.patient]
    if name is None or patient is None:
        return Excluded(place, "no patient" if name else "no image path")
    split = split_name(row[columns.split]) if columns.split in row else hashed_split(patient)
    if split is None:
        return Excluded(place, "no split")
    image = _inside(layout.root, name)
    if image is None or not is_there(image):
        return Excluded(place, MISSING if image else "image outside the root")
    sections = _sections(row, layout)
    labels = {label: _label(row[label]) for label in columns.labels}
    if not sections.findings and not sections.impression and all(value != value for value in labels.values()):
        return Excluded(place, "no findings and no impression")
    return Record(
        image_id=name,
        image=image,
        patient=patient,
        study=row.get(columns.study) or name,
        split=split,
        projection=(row.get(columns.projection) or "").upper(),
        findings=sections.findings,
        impression=sections.impression,
        labels=labels or None,
    )


def _path(raw: Path) -> Path:
    if raw.is_file():
        return raw
    if not raw.is_dir():
        raise UserError(f"no table at {raw}: give a CSV or Parquet file, or the folder that holds it")
    found = [entry for entry in sorted(raw.iterdir()) if entry.name.endswith(SUFFIXES)]
    if len(found) != 1:
        names = ", ".join(entry.name for entry in found) or "none"
        raise UserError(f"{raw} must hold exactly one table ({', '.join(SUFFIXES)}), it holds {names}: name the file")
    return found[0]


def _check_values(table: pd.DataFrame, columns: TableColumns, path: Path) -> None:
    """Labels and splits hold known words, before any image is touched."""
    for label in columns.labels:
        for value in table[label].dropna().unique():
            if value.strip().lower() not in (*LABEL_VALUES, *BLANKS):
                raise UserError(f"{path}: label column {label!r} holds {value!r}: write 1, 0 or leave it blank")
    if columns.split not in table.columns:
        return
    splits = table[columns.split].map(split_name)
    shared = int((splits.groupby(table[columns.patient]).nunique() > 1).sum())
    if shared:
        log.warning("%s: %d patients are in more than one split: metrics will be too good", path.name, shared)


def _inside(root: Path, name: str) -> Path | None:
    """Where the image lies, links followed; None outside ``root``. Windows separators are understood."""
    try:
        path = (root / name.replace("\\", "/")).resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL
        return None
    return path if path.is_relative_to(root) else None


def _sections(row: Row, layout: _Layout) -> Sections:
    columns = layout.columns
    if columns.findings in row or columns.impression in row:
        return Sections(cell_text(row.get(columns.findings)), cell_text(row.get(columns.impression)))
    return split_by_headers(row.get(columns.report) or "", layout.headers)


def _label(value: str | None) -> float:
    return LABEL_VALUES.get((value or "").lower(), float("nan"))


SOURCE = Source(records, TableOptions, classes=lambda options: options.labels)
