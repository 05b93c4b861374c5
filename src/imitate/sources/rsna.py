"""RSNA Pneumonia Detection Challenge, stage 2: DICOM files, boxes of lung opacity.

clean: one split for classification, segmentation and detection, 16,010/5,337/5,337: the published draw of the dense
tasks. paper: the published draw for classification, 18,678/4,003/4,003; a published dense task uses the clean folder.
A ``patientId`` names an image here; the tables do not say which images share a patient.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from pydantic import Field

from imitate.data.annotations import Box, box_fault
from imitate.data.lazy import pd
from imitate.data.records import Excluded, Record
from imitate.data.splits import published_three
from imitate.data.tables import column_values, find, present, read_table, require_filled
from imitate.names import Mode
from imitate.sources import Options, Source, Traits

CLASSES = ("Pneumonia",)
FRAME = (1024, 1024)
COORDINATES = ["x", "y", "width", "height"]


class RsnaOptions(Options):
    mode: Mode = Field("clean", description="paper: the published draw for classification instead of the dense tasks'")


def records(options: RsnaOptions) -> Iterator[Record | Excluded]:
    path = find(options.raw, "stage_2_train_labels.csv")
    folder = find(options.raw, "stage_2_train_images")
    table = read_table(path, ["patientId", *COORDINATES, "Target"], text=True)
    for column in COORDINATES:
        table[column] = column_values(table, column, path=path)
    table["Target"] = column_values(table, "Target", path=path, allowed=(0, 1))
    require_filled(table, ["patientId", "Target"], path=path)
    targets, boxes = _by_image(table)
    names = sorted(targets)
    held_out = math.ceil(0.3 * len(names)) if options.mode == "paper" else 2 * round(0.2 * len(names))
    for name, split in zip(names, published_three(len(names), held_out=held_out), strict=True):
        drawn = tuple(boxes[name])
        fault = next(filter(None, (box_fault(box, frame=FRAME) for box in drawn)), None)
        if targets[name] != {float(bool(drawn))}:
            fault = "Target and boxes disagree"
        if fault:
            yield Excluded(name, fault)
            continue
        yield present(
            Record(
                image_id=name,
                image=folder / f"{name}.dcm",
                patient=name,
                study=name,
                split=str(split),
                labels={CLASSES[0]: float(bool(drawn))},
                annotations=drawn,
                annotated=True,
            ),
            root=options.raw,
        )


def _by_image(table: pd.DataFrame) -> tuple[dict[str, set[float]], dict[str, list[Box]]]:
    targets: dict[str, set[float]] = defaultdict(set)
    boxes: dict[str, list[Box]] = defaultdict(list)
    for name, target, *corners in table[["patientId", "Target", *COORDINATES]].itertuples(index=False, name=None):
        targets[name].add(target)
        if not all(map(math.isnan, corners)):
            x, y, width, height = corners
            boxes[name].append(Box(CLASSES[0], x, y, width, height, reference_size=FRAME))
    return targets, boxes


SOURCE = Source(
    records,
    RsnaOptions,
    CLASSES,
    signs=(("stage_2_train_labels.csv",),),
    expected={
        "images": 26_684,
        "boxes": 9_555,
        "images in train": 16_010,
        "images in val": 5_337,
        "images in test": 5_337,
        "Pneumonia": 6_012,
        "Pneumonia in train": 3_579,
        "Pneumonia in val": 1_182,
        "Pneumonia in test": 1_251,
    },
    traits=Traits(patients="images", masks=True, prompts="rsna"),
)
