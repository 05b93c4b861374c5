"""A hospital's own table: one row an image, with its patient and a report, sections or labels; CSV or Parquet.

``raw`` is the table, or a folder that holds exactly one. Image paths count from the table's folder and may not leave
it, neither by ``..`` nor by a link. Where the table has a section column, its report column is not read; a report is
split at its headers (``read_headers``). Without a split column, patients are split 80/10/10 by a hash of their id.
Rows are the user's own selection: no view is left out. A row without any text stays if it has a label.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from imitate.data.prepared import Dropped, Record
from imitate.data.reports import Sections, cell_text
from imitate.data.sections import Headers, read_headers, split_by_headers
from imitate.data.tables import MISSING, hashed_split, is_there, read_table, split_name
from imitate.errors import UserError
from imitate.sources import Dataset, SourceOptions, TableColumns

log = logging.getLogger(__name__)
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".parquet")
LABEL_VALUES = {"1": 1.0, "1.0": 1.0, "true": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0}
BLANKS = ("", "na", "nan")

Row = Mapping[str, str | None]  # column -> text; None where blank


class _Layout(NamedTuple):
    root: Path
    columns: TableColumns
    headers: Headers


def records(options: SourceOptions) -> Iterator[Record | Dropped]:
    path, columns = _path(options.raw), options.columns
    texts = (columns.report, columns.findings, columns.impression)
    optional = [columns.study, columns.split, columns.view, *texts]
    table = read_table(path, [columns.image_path, columns.patient, *columns.labels], optional=optional, text=True)
    if not columns.labels and not set(texts) & set(table.columns):
        raise UserError(f"{path} has no column {', '.join(texts)}, and no label columns are given: say which it has")
    _check_values(table, columns, path)
    layout = _Layout(path.parent.resolve(), columns, read_headers(options.sections))
    for number, values in enumerate(table.itertuples(index=False, name=None), start=1):
        row = {name: _cell(value) for name, value in zip(table.columns, values, strict=True)}
        yield _record(row, layout, place=f"{path.name}, row {number}")


def _cell(value: object) -> str | None:
    return (value.strip() or None) if isinstance(value, str) else None


def _record(row: Row, layout: _Layout, *, place: str) -> Record | Dropped:
    columns = layout.columns
    name, patient = row[columns.image_path], row[columns.patient]
    if name is None or patient is None:
        return Dropped(place, "no patient" if name else "no image path")
    split = split_name(row[columns.split]) if columns.split in row else hashed_split(patient)
    if split is None:
        return Dropped(place, "no split")
    image = _inside(layout.root, name)
    if image is None or not is_there(image):
        return Dropped(place, MISSING if image else "image outside the root")
    sections = _sections(row, layout)
    labels = {label: _label(row[label]) for label in columns.labels}
    if not sections.findings and not sections.impression and all(value != value for value in labels.values()):
        return Dropped(place, "no findings and no impression")
    return Record(
        image_id=name,
        image=image,
        patient=patient,
        study=row.get(columns.study) or name,
        split=split,
        view=row.get(columns.view) or "",
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
        log.warning("%s: %d patients stand in more than one split: measurements will be too good", path.name, shared)


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


DATASET = Dataset(records)
