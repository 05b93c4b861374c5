"""TBX11K: healthy, sick and tuberculous chest radiographs, with boxes of tuberculosis.

``raw`` is the original release (imgs/, annotations/, lists/) or its simplified edition (data.csv, images/), which may
be nested in folders of its own name. Boxes of the original come from annotations/json, or where these are absent from
annotations/xml, which count in pixels of larger originals.
``split_by`` official: the official training part, a tenth of it being val; the official validation part is test, since
the labels of the test part are not published. ``image``: 70/15/15 of all; the simplified edition names no parts.
The images of the test part and of extra/ are not read. The files name no patients: an image counts as one.
"""

from __future__ import annotations

import ast
import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse
from pydantic import Field

from imitate.data.annotations import Box, box_fault
from imitate.data.lazy import np
from imitate.data.places import load_json
from imitate.data.records import Excluded, Record
from imitate.data.splits import draw_patients, published_three
from imitate.data.tables import find, present, read_table, require_filled
from imitate.errors import UserError
from imitate.sources import Options, Source, Traits

CLASSES = ("Healthy", "Sick without tuberculosis", "Tuberculosis")
KINDS = dict(zip(("health", "sick", "tb"), CLASSES, strict=True))  # by folder
IMAGE_TYPES = dict(zip(("healthy", "sick_but_no_tb", "tb"), CLASSES, strict=True))  # of the simplified edition
ACTIVE, LATENT = "Active tuberculosis", "Latent tuberculosis"
KINDS_OF_TB = {
    "ActiveTuberculosis": ACTIVE,
    "ObsoletePulmonaryTuberculosis": LATENT,
    "PulmonaryTuberculosis": CLASSES[2],
    "active_tb": ACTIVE,
    "latent_tb": LATENT,
}
SIDE = 512  # px of the published images
NESTED = ("", "TBX11K", "TBX11K/TBX11K", "tbx11k-simplified", "tbx11k-simplified/tbx11k-simplified")
log = logging.getLogger(__name__)
Boxes = dict[str, list[Box]]


class Tbx11kOptions(Options):
    split_by: Literal["official", "image"] | None = Field(
        None, description="official: the published parts; image: 70/15/15; default: official if there are parts"
    )


def records(options: Tbx11kOptions) -> Iterator[Record | Excluded]:
    root = _root(options.raw)
    simplified = not (root / "annotations").is_dir()
    if simplified and options.split_by == "official":
        raise UserError(f"{root / 'data.csv'} names no official parts: give --split-by image, or omit it")
    labels, boxes, parts = _simplified(root) if simplified else _original(root)
    names = sorted(labels)
    if parts and options.split_by != "image":
        train = [name for name in names if parts[name] == "train"]
        held = draw_patients(train, images=max(1, round(0.1 * len(train))))
        splits = dict.fromkeys(names, "test") | dict(zip(train, np.where(held, "val", "train").tolist(), strict=True))
    else:
        held_out = 2 * round(0.15 * len(names))
        splits = dict(zip(names, published_three(len(names), held_out=held_out).tolist(), strict=True))
    folder = find(root, "images" if simplified else "imgs")
    for name in names:
        drawn, label = tuple(boxes.get(name, ())), labels[name]
        fault = next(filter(None, (box_fault(box, frame=box.reference_size) for box in drawn)), None)
        if drawn and label != CLASSES[2]:
            fault = "box of tuberculosis without it"
        if fault:
            yield Excluded(name, fault)
            continue
        yield present(
            Record(
                image_id=name,
                image=folder / name,
                patient=name,
                study=name,
                split=splits[name],
                labels={each: float(each == label) for each in CLASSES},
                annotations=drawn,
                annotated=bool(drawn) or label != CLASSES[2],  # of one such image, nobody drew where
            ),
            root=folder,
        )


def _root(raw: Path) -> Path:
    for below in NESTED:
        if (raw / below / "annotations").is_dir() or (raw / below / "data.csv").is_file():
            return raw / below
    raise UserError(f"{raw} has no annotations/ and no data.csv: --raw must be the folder of TBX11K that contains one")


Found = tuple[dict[str, str], Boxes, dict[str, str]]
"""Of each image by its name: its class, its boxes, and its official part."""


def _original(root: Path) -> Found:
    labels: dict[str, str] = {}
    boxes: Boxes = defaultdict(list)
    parts: dict[str, str] = {}
    for part in ("train", "val"):
        path = root / "annotations" / "json" / f"TBX11K_{part}.json"
        names, of_part = _of_json(path) if path.is_file() else _of_lists(root, part)
        for name in names:
            if parts.get(name, part) != part:
                raise UserError(f"{root}: image {name} is in train and in val: download the lists again")
            labels[name], parts[name] = _kind(name, root), part
        boxes.update(of_part)
    return labels, boxes, parts


def _kind(name: str, root: Path) -> str:
    kind = KINDS.get(name.split("/")[0])
    if kind is None or name.count("/") != 1:
        raise UserError(f"{root} lists the image {name!r}, which is not in {', '.join(KINDS)}: download it again")
    return kind


def _of_json(path: Path) -> tuple[list[str], Boxes]:
    found = load_json(path, dict)
    boxes: Boxes = defaultdict(list)
    try:
        names = {image["id"]: str(image["file_name"]) for image in found["images"]}
        sizes = {each["id"]: (int(each.get("width", SIDE)), int(each.get("height", SIDE))) for each in found["images"]}
        kinds = {category["id"]: _tb(str(category["name"])) for category in found["categories"]}
        for each in found["annotations"]:
            x, y, width, height = map(float, each["bbox"])
            size = sizes[each["image_id"]]
            box = Box(kinds[each["category_id"]], x, y, width, height, reference_size=size)
            boxes[names[each["image_id"]]].append(box)
    except (KeyError, TypeError, ValueError) as error:
        what = f"images, annotations and categories in COCO's form ({type(error).__name__}: {error})"
        raise UserError(f"{path} does not hold {what}: download it again") from error
    return list(names.values()), boxes


def _of_lists(root: Path, part: str) -> tuple[list[str], Boxes]:
    path = find(root, f"lists/TBX11K_{part}.txt")
    names = list(dict.fromkeys(path.read_text(encoding="utf-8", errors="replace").split()))
    boxes: Boxes = defaultdict(list)
    for name in names:
        file = root / "annotations" / "xml" / f"{Path(name).stem}.xml"
        if file.is_file():
            boxes[name] += _of_xml(file)
    return names, boxes


def _of_xml(path: Path) -> Iterator[Box]:
    try:
        tree = parse(path)
        size = (int(tree.findtext("size/width", "")), int(tree.findtext("size/height", "")))
        for each in tree.iterfind("object"):
            left, top, right, bottom = (float(each.findtext(f"bndbox/{edge}", "")) for edge in
                                        ("xmin", "ymin", "xmax", "ymax"))  # fmt: skip
            label = _tb(each.findtext("name", ""))
            yield Box(label, left, top, right - left, bottom - top, reference_size=size)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise UserError(f"{path} is not an annotation of TBX11K ({error}): download it again") from error


def _tb(name: str) -> str:
    kind = KINDS_OF_TB.get(name.strip())
    if kind is None:
        raise ValueError(f"{name!r} is not a kind of tuberculosis")
    return kind


def _simplified(root: Path) -> Found:
    """Of data.csv, which has a row a box."""
    path = root / "data.csv"
    wanted = ["image_height", "image_width", "tb_type"]
    table = read_table(path, ["fname", "image_type", "bbox"], optional=wanted, text=True)
    require_filled(table, ["fname", "image_type"], path=path)
    if strange := sorted(set(table["image_type"]) - set(IMAGE_TYPES)):
        raise UserError(f"{path}: image_type {strange[0]!r} is none of {', '.join(IMAGE_TYPES)}")
    labels: dict[str, str] = {}
    boxes: Boxes = defaultdict(list)
    if repeated := int(table.duplicated().sum()):
        log.warning("%s: %d rows repeat another one and are ignored", path.name, repeated)
    for row in table.drop_duplicates().fillna("").to_dict("records"):
        name, label = row["fname"], IMAGE_TYPES[row["image_type"]]
        if labels.setdefault(name, label) != label:
            raise UserError(f"{path}: {name} is {labels[name]} and {label}: download it again")
        if row["bbox"].strip().lower() not in ("", "none"):
            boxes[name].append(_of_text(row, path))
    return labels, boxes, {}


def _of_text(row: Mapping[Any, Any], path: Path) -> Box:
    """bbox is a dict of Python in words."""
    try:
        values = ast.literal_eval(row["bbox"])
        x, y, width, height = (float(values[name]) for name in ("xmin", "ymin", "width", "height"))
        size = tuple(int(float(row.get(name) or SIDE)) for name in ("image_width", "image_height"))
        kind = _tb(row["tb_type"]) if row.get("tb_type") else CLASSES[2]
        if not all(map(math.isfinite, (x, y, width, height))):
            raise ValueError("not a number")
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        found = f"bbox {row['bbox'][:80]!r} of {row['fname']} ({type(error).__name__})"
        raise UserError(f"{path}: {found} is not a dict of xmin, ymin, width, height: download it again") from error
    return Box(kind, x, y, width, height, reference_size=(size[0], size[1]))


def _expected(options: Tbx11kOptions) -> dict[str, int]:
    simplified = options.split_by is None and not any((options.raw / each / "annotations").is_dir() for each in NESTED)
    sizes = (5_880, 1_260, 1_260) if simplified or options.split_by == "image" else (5_940, 660, 1_800)
    counts = {f"images in {split}": size for split, size in zip(("train", "val", "test"), sizes, strict=True)}
    return {"images": 8_400, **counts, **dict(zip(CLASSES, (3_800, 3_800, 800), strict=True))}


SOURCE = Source(
    records,
    Tbx11kOptions,
    CLASSES,
    signs=(
        ("annotations/json/TBX11K_*.json",),
        ("annotations/xml/tb*.xml", "lists/TBX11K_*.txt"),
        ("data.csv", "images/tb*.png"),
        *((f"{below}/annotations",) for below in NESTED[1:3]),
        *((f"{below}/data.csv",) for below in NESTED[3:]),
    ),
    expected=_expected,
    traits=Traits(patients="images", masks=True, exclusive=True, prompts="tbx11k"),
    tables=("data.csv", "annotations/json/*.json", "lists/*.txt"),
)
