"""ChestX-Det and ChestX-Det10: boxes and, in ChestX-Det, outlines of findings on images of ChestX-ray14.

``edition`` det reads ChestX_Det_train.json and ChestX_Det_test.json, with thirteen classes; det10 reads train.json and
test.json, whose images were read for ten of them, so that the other three are unknown. By default the one that is
there, ChestX-Det where both are. Images are in train_data and test_data, or in the zip archives of these names.
Test is the official one; a tenth of the training images is val. The files name no patients: an image counts as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from imitate.data.annotations import Annotation, Box, Shape, box_fault
from imitate.data.lazy import np
from imitate.data.places import Place, find_images, load_json
from imitate.data.records import Excluded, Record
from imitate.data.splits import draw_patients
from imitate.data.tables import MISSING, find
from imitate.errors import UserError
from imitate.sources import Options, Source, Traits

TEN = (
    *("Atelectasis", "Calcification", "Consolidation", "Effusion", "Emphysema", "Fibrosis", "Fracture", "Mass"),
    *("Nodule", "Pneumothorax"),
)
CLASSES = tuple(sorted((*TEN, "Cardiomegaly", "Diffuse Nodule", "Pleural Thickening")))
FILES = {"det": ("ChestX_Det_train.json", "ChestX_Det_test.json"), "det10": ("train.json", "test.json")}
KNOWN = {"det": CLASSES, "det10": TEN}
FRAME = (1024, 1024)  # in which boxes and outlines count
MALFORMED = "malformed annotation"


DET = {
    "images": 3_578,
    "images in test": 553,
    "boxes": 9_639,
    "Cardiomegaly": 293,
    "Cardiomegaly in test": 70,
    "Diffuse Nodule": 169,
    "Diffuse Nodule in test": 36,
    "Pleural Thickening": 499,
    "Pleural Thickening in test": 87,
}
TRAIN_10 = (249, 163, 1340, 1176, 137, 417, 313, 112, 307, 154)
TEST_10 = (48, 38, 289, 252, 39, 82, 76, 30, 77, 35)


class _Fault(Exception):
    """What is wrong with an annotation, in a few words."""


class ChestxDetOptions(Options):
    edition: Literal["det", "det10"] | None = Field(
        None, description="ChestX-Det or ChestX-Det10; default: the one that is present, ChestX-Det if both are"
    )


def records(options: ChestxDetOptions) -> Iterator[Record | Excluded]:
    raw = options.raw
    edition = _edition(options)
    for part, file in zip(("train", "test"), FILES[edition], strict=True):
        path = find(raw, file)
        entries = load_json(path, list)
        names = _names(entries, path)
        folders, archives = (part, f"{part}_data", f"{part}_data/*"), (f"{part}.zip", f"{part}_data.zip")
        images = find_images(raw, folders, archives)
        if not images:
            raise UserError(f"{raw} has no {part}_data, nor {part}_data.zip: download it beside {file}")
        held = draw_patients(names, images=max(1, round(0.1 * len(names))))
        for name, entry, drawn in zip(names, entries, held, strict=True):
            split = "test" if part == "test" else "val" if drawn else "train"
            yield _record(f"{part}/{name}", entry, images.get(name), split=split, known=KNOWN[edition])


def _edition(options: ChestxDetOptions) -> str:
    return options.edition or ("det" if (options.raw / FILES["det"][0]).exists() else "det10")


def _names(entries: list[Any], path: Path) -> list[str]:
    try:
        names = [str(entry["file_name"]).rsplit("/", 1)[-1] for entry in entries]
    except (TypeError, KeyError) as error:
        raise UserError(f"{path} must list objects with file_name, syms and boxes: download it again") from error
    if not names or len(set(names)) < len(names):
        repeated = next((name for name in names if names.count(name) > 1), "none")
        raise UserError(f"{path} lists no image, or one more than once ({repeated}): download it again")
    return names


def _record(
    name: str, entry: Mapping[str, Any], place: Place | None, *, split: str, known: tuple[str, ...]
) -> Record | Excluded:
    if place is None:
        return Excluded(name, MISSING)
    try:
        annotations = tuple(_annotations(entry, known))
    except _Fault as fault:
        return Excluded(name, str(fault))
    except (ValueError, TypeError, KeyError):
        return Excluded(name, MALFORMED)
    found = {each.label for each in annotations}
    return Record(
        image_id=name,
        image=place[0],
        member=place[1],
        patient=name,
        study=name,
        split=split,
        labels={label: float(label in found) if label in known else float("nan") for label in CLASSES},
        annotations=annotations,
        annotated=True,
    )


def _annotations(entry: Mapping[str, Any], known: tuple[str, ...]) -> Iterator[Annotation]:
    """Its boxes and outlines; _Fault or another error: one is wrong."""
    symptoms, boxes = entry["syms"], entry["boxes"]
    outlines = entry.get("polygons") or [()] * len(boxes)
    if not len(symptoms) == len(boxes) == len(outlines):
        raise _Fault("boxes, outlines and classes of different number")
    for name, corners, outline in zip(symptoms, boxes, outlines, strict=True):
        if name not in known:
            raise _Fault("class that is none of the data set's")
        left, top, right, bottom = map(float, corners)
        box = Box(name, left, top, right - left, bottom - top, reference_size=FRAME)
        if fault := box_fault(box, frame=FRAME):
            raise _Fault(fault)
        yield box
        if len(outline):
            points = np.asarray(outline, float).reshape(-1, 2)
            if len(points) < 3 or not np.isfinite(points).all() or np.abs(points).max() > 2 * max(FRAME):
                raise _Fault(MALFORMED)
            yield Shape(name, "polygon", tuple(map(tuple, points.tolist())), reference_size=FRAME)


def _expected(options: ChestxDetOptions) -> dict[str, int]:
    if _edition(options) == "det":
        return DET
    counts = {"images": 3_543, "images in test": 542}
    for name, train, test in zip(TEN, TRAIN_10, TEST_10, strict=True):
        counts |= {name: train + test, f"{name} in test": test}
    return counts


SOURCE = Source(
    records,
    ChestxDetOptions,
    CLASSES,
    signs=(("ChestX_Det_train.json",), ("train.json", "test.json")),
    expected=_expected,
    traits=Traits(patients="images", masks=True, prompts="chestx-det"),
    tables=("*.json",),
)
