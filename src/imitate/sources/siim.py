"""SIIM-ACR Pneumothorax: DICOM files, run-length masks of 1024 x 1024, one row a drawn region.

clean: an image's rows become one mask; 70/15/15 by image. paper: 70/15/15 by row, as published, so that an image may
stand in several splits, each time with a part of its mask (``image_id`` is then ``<ImageId>@<split>``).
The tables name no patients: an image counts as one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from imitate.data.annotations import RunLengths, parse_runs
from imitate.data.lazy import pd
from imitate.data.records import Excluded, Record
from imitate.data.splits import published_three
from imitate.data.tables import MISSING, find, read_table, require_filled
from imitate.errors import UserError
from imitate.names import Mode
from imitate.sources import Options, Source, Traits

CLASSES = ("Pneumothorax",)
FRAME = (1024, 1024)
TABLES = ("stage_2_train.csv", "train-rle.csv")
IMAGES = ("*.dcm", "*/*.dcm", "*/*/*.dcm", "*/*/*/*.dcm")  # dicom-images-train/<study>/<series>/<image>.dcm, or flatter


class SiimOptions(Options):
    mode: Mode = Field("clean", description="paper: splits by row, as published, so that an image may be in several")


def records(options: SiimOptions) -> Iterator[Record | Excluded]:
    path = find(options.raw, *TABLES)
    table = _table(path)
    if options.mode == "paper":
        table["split"] = published_three(len(table), held_out=math.ceil(0.3 * len(table)))
    else:
        images = sorted(set(table["image"]))
        splits = published_three(len(images), held_out=2 * round(0.15 * len(images)))
        table["split"] = table["image"].map(dict(zip(images, splits, strict=True)))
    files = {file.stem: file for pattern in IMAGES for file in sorted(options.raw.glob(pattern))}
    if not files:
        raise UserError(f"{options.raw} has no .dcm files beside {path.name}: unpack dicom-images-train there")
    for (image, split), rows in table.groupby(["image", "split"]):
        suffix = f"@{split}" if options.mode == "paper" else ""
        yield _record(str(image), str(split), tuple(rows["runs"]), files.get(str(image)), suffix)


def _table(path: Path) -> pd.DataFrame:
    """Columns ``image`` and ``runs`` ("" for a negative row): mirrors differ in the spaces of header and values."""
    table = read_table(path, ["ImageId"], text=True)
    table = table.rename(columns=str.strip)
    if not {"ImageId", "EncodedPixels"} <= set(table):
        raise UserError(f"{path} lacks the columns ImageId, EncodedPixels; it has {', '.join(table.columns)}")
    cells = table[["ImageId", "EncodedPixels"]].astype("string").apply(lambda column: column.str.strip())
    require_filled(cells, cells.columns, path=path)  # a negative row holds -1
    return pd.DataFrame({"image": cells["ImageId"], "runs": cells["EncodedPixels"].replace("-1", "")})


def _record(image: str, split: str, runs: tuple[str, ...], file: Path | None, suffix: str) -> Record | Excluded:
    drawn = tuple(text for text in runs if text)
    if file is None:
        return Excluded(image, MISSING)
    if drawn and len(drawn) < len(runs):
        return Excluded(image, "both negative and drawn")
    try:
        for text in drawn:
            parse_runs(text, pixels=FRAME[0] * FRAME[1])
    except ValueError as error:
        return Excluded(image, str(error))
    return Record(
        image_id=image + suffix,
        image=file,
        patient=image,
        study=image,
        split=split,
        labels={CLASSES[0]: float(bool(drawn))},
        annotations=tuple(RunLengths(CLASSES[0], text, FRAME) for text in drawn or ("",)),
        annotated=True,
    )


SOURCE = Source(
    records,
    SiimOptions,
    CLASSES,
    signs=(("train-rle.csv",), ("stage_2_train.csv",)),
    expected={
        "images": 12_047,
        "Pneumothorax": 2_669,
        "images in train": 8_433,
        "images in val": 1_807,
        "images in test": 1_807,
    },
    traits=Traits(patients="images", masks=True),
)
