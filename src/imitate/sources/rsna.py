"""RSNA Pneumonia Detection Challenge, stage 2: DICOM files, boxes of lung opacity.

clean: one split for classification, segmentation and detection, 16,010/5,337/5,337: the published draw of the dense
tasks. paper: the published draw for classification, 18,678/4,003/4,003; a published dense task uses the clean folder.
A ``patientId`` names an image here; the tables do not say which images share a patient. The publishers' list of the
ChestX-ray14 images that these are does: where it lies beside the tables, or is named with ``mapping``, patients are
those of ChestX-ray14, and clean divides 60/20/20 by patient.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field

from imitate.data.annotations import Box, box_fault
from imitate.data.lazy import np, pd
from imitate.data.records import Excluded, Record
from imitate.data.splits import draw_patients, published_three, require_splits
from imitate.data.tables import column_values, find, present, read_table, require_filled
from imitate.errors import UserError
from imitate.names import Mode
from imitate.sources import Options, Source, Traits

CLASSES = ("Pneumonia",)
FRAME = (1024, 1024)
COORDINATES = ["x", "y", "width", "height"]
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
COUNTS = {"images": 26_684, "boxes": 9_555, "Pneumonia": 6_012}
BY_IMAGE = {
    "images in train": 16_010,
    "images in val": 5_337,
    "images in test": 5_337,
    "Pneumonia in train": 3_579,
    "Pneumonia in val": 1_182,
    "Pneumonia in test": 1_251,
}
UNMAPPED = "not in the mapping"


class RsnaOptions(Options):
    mode: Mode = Field("clean", description="paper: the published split for classification, not for dense tasks")
    mapping: Path | None = Field(
        None, description=f"the publishers' {MAPPING}, which identifies patients; default: the one in raw, if any"
    )

    @property
    def mapping_file(self) -> Path | None:
        return mapping_file(self.raw, self.mapping)


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
    mapping = options.mapping_file
    patients = read_mapping(mapping) if mapping else dict(zip(names, names, strict=True))
    yield from (Excluded(name, UNMAPPED) for name in names if name not in patients)
    names = [name for name in names if name in patients]
    for name, split in zip(names, _splits([patients[name] for name in names], options), strict=True):
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
                patient=patients[name],
                study=name,
                split=str(split),
                labels={CLASSES[0]: float(bool(drawn))},
                annotations=drawn,
                annotated=True,
            ),
            root=options.raw,
        )


def _splits(patients: Sequence[str], options: RsnaOptions) -> np.ndarray:
    """The split of each image."""
    count = len(patients)
    if options.mapping_file is None or options.mode == "paper":
        held_out = math.ceil(0.3 * count) if options.mode == "paper" else 2 * round(0.2 * count)
        return published_three(count, held_out=held_out)
    splits = np.full(count, "train", dtype="<U5")
    for name in ("test", "val"):
        (pool,) = np.nonzero(splits == "train")
        drawn = draw_patients([patients[place] for place in pool.tolist()], images=max(1, round(0.2 * count)))
        splits[pool[drawn]] = name
    require_splits(splits, where=options.raw)
    return splits


def mapping_file(raw: Path, named: Path | None) -> Path | None:
    """The mapping that is named, else that beside the tables; None where there is none."""
    return named or (raw / MAPPING if (raw / MAPPING).is_file() else None)


def read_mapping(path: Path) -> dict[str, str]:
    """Image -> patient, whose number begins the name of the image in ChestX-ray14."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        pairs = [(str(each["subset_img_id"]), re.match(r"\d+(?=_)", each["img_id"])) for each in entries]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        found = f"{path} is not {MAPPING} ({type(error).__name__}: {error})"
        raise UserError(f"{found}: give the list of objects with subset_img_id and img_id") from error
    return {name: number[0] for name, number in pairs if number}


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
    expected=lambda options: COUNTS if options.mapping_file else COUNTS | BY_IMAGE,
    traits=lambda options: Traits(
        patients="patients" if options.mapping_file else "images",
        masks=True,
        prompts="rsna",
        population="chest-xray14" if options.mapping_file else "",
    ),
)
