"""CheXlocalize: masks of ten findings that radiologists drew on CheXpert's validation and test images.

``raw`` holds CheXlocalize/gt_segmentations_val.json and _test.json, and CheXpert/ with val_labels.csv, test_labels.csv,
val/ and test/. Where the images are elsewhere, ``images`` is the folder with val/ (or valid/, as in CheXpert itself)
and test/; a small copy does, since masks count in the size of the originals.
Labels are those of the tables, without uncertain ones; the masks' Airspace Opacity is the labels' Lung Opacity.
There is no training part. ``val`` train makes four fifths of the patients of the validation set train, for tasks that
fit a decoder.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from imitate.data.annotations import RunLengths
from imitate.data.coco import to_runs, unpack_counts
from imitate.data.demographics import demographics
from imitate.data.lazy import np, pd
from imitate.data.places import first_there, load_json
from imitate.data.records import Excluded, Record
from imitate.data.splits import draw_patients
from imitate.data.tables import column_values, find, present, read_table, require_filled, require_unique
from imitate.errors import UserError
from imitate.names import CHEXPERT
from imitate.sources import Options, Source, Traits

DRAWN = (
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Airspace Opacity", "Edema", "Consolidation"),
    *("Atelectasis", "Pneumothorax", "Pleural Effusion", "Support Devices"),
)
LABELS = {"Airspace Opacity": "Lung Opacity"}  # of the masks, where the tables have another name
FOLDERS = {"val": ("val", "valid"), "test": ("test",)}
PEOPLE = {"sex": "Sex", "age": "Age"}  # columns of the validation table alone
STUDY = re.compile(r"(?:^|/)(patient\d+)/(study\d+)/(view\d+_(frontal|lateral))\.\w+$")
NO_MASK = "positive without a mask"
VAL = (38, 109, 68, 126, 1, 45, 33, 8, 80, 8, 67, 1, 0, 107)
TEST = (109, 298, 175, 310, 14, 85, 35, 14, 178, 10, 120, 8, 6, 315)
Masks = Mapping[str, Mapping[str, Any]]
log = logging.getLogger(__name__)


class CheXlocalizeOptions(Options):
    images: Path | None = Field(
        None, description="the folder with val/ and test/ of CheXpert's images; default: CheXpert/ below raw"
    )
    val: Literal["val", "train"] = Field(
        "val", description="train: use four fifths of the validation patients as train, since there is no training part"
    )


def records(options: CheXlocalizeOptions) -> Iterator[Record | Excluded]:
    images = options.images or find(options.raw, "CheXpert")
    for part, folders in FOLDERS.items():
        path = find(options.raw, f"CheXpert/{part}_labels.csv", f"{part}_labels.csv")
        folder = find(images, *folders)
        table = _table(path)
        masks = _masks(find(options.raw, *(f"{at}gt_segmentations_{part}.json" for at in ("CheXlocalize/", ""))))
        if unknown := sorted(masks.keys() - set(table["key"])):
            log.warning("%s lacks %d images that have masks, such as %s", path.name, len(unknown), unknown[0])
        held = draw_patients(table["patient"].to_list(), images=max(1, round(0.2 * len(table))))
        divided = part == "val" and options.val == "train"
        table["split"] = np.where(held, "val", "train") if divided else part
        for row in table.to_dict("records"):
            yield _record(row, masks.get(row["key"], {}), folder, part)


def _table(path: Path) -> pd.DataFrame:
    table = read_table(path, ["Path", *CHEXPERT], optional=["Sex", "Age", "AP/PA"], text=True)
    require_filled(table, ["Path", *CHEXPERT], path=path)
    for name in CHEXPERT:
        table[name] = column_values(table, name, path=path, allowed=(0, 1))
    parts = table["Path"].str.extract(STUDY)
    if parts.isna().any(axis=None):
        odd = table["Path"][parts.isna().any(axis=1)].iloc[0]
        raise UserError(f"{path}: Path {odd!r} does not end in patientN/studyN/viewN_frontal.jpg")
    table["patient"], table["study"], table["view"], side = (parts[column] for column in parts)
    table["key"] = table["patient"] + "_" + table["study"] + "_" + table["view"]
    require_unique(table["key"], path=path)
    frontal = table["AP/PA"].fillna("").str.strip().str.upper() if "AP/PA" in table else side.str.upper()
    table["projection"] = side.str.upper().mask((side == "frontal") & frontal.isin(("AP", "PA")), frontal)
    return table


def _masks(path: Path) -> Masks:
    masks: Masks = load_json(path, dict)
    for key, drawn in masks.items():
        names = drawn.keys() if isinstance(drawn, dict) else {"no object of masks"}
        if strange := names - set(DRAWN):
            raise UserError(f"{path}: {key} has {min(strange)!r}, which is none of {', '.join(DRAWN)}")
    return masks


def _record(row: Mapping[Any, Any], drawn: Mapping[str, Any], folder: Path, part: str) -> Record | Excluded:
    place = f"{row['patient']}/{row['study']}/{row['view']}"
    name = f"{part}/{place}.jpg"
    try:
        masks = tuple(_mask(LABELS.get(label, label), mask) for label, mask in drawn.items())
    except (ValueError, KeyError, TypeError):
        return Excluded(name, "malformed mask")
    masks = tuple(mask for mask in masks if mask.runs)
    have = {mask.label for mask in masks}
    bare = any(row[label] == 1 and label not in have for label in (LABELS.get(name, name) for name in DRAWN))
    person = {name: row[column] for name, column in PEOPLE.items() if column in row}
    return present(
        Record(
            image_id=name,
            image=first_there(folder, [folder / f"{place}{suffix}" for suffix in (".jpg", ".png", ".dcm")]),
            patient=row["patient"],
            study=f"{part}/{row['patient']}/{row['study']}",
            split=row["split"],
            projection=row["projection"],
            labels={label: row[label] for label in CHEXPERT},
            annotations=masks,
            annotated=True,
            notes=(NO_MASK,) if bare else (),
            **demographics(**person),
        ),
        root=folder,
    )


def _mask(label: str, mask: Mapping[str, Any]) -> RunLengths:
    height, width = (int(side) for side in mask["size"])
    counts = mask["counts"]
    lengths = unpack_counts(counts) if isinstance(counts, str) else [int(count) for count in counts]
    return RunLengths(label, to_runs(lengths, pixels=width * height), (width, height))


def _expected(options: CheXlocalizeOptions) -> dict[str, int]:
    counts = {"images": 902, "patients": 700, "images in test": 668}
    counts |= {f"{name} in test": count for name, count in zip(CHEXPERT, TEST, strict=True)}
    if options.val == "val":
        counts |= {"images in val": 234}
        counts |= {f"{name} in val": count for name, count in zip(CHEXPERT, VAL, strict=True)}
    return counts


SOURCE = Source(
    records,
    CheXlocalizeOptions,
    CHEXPERT,
    signs=(("CheXlocalize/gt_segmentations_*.json",), ("gt_segmentations_*.json",)),
    expected=_expected,
    traits=Traits(masks=True, population="chexpert"),
    tables=("CheXpert/*_labels.csv", "CheXlocalize/gt_segmentations_*.json", "gt_segmentations_*.json"),
)
