"""Radiologists' labels of ChestX-ray14 images, published by Google: four findings, or all on part of the test images.

``raw`` holds four_findings_expert_labels/ and all_findings_expert_labels/. ``images`` is the folder of ChestX-ray14,
whose pictures these are; by default they are below ``raw``.

``findings`` four: the files validation_labels (val) and test_labels (test) of 4,376 images. all: 810 PA images of that
test set. There is nothing to train on: fit on ChestX-ray14 and test on this folder. The images of test are in the
official test part of ChestX-ray14, those of val in its other part. The sets are enriched: their prevalence is not that
of ChestX-ray14. What the single readers said is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from imitate.data.demographics import demographics
from imitate.data.lazy import pd
from imitate.data.records import Excluded, Record
from imitate.data.tables import MISSING, find, label_value, read_table, require_filled
from imitate.data.words import folded
from imitate.errors import UserError
from imitate.names import NIH
from imitate.sources import Options, Source, Traits
from imitate.sources.chestxray14 import IMAGES
from imitate.sources.conventions import check_header, once, rows_of

Findings = Literal["four", "all"]


class Set(NamedTuple):
    """A folder of labels: its files by split, the column of the image, and the column of each class."""

    folder: str
    files: dict[str, str]
    image: str
    classes: dict[str, str]
    header: tuple[str, ...]


FOUR = {name: name for name in ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")}
ALL = {name: name.replace("_", " ") for name in ("Abnormal", *NIH, "Other")}
NIH_HEADER = (
    *("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position"),
    *("OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"),
)
SETS: dict[Findings, Set] = {
    "four": Set(
        "four_findings_expert_labels",
        {"val": "validation_labels.csv", "test": "test_labels.csv"},
        "Image Index",
        FOUR,
        (*NIH_HEADER, *FOUR, "Set Id"),
    ),
    "all": Set(
        "all_findings_expert_labels",
        {"test": "test_labels.csv"},
        "Image ID",
        ALL,
        ("Image ID", "Patient ID", *ALL.values()),
    ),
}
SPELLINGS = {"Nodule/mass": "Nodule or mass", "Set ID": "Set Id"}  # of other copies
PERSON = {"sex": "Patient Gender", "age": "Patient Age"}
COUNTS: dict[Findings, dict[str, int]] = {
    "four": {
        "images": 4_376,
        "patients": 1_695,
        "images in val": 2_414,
        "images in test": 1_962,
        "Fracture in val": 114,
        "Pneumothorax in val": 43,
        "Airspace opacity in val": 1_031,
        "Nodule or mass in val": 310,
        "Fracture in test": 72,
        "Pneumothorax in test": 195,
        "Airspace opacity in test": 1_135,
        "Nodule or mass in test": 295,
    },
    "all": {"images in test": 810, "patients": 532, "Abnormal": 578, "Atelectasis": 303, "Effusion": 226, "Edema": 23},
}


class NihGoogleOptions(Options):
    images: Path | None = Field(None, description="the folder of ChestX-ray14 with the images; default: raw")
    findings: Findings = Field("four", description="four findings of val and test, or all of a part of test")


def records(options: NihGoogleOptions) -> Iterator[Record | Excluded]:
    chosen = SETS[options.findings]
    folder = find(options.raw, chosen.folder)
    root = options.images or options.raw
    files = {file.name: file for pattern in IMAGES for file in root.glob(pattern)}
    if not files:
        raise UserError(f"{root} has no images/*.png: name the folder of ChestX-ray14 with --images")
    seen: dict[str, str] = {}
    for split, name in chosen.files.items():
        path = find(folder, name)
        table = _table(path, chosen)
        require_filled(table, [chosen.image, "Patient ID"], path=path)
        table, again = once(table, chosen.image, path=path)
        yield from again
        if both := [image for image in table[chosen.image] if image in seen]:
            raise UserError(f"{path} holds {len(both)} images of {seen[both[0]]} too, {both[0]} first: copy it again")
        seen |= dict.fromkeys(table[chosen.image], name)
        for row in rows_of(table):
            yield _record(row, chosen, split, files.get(row[chosen.image]), path)


def _table(path: Path, chosen: Set) -> pd.DataFrame:
    """With the columns in one spelling. UserError where one that is needed is absent."""
    table = read_table(path, [chosen.image, "Patient ID"], optional=None, text=True)
    known = {folded(name): name for name in (*chosen.header, *SPELLINGS)}
    spelled = {name: known.get(folded(name), name) for name in table.columns}
    table = table.rename(columns={name: SPELLINGS.get(here, here) for name, here in spelled.items()})
    check_header(path, list(table.columns), chosen.header)
    if lacks := [column for column in chosen.classes.values() if column not in table]:
        raise UserError(
            f"{path} lacks column {', '.join(map(repr, lacks))}; its columns are {', '.join(map(str, table))}"
        )
    return table


def _record(row: dict[str, Any], chosen: Set, split: str, file: Path | None, path: Path) -> Record | Excluded:
    name = row[chosen.image]
    labels = {label: _label(row[column], column, path) for label, column in chosen.classes.items()}
    if file is None:
        return Excluded(name, MISSING)
    return Record(
        image_id=name,
        image=file,
        patient=row["Patient ID"],
        study=file.stem,  # as in ChestX-ray14
        split=split,
        projection=(row.get("View Position") or "PA").strip().upper(),  # all findings: of PA images
        labels=labels,
        **demographics(**{name: row[column] for name, column in PERSON.items() if column in row}),
    )


def _label(cell: str | None, column: str, path: Path) -> float:
    value = float("nan") if cell is None else label_value(cell)
    if value is None:
        raise UserError(f"{path}: column {column!r} holds {cell!r}: expected YES, NO or blank")
    return value


SOURCE = Source(
    records,
    NihGoogleOptions,
    classes=lambda options: tuple(SETS[options.findings].classes),
    signs=tuple((f"{each.folder}/test_labels.csv",) for each in SETS.values()),
    expected=lambda options: COUNTS[options.findings],
    traits=Traits(population="chest-xray14", prompts="nih-google"),
)
