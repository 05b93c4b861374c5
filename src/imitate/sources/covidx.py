"""COVIDx: normal, pneumonia, COVID-19; the three-class lists 9A and CXR-3 3A.

clean: the list that is there (3A first), train divided 80/20 by patient, patients of the test list excluded from train.
paper: 9A divided 80/20 by image. The class follows almost entirely from the hospital that an image comes from, so
that a high accuracy says little about disease.

Images that come from RSNA are of ChestX-ray14's patients. Where RSNA's mapping to them lies beside the lists, or is
named with ``mapping``, they have these patients, as chest-xray14:NUMBER, and clean keeps each in one split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from imitate.data.records import Excluded, Record
from imitate.data.splits import draw_patients, published_two, require_splits
from imitate.data.tables import find, present
from imitate.errors import UserError
from imitate.names import Mode
from imitate.sources import Options, Source, Traits
from imitate.sources.rsna import MAPPING, mapping_file, read_mapping

CLASSES = ("normal", "pneumonia", "COVID-19")
LISTS = {"clean": ("COVIDx_CXR-3A.txt", "COVIDx9A.txt"), "paper": ("COVIDx9A.txt",)}


RSNA = ("rsna", "rnsa")
POPULATION = "chest-xray14"


class CovidxOptions(Options):
    mode: Mode = Field("clean", description="paper: list 9A divided by image, as published; clean: by patient")
    mapping: Path | None = Field(
        None,
        description=f"RSNA's {MAPPING}, for the images from RSNA; default: the one in raw, if any",
    )


class Row(NamedTuple):
    patient: str
    file: str
    label: str
    source: str


def records(options: CovidxOptions) -> Iterator[Record | Excluded]:
    path = find(options.raw, *(f"train_{name}" for name in LISTS[options.mode]))
    train, again = _read(path)
    test, again_test = _read(find(options.raw, path.name.replace("train_", "test_")))
    yield from (Excluded(row.file, "listed again") for row in again + again_test)
    if mapping := mapping_file(options.raw, options.mapping):
        train, test = _mapped([train, test], read_mapping(mapping))
    if options.mode == "clean":
        tested = {row.patient for row in test}
        yield from (Excluded(row.file, "patient of the test list") for row in train if row.patient in tested)
        train = [row for row in train if row.patient not in tested]
        val = draw_patients([row.patient for row in train], images=max(1, round(0.2 * len(train))))
        splits = ["val" if drawn else "train" for drawn in val]
    else:
        splits = [str(name) for name in published_two(len(train), train=0.8)]
    splits += ["test"] * len(test)
    require_splits(splits, where=path)
    for row, split in zip(train + test, splits, strict=True):
        folder = "test" if split == "test" else "train"
        yield present(
            Record(
                image_id=f"{folder}/{row.file}",
                image=options.raw / folder / row.file,
                patient=row.patient,
                study=row.file,
                split=split,
                labels={name: float(name == row.label) for name in CLASSES},
            ),
            root=options.raw,
        )


def _mapped(lists: list[list[Row]], patients: dict[str, str]) -> list[list[Row]]:
    """Rows of RSNA, which the lists also spell rnsa, with the patient of ChestX-ray14 where the mapping has one."""

    def mapped(row: Row) -> Row:
        patient = patients.get(Path(row.file).stem) if row.source in RSNA else None
        return row._replace(patient=f"{POPULATION}:{patient}") if patient else row

    return [[mapped(row) for row in rows] for rows in lists]


def _read(path: Path) -> tuple[list[Row], list[Row]]:
    """The rows of a list without header, and those whose file is listed again."""
    rows: dict[str, Row] = {}
    again = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 4:
            raise UserError(f"{path}, line {number}: {len(fields)} fields, not 'patient file class source': {line!r}")
        row = Row(*fields)
        if row.label not in CLASSES:
            raise UserError(
                f"{path}, line {number}: class {row.label!r} is none of {', '.join(CLASSES)}: use a list ending in A"
            )
        if row.file in rows:
            again.append(row)
        else:
            rows[row.file] = row
    return list(rows.values()), again


SOURCE = Source(
    records,
    CovidxOptions,
    CLASSES,
    signs=(("train_COVIDx*.txt",),),
    expected={"images in test": 400, "normal in test": 100, "pneumonia in test": 100, "COVID-19 in test": 200},
    traits=Traits(exclusive=True, prompts="covidx", population="covidx"),
)
