"""MS-CXR: phrases of MIMIC-CXR's reports with the boxes that they describe, over the images of MIMIC-CXR.

``raw`` holds MS_CXR_Local_Alignment_v1.*.csv, the newest of which counts; ``images`` is the MIMIC-CXR or MIMIC-CXR-JPG
folder with ``files/``, or a folder of copies named DICOM_ID.jpg or .png, of any size but not cropped: the table has
the size in which its boxes count. Without ``images``, both are looked for in ``raw``.
A phrase may have several boxes, and an image several phrases. Version 1.1.0 has a split of its own; of a table without
one, every image is test. ``split_by`` mimic: by the split of MIMIC-CXR, which a model is usually trained on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from imitate.data.annotations import Box, box_fault
from imitate.data.lazy import pd
from imitate.data.places import first_there
from imitate.data.records import Excluded, Record
from imitate.data.tables import (
    MISSING,
    column_values,
    is_below,
    is_there,
    newest_table,
    read_table,
    require_filled,
    split_name,
)
from imitate.errors import UserError
from imitate.sources import Options, Source, Traits

CATEGORIES = (
    *("Cardiomegaly", "Pneumothorax", "Pneumonia", "Consolidation", "Pleural Effusion", "Lung Opacity"),
    *("Atelectasis", "Edema"),
)
STEM = "MS_CXR_Local_Alignment_v"
PLACE = ["x", "y", "w", "h"]
SIZE = ["image_width", "image_height"]
FOLDER = re.compile(r"(?:^|/)p\d\d/p(\d{8})/s(\d{8})/([^/]+)\.(?:jpg|dcm)$")
SUFFIXES = (".jpg", ".jpeg", ".png", ".dcm")
log = logging.getLogger(__name__)


class MsCxrOptions(Options):
    raw: Path = Field(description=f"the folder that holds {STEM}1.*.csv")
    images: Path | None = Field(
        None, description="the MIMIC-CXR folder with files/, or copies of its images by DICOM id; default: raw"
    )
    split_by: Literal["table", "mimic"] = Field(
        "table", description="table: its own split, test if it has none; mimic: that of mimic-cxr-*-split.csv.gz"
    )


def records(options: MsCxrOptions) -> Iterator[Record | Excluded]:
    path = newest_table(options.raw, f"{STEM}*")
    if path is None:
        raise UserError(f"{options.raw} has no {STEM}1.*.csv: --raw must be the folder of MS-CXR that contains it")
    base = options.images or options.raw
    table = _table(path, options, base)
    projections = _column(base, "metadata", "ViewPosition") or {}
    found = [_record(str(name), rows, base, projections) for name, rows in table.groupby("dicom_id")]
    if all(isinstance(each, Excluded) and each.reason == MISSING for each in found):
        raise UserError(f"no image of {path.name} is in {base}: pass as --images the MIMIC-CXR folder with files/, "
                        "or a folder of copies named by DICOM id")  # fmt: skip
    yield from found


def _table(path: Path, options: MsCxrOptions, base: Path) -> pd.DataFrame:
    required = ["dicom_id", "category_name", "label_text", "path", *PLACE, *SIZE]
    table = read_table(path, required, optional=["split"], text=True)
    require_filled(table, ["dicom_id", "category_name", "label_text", "path"], path=path)
    for column in (*PLACE, *SIZE):
        table[column] = column_values(table, column, path=path)
    table["category_name"] = table["category_name"].str.strip()
    strange = table["category_name"][~table["category_name"].isin(CATEGORIES)]
    if len(strange):
        raise UserError(f"{path} names the category {strange.iloc[0]!r}, which is none of {', '.join(CATEGORIES)}")
    if repeated := int(table.duplicated().sum()):
        log.warning("%s: %d rows repeat another one and are ignored", path.name, repeated)
        table = table.drop_duplicates()
    if options.split_by == "mimic":
        splits = _column(base, "split", "split")
        if splits is None:
            raise UserError(f"no mimic-cxr-*-split.csv.gz in {base}: copy it there from MIMIC-CXR-JPG, or leave "
                            "--split-by out")  # fmt: skip
        table["split"] = table["dicom_id"].map(splits)
    elif "split" not in table:
        log.info("%s has no split: every image is in the test split", path.name)
        table["split"] = "test"
    return table.assign(split=table["split"].map(split_name, na_action="ignore"))


def _column(base: Path, kind: str, column: str) -> dict[str, str] | None:
    """A column of one of MIMIC-CXR's tables by image; None where the table is not there."""
    path = newest_table(base, f"mimic-cxr-*-{kind}")
    if path is None:
        return None
    table = read_table(path, ["dicom_id", column], optional=(), text=True).dropna()
    return dict(zip(table["dicom_id"], table[column], strict=True))


def _record(name: str, rows: pd.DataFrame, base: Path, projections: dict[str, str]) -> Record | Excluded:
    first = rows.iloc[0]
    place = FOLDER.search(first["path"])
    if place is None or place[3] != name or rows["path"].nunique() > 1:
        return Excluded(name, "path that is not that of its image")
    sizes = {tuple(size) for size in rows[SIZE].itertuples(index=False, name=None)}
    if len(sizes) > 1 or not all(side > 0 and side % 1 == 0 for size in sizes for side in size):
        return Excluded(name, "no image size, or several")
    if rows["split"].isna().any() or rows["split"].nunique() > 1:
        return Excluded(name, "no split, or several")
    frame = (int(first[SIZE[0]]), int(first[SIZE[1]]))
    boxes = tuple(
        Box(label, x, y, width, height, phrase=" ".join(text.split()), reference_size=frame)
        for label, text, x, y, width, height in rows[["category_name", "label_text", *PLACE]].itertuples(index=False)
    )
    if fault := next(filter(None, (box_fault(box, frame=frame) for box in boxes)), None):
        return Excluded(name, fault)
    patient, study = place[1], place[2]
    tree = base / "files" / f"p{patient[:2]}" / f"p{patient}" / f"s{study}"
    image = first_there(base, [folder / f"{name}{suffix}" for folder in (tree, base) for suffix in SUFFIXES])
    if not is_below(image, base) or not is_there(image):
        return Excluded(name, MISSING)
    return Record(
        image_id=name,
        image=image,
        patient=patient,
        study=study,
        split=first["split"],
        projection=projections.get(name) or "FRONTAL",
        annotations=boxes,
        annotated=True,
    )


SOURCE = Source(
    records,
    MsCxrOptions,
    signs=((f"{STEM}*.csv",),),
    expected={"images": 1_047, "patients": 851, "boxes": 1_448},
    traits=Traits(population="mimic-cxr"),
)
