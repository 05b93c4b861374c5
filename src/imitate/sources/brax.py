"""BRAX: images of a Brazilian hospital with CheXpert's 14 labels, read from reports that are not published.

``raw`` holds master_spreadsheet_update.csv (or master_spreadsheet.csv) and ``images/`` (PNG) or ``Anonymized_DICOMs/``;
a tree has one kind, PNG first. The ending of PngPath is not always that of the file, so that it is tried with and
without its last seven characters. There is no official split: 80/10/10 by a hash of the patient. AccessionNumber is
unique only together with PatientID. L and RL are LATERAL; the default selection is PA and AP.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from imitate.data.demographics import demographics
from imitate.data.lazy import pd
from imitate.data.records import Excluded, Record
from imitate.data.tables import MISSING, column_values, find, hashed_split, is_below, read_table, require_filled
from imitate.errors import UserError
from imitate.names import CHEXPERT
from imitate.sources import Options, Source, Traits
from imitate.sources.conventions import UNCERTAIN, Uncertain, check_header, first_file, once, rows_of, settle

TABLES = ("master_spreadsheet_update.csv", "master_spreadsheet.csv")
HEADER = (
    *("DicomPath", "PngPath", "PatientID", "PatientSex", "PatientAge", "AccessionNumber", "StudyDate", *CHEXPERT),
    *("ViewPosition", "Rows", "Columns", "Manufacturer"),
)
REQUIRED = ("PatientID", "PatientSex", "PatientAge", "AccessionNumber", *CHEXPERT, "ViewPosition")
KINDS = {"png": ("images", "PngPath"), "dicom": ("Anonymized_DICOMs", "DicomPath")}
PROJECTIONS = {"L": "LATERAL", "RL": "LATERAL"}
ENDING = 7  # characters of PngPath that some copies have beyond the name of the file


class BraxOptions(Options):
    images: Literal["png", "dicom"] | None = Field(None, description="which images to read; default: png if present")
    uncertain: Uncertain = Field("unknown", description=UNCERTAIN)


def records(options: BraxOptions) -> Iterator[Record | Excluded]:
    path = find(options.raw, *TABLES)
    table = read_table(path, REQUIRED, text=True)
    check_header(path, list(table.columns), HEADER)
    column = _column(options)
    if column not in table:
        raise UserError(f"{path} lacks column {column!r}: download it again")
    require_filled(table, [column, "PatientID", "AccessionNumber"], path=path)
    table, again = once(table[[name for name in HEADER if name in table]], column, path=path)
    yield from again
    values = {name: column_values(table, name, path=path, allowed=(1, 0, -1)) for name in CHEXPERT}
    labels = settle(pd.DataFrame(values), options.uncertain).to_numpy().tolist()
    for row, each in zip(rows_of(table), labels, strict=True):
        yield _record(options.raw, row, column, each)


def _column(options: BraxOptions) -> str:
    tried = [options.images] if options.images else list(KINDS)
    for kind in tried:
        folder, column = KINDS[kind]
        if (options.raw / folder).is_dir():
            return column
    folders = " or ".join(KINDS[kind][0] for kind in tried)
    raise UserError(f"{options.raw} has no {folders}: --raw must be the folder that contains it and the table")


def _record(raw: Path, row: dict[str, Any], column: str, labels: list[float]) -> Record | Excluded:
    name, patient = row[column].strip(), row["PatientID"].strip()
    cut = name[:-ENDING]
    places = [raw / each for each in ((name, cut, f"{cut}.png") if column == "PngPath" else (name,)) if each]
    if not all(is_below(place, raw) for place in places):
        return Excluded(name, "image outside the root")
    image = first_file(places)
    if image is None:
        return Excluded(name, MISSING)
    projection = (row["ViewPosition"] or "").strip().upper()
    return Record(
        image_id=name,
        image=image,
        patient=patient,
        study=f"{patient}/{row['AccessionNumber'].strip()}",
        split=hashed_split(patient),
        projection=PROJECTIONS.get(projection, projection),
        labels=dict(zip(CHEXPERT, labels, strict=True)),
        **demographics(sex=row["PatientSex"], age=row["PatientAge"], scanner=row.get("Manufacturer")),
    )


SOURCE = Source(
    records,
    BraxOptions,
    CHEXPERT,
    signs=tuple((name,) for name in TABLES),
    expected={"records": 40_967, "images": 19_309},
    traits=lambda options: Traits(
        population="brax",
        uncertainty={"mixed": UNCERTAIN.rpartition(": ")[2]}.get(options.uncertain, options.uncertain),
        projections=("PA", "AP"),
    ),
)
