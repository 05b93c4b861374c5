"""VinDr-CXR: DICOM files, labels and boxes of three readers for training, of five readers' consensus for testing.

``votes`` decides what three readers' labels become: positive for ``any`` of them, for the ``majority`` or for ``all``.
``fraction`` gives the training images the fraction of the readers who see the class; the validation images have the
majority's, since their metrics need a yes or no.
``boxes``: ``fused`` keeps the boxes of those classes whose label is positive and makes one of boxes that overlap;
``readers`` keeps every box with its reader. The test boxes are the consensus in both.
Test is the official one; a fifth of the training images is val. The files name no patients: an image counts as one.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from imitate.data.annotations import Box, box_fault
from imitate.data.fusion import fuse
from imitate.data.lazy import np, pd
from imitate.data.places import first_there
from imitate.data.records import Excluded, Record
from imitate.data.splits import draw_patients
from imitate.data.tables import column_values, find, present, read_table, require_filled, require_unique
from imitate.data.words import folded
from imitate.errors import UserError
from imitate.names import VINDR, VINDR_LOCAL
from imitate.sources import Options, Source, Traits

CLASSES, LOCAL = VINDR, VINDR_LOCAL
NORMAL = "No finding"
NAMES = {folded(name): name for name in (*CLASSES, "Other disease")} | {"other disease": "Other diseases"}
CORNERS = ["x_min", "y_min", "x_max", "y_max"]
READERS = 3
UNNAMED = "box of a class that its labels deny"
POSITIVES = {  # training images by the readers who see the class; and test images
    "any": (
        3098, 187, 458, 2316, 27, 353, 13, 81, 131, 397, 613, 1331, 51, 33, 150, 841, 1038, 2010, 96, 1621, 90,
        1154, 36, 291, 919, 750, 4377, 10606
    ),
    "majority": (
        2346, 62, 177, 1817, 1, 121, 1, 14, 21, 152, 245, 547, 20, 4, 85, 409, 634, 882, 58, 1017, 41, 362, 7,
        134, 471, 482, 4003, 10601
    ),
    "all": (
        1744, 18, 57, 1297, 1, 31, 0, 6, 4, 71, 91, 167, 9, 1, 35, 181, 439, 365, 45, 633, 19, 127, 3, 53, 180,
        247, 3414, 10478
    ),
    "test": (
        220, 86, 194, 309, 2, 96, 0, 3, 8, 221, 58, 84, 9, 2, 20, 176, 111, 169, 18, 217, 11, 94, 2, 80, 246,
        164, 657, 2051
    ),
}  # fmt: skip
Boxes = Mapping[str, list[Box]]
log = logging.getLogger(__name__)


class VindrCxrOptions(Options):
    votes: Literal["any", "majority", "all", "fraction"] = Field(
        "majority", description="how many of the three readers of a training image make a label positive"
    )
    boxes: Literal["fused", "readers"] = Field(
        "fused", description="fused: overlapping boxes of positive classes as one; readers: every box, with its reader"
    )


def records(options: VindrCxrOptions) -> Iterator[Record | Excluded]:
    for part in ("train", "test"):
        folder = find(options.raw, part)
        path = find(options.raw, f"annotations/image_labels_{part}.csv")
        fractions, readers = _fractions(path, several=part == "train")
        marked = options.raw / "annotations" / f"annotations_{part}.csv"
        boxes = _boxes(marked, several=part == "train", known=fractions)
        names = fractions.index.to_list()
        held = draw_patients(names, images=max(1, round(0.2 * len(names))))
        splits = np.where(held, "val", "train") if part == "train" else ["test"] * len(names)
        rows = zip(names, fractions.to_numpy(), readers, splits, strict=True)
        for name, values, count, split in rows:
            drawn = boxes.get(name, [])
            fault = next(filter(None, map(box_fault, drawn)), None)
            if fault:
                yield Excluded(name, fault)
                continue
            votes = "majority" if part == "test" or (split == "val" and options.votes == "fraction") else options.votes
            labels = dict(zip(CLASSES, _labels(values, votes).tolist(), strict=True))
            positive = {label for label, value in labels.items() if value > 0}
            fused = part == "train" and options.boxes == "fused"
            yield present(
                Record(
                    image_id=name,
                    image=first_there(folder, [folder / f"{name}{suffix}" for suffix in (".dicom", ".dcm")]),
                    patient=name,
                    study=name,
                    split=str(split),
                    projection="PA",
                    labels=labels,
                    annotations=_fused(drawn, positive) if fused else tuple(drawn),
                    annotated=True,
                    notes=tuple(_notes(drawn, values, count if part == "train" else READERS)),
                ),
                root=options.raw,
            )


def _fractions(path: Path, *, several: bool) -> tuple[pd.DataFrame, list[int]]:
    """Of each image, by its name in order: the fraction of its readers who see each class, and how many they are."""
    keys = ["image_id", "rad_id"] if several else ["image_id"]
    table = read_table(path, keys, text=True)
    table = table.rename(columns={name: NAMES.get(folded(name), name) for name in table.columns})
    if missing := [name for name in CLASSES if name not in table]:
        raise UserError(f"{path} lacks the labels {', '.join(missing)}; its columns are {', '.join(table.columns)}")
    if others := [str(name) for name in table if name not in (*keys, *CLASSES)]:
        log.warning("%s has columns that are not of VinDr-CXR and are ignored: %s", path.name, ", ".join(others))
    require_filled(table, [*keys, *CLASSES], path=path)
    require_unique(table["image_id"] + (" of " + table["rad_id"] if several else ""), path=path)
    votes = pd.DataFrame({name: column_values(table, name, path=path, allowed=(0, 1)) for name in CLASSES})
    of_image = votes.groupby(table["image_id"])
    return of_image.mean(), of_image.size().to_list()


def _boxes(path: Path, *, several: bool, known: pd.DataFrame) -> Boxes:
    """Of each image, those of its classes; rows without a place, of No finding and of global labels, are none."""
    table = read_table(path, ["image_id", "class_name", *CORNERS, *["rad_id"] * several], text=True)
    require_filled(table, ["image_id", "class_name", *["rad_id"] * several], path=path)
    strange = table["image_id"][~table["image_id"].isin(known.index)]
    if len(strange):
        raise UserError(f"{path} names {strange.nunique()} images without labels, {strange.iloc[0]} first: "
                        "download both tables again")  # fmt: skip
    for column in CORNERS:
        table[column] = column_values(table, column, path=path)
    names = table["class_name"].map(lambda name: NAMES.get(folded(name)))
    if names.isna().any():
        raise UserError(f"{path} names the class {table['class_name'][names.isna()].iloc[0]!r}, which is none of "
                        f"{', '.join(CLASSES)}")  # fmt: skip
    table = table.assign(class_name=names, rad_id=table["rad_id"] if several else "")
    blank = table[CORNERS].isna().all(axis=1) & ~names.isin(LOCAL)
    rows = table[~blank & (names != NORMAL)]
    if repeated := int(rows.duplicated().sum()):
        log.warning("%s: %d rows repeat another one and are ignored", path.name, repeated)
    boxes: dict[str, list[Box]] = defaultdict(list)
    columns = ["image_id", "class_name", "rad_id", *CORNERS]
    for name, label, reader, left, top, right, bottom in rows.drop_duplicates()[columns].itertuples(index=False):
        boxes[name].append(Box(label, left, top, right - left, bottom - top, reader=reader))
    return boxes


def _labels(fractions: np.ndarray, votes: str) -> np.ndarray:
    """What the fractions of the readers become."""
    if votes == "fraction":
        return fractions
    return {"any": fractions > 0, "majority": fractions > 0.5, "all": fractions == 1}[votes].astype(float)


def _fused(boxes: list[Box], positive: set[str]) -> tuple[Box, ...]:
    of_class: dict[str, list[Box]] = {}
    for box in boxes:
        if box.label in positive:
            of_class.setdefault(box.label, []).append(box)
    return tuple(box for same in of_class.values() for box in fuse(same))


def _notes(boxes: list[Box], fractions: np.ndarray, readers: int) -> Iterator[str]:
    seen = {name for name, fraction in zip(CLASSES, fractions, strict=True) if fraction}
    if any(box.label not in seen for box in boxes):
        yield UNNAMED
    if readers != READERS:
        yield f"labels of {readers} readers, not {READERS}"


def _expected(options: VindrCxrOptions) -> dict[str, int]:
    counts = {"images": 18_000, "images in train": 12_000, "images in val": 3_000, "images in test": 3_000}
    counts |= {f"{name} in test": count for name, count in zip(CLASSES, POSITIVES["test"], strict=True)}
    if options.votes in POSITIVES:
        rows = zip(CLASSES, POSITIVES[options.votes], POSITIVES["test"], strict=True)
        counts |= {name: train + test for name, train, test in rows}
    return counts


SOURCE = Source(
    records,
    VindrCxrOptions,
    CLASSES,
    signs=(("annotations/image_labels_train.csv",),),
    expected=_expected,
    traits=lambda options: Traits(
        patients="images",
        uncertainty=f"training labels by the votes of three readers: {options.votes}",
        prompts="vindr-cxr",
    ),
    tables=("annotations/*.csv",),
)
