"""NIH ChestX-ray14: PNG files, fourteen findings, boxes on 880 images of the official test list.

``split_by`` official: the published lists, a tenth of train_val being val, drawn by patient. ``split_by`` patient:
70/10/20 of all images by patient, for parts of the archive whose official test is missing or skewed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from imitate.data.annotations import Box, box_fault
from imitate.data.demographics import demographics, persons
from imitate.data.lazy import np, pd
from imitate.data.records import Excluded, Record
from imitate.data.splits import draw_patients, require_splits
from imitate.data.tables import MISSING, column_values, find, read_table, require_filled, require_unique
from imitate.errors import UserError
from imitate.names import NIH
from imitate.sources import Options, Source, Traits

COUNTS = {
    "Atelectasis": 11_559,
    "Cardiomegaly": 2_776,
    "Effusion": 13_317,
    "Infiltration": 19_894,
    "Mass": 5_782,
    "Nodule": 6_331,
    "Pneumonia": 1_431,
    "Pneumothorax": 5_302,
    "Consolidation": 4_667,
    "Edema": 2_303,
    "Emphysema": 2_516,
    "Fibrosis": 1_686,
    "Pleural_Thickening": 3_385,
    "Hernia": 227,
}
SPELLINGS = {"Infiltrate": "Infiltration"}  # in the table of boxes
FRAME = (1024, 1024)  # the published size, in which the boxes count even where the files are smaller
IMAGES = ("images/*.png", "images_*/*.png", "images_*/images/*.png")
COLUMNS = {"Image Index": "name", "Finding Labels": "findings", "Patient ID": "patient", "View Position": "projection"}
PEOPLE = {"Patient Gender": "sex", "Patient Age": "age"}
Boxes = Mapping[str, list[Box]]


class ChestXray14Options(Options):
    split_by: Literal["official", "patient"] = Field(
        "official", description="official: the published lists; patient: 70/10/20 of all images by patient"
    )


def records(options: ChestXray14Options) -> Iterator[Record | Excluded]:
    path = find(options.raw, "Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
    table = read_table(path, list(COLUMNS), text=True)
    people = persons(table, PEOPLE)
    table = table[list(COLUMNS)].rename(columns=COLUMNS)
    require_filled(table, ["name", "findings", "patient"], path=path)
    require_unique(table["name"], path=path)
    table["split"] = _splits(table, options)
    require_splits(table["split"], where=options.raw)
    boxes = _boxes(options.raw / "BBox_List_2017.csv")
    files = {file.name: file for pattern in IMAGES for file in options.raw.glob(pattern)}
    if not files:
        raise UserError(f"{options.raw} has no images/*.png: unpack the image archives beside {path.name}")
    for row, person in zip(table.fillna("").itertuples(index=False, name=None), people, strict=True):
        found = _record(row, files.get(row[0]), boxes, path)
        yield replace(found, **demographics(**person)) if isinstance(found, Record) else found


def _splits(table: pd.DataFrame, options: ChestXray14Options) -> pd.Series:
    """The split of each row; "" for an image in neither list."""
    splits = pd.Series("", index=table.index, dtype=object)
    if options.split_by == "patient":
        pool = np.full(len(table), True)
        test = draw_patients(table["patient"].to_list(), images=max(1, round(0.2 * len(table))))
        val_images = round(0.1 * len(table))
    else:
        train_val, test = (_listed(table["name"], options.raw / f"{part}_list.txt") for part in ("train_val", "test"))
        if (train_val & test).any():
            both = table["name"][train_val & test]
            raise UserError(f"{options.raw}: {len(both)} images are in both lists, {both.iloc[0]} first: correct them")
        pool, val_images = train_val | test, round(0.1 * train_val.sum())
    train = pool & ~test
    splits[train], splits[test] = "train", "test"
    drawn = draw_patients(table["patient"][train].to_list(), images=max(1, val_images))
    splits.loc[table.index[train][drawn]] = "val"
    return splits


def _listed(names: pd.Series, path: Path) -> np.ndarray:
    if not path.is_file():
        raise UserError(f"no list {path}: download it, or divide the images with --split-by patient")
    listed = set(path.read_text(encoding="utf-8", errors="replace").split())
    return np.array([name in listed for name in names], dtype=bool)


def _boxes(path: Path) -> Boxes:
    """By image; the header splits "Bbox [x,y,w,h]" over columns and adds empty ones, so they count by position."""
    boxes: dict[str, list[Box]] = defaultdict(list)
    if not path.is_file():
        return boxes
    table = read_table(path, ["Image Index", "Finding Label"], text=True)
    if table.shape[1] < 6:
        raise UserError(f"{path} has {table.shape[1]} columns, not image, finding, x, y, w, h: download it again")
    require_filled(table, ["Image Index", "Finding Label"], path=path)
    for column in table.columns[2:6]:
        table[column] = column_values(table, column, path=path)
    for name, finding, *corners in table.iloc[:, :6].itertuples(index=False):
        x, y, width, height = map(float, corners)
        boxes[name].append(Box(_class(finding, path), x, y, width, height, reference_size=FRAME))
    return boxes


def _class(finding: str, path: Path) -> str:
    name = SPELLINGS.get(finding.strip(), finding.strip())
    if name not in NIH:
        raise UserError(f"{path} names the finding {finding!r}, which is none of the fourteen: {', '.join(NIH)}")
    return name


def _record(row: tuple[str, ...], file: Path | None, boxes: Boxes, path: Path) -> Record | Excluded:
    name, findings, patient, projection, split = row
    found = {_class(finding, path) for finding in findings.split("|") if finding != "No Finding"}
    drawn = tuple(boxes.get(name, ()))
    fault = next(filter(None, (box_fault(box, frame=FRAME) for box in drawn)), None)
    if file is None or not split or fault:
        return Excluded(name, fault or ("in neither list" if file else MISSING))
    return Record(
        image_id=name,
        image=file,
        patient=patient,
        study=file.stem,  # each image is a follow-up of its own
        split=split,
        projection=projection.strip().upper(),
        labels={name: float(name in found) for name in NIH},
        annotations=drawn,
        annotated=bool(drawn),  # who drew boxes saw these images alone
    )


SOURCE = Source(
    records,
    ChestXray14Options,
    NIH,
    signs=(("Data_Entry_2017*.csv",),),
    expected={
        "images": 112_120,
        "patients": 30_805,
        "images in test": 25_596,
        "boxes": 984,
        **COUNTS,
    },
    traits=Traits(population="chest-xray14"),
)
