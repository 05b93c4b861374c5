"""Official on-disk layouts of the sources with boxes: VinDr-CXR, TBX11K, ChestX-Det."""

import json
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import numpy as np
import pydicom

from imitate.names import VINDR
from imitate.synthetic.cases import Case, frontal_cases, usual
from imitate.synthetic.files import Row, begin, save_dicom, save_picture, save_table
from imitate.synthetic.labels import nih_name
from imitate.synthetic.lesions import Region
from imitate.synthetic.phantom import bounds, render

ROOT = "1.2.276.0.7230010.3.2"
CORNERS = ("x_min", "y_min", "x_max", "y_max")
FRAME = 1024  # px: in it the boxes of ChestX-Det count
IN_VINDR = {  # local label, and the global one beside it
    "Atelectasis": ("Atelectasis", ""),
    "Cardiomegaly": ("Cardiomegaly", ""),
    "Consolidation": ("Consolidation", ""),
    "COVID-19": ("Infiltration", "Other diseases"),
    "Edema": ("Edema", ""),
    "Fracture": ("Rib fracture", ""),
    "Lung Lesion": ("Nodule/Mass", "Lung tumor"),
    "Pleural Effusion": ("Pleural effusion", ""),
    "Pneumonia": ("Lung Opacity", "Pneumonia"),
    "Pneumothorax": ("Pneumothorax", ""),
}
Corners = tuple[float, float, float, float]


def write_vindr_cxr(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """DICOM files of both kinds of gray scale, readers who disagree on training images, one consensus on test ones."""
    begin(out, n=n, size=size)
    (out / "annotations").mkdir()
    tables: dict[str, list[Row]] = {f"{kind}_{part}": [] for kind in ("labels", "boxes") for part in ("train", "test")}
    chances = {**usual(0), "Cardiomegaly": 0.4}
    for number, case in enumerate(frontal_cases(seed, n, lambda _: chances)):
        name = case.generator("vindr id").bytes(16).hex()
        part = "test" if case.split == "test" else "train"
        phantom = render(case, size)
        _save_vindr(out / part / f"{name}.dicom", phantom.image, case, number)
        random = case.generator("vindr readers")
        readers = [f"R{reader}" for reader in random.choice(np.arange(1, 18), 3, replace=False)]
        for reader in readers if part == "train" else [""]:
            seen = [region for region in phantom.regions if region.finding.name in IN_VINDR]
            if reader:
                seen = [region for region in seen if random.random() < 0.85]
            boxes = [(IN_VINDR[region.finding.name][0], _shaken(region, size, random, reader)) for region in seen]
            found = {label for region in seen for label in IN_VINDR[region.finding.name]}
            found = found - {""} or {VINDR[-1]}
            own: Row = {"image_id": name} | ({"rad_id": reader} if reader else {})
            tables[f"labels_{part}"].append(own | {label: int(label in found) for label in VINDR})
            rows = [own | {"class_name": label} | dict(zip(CORNERS, box, strict=True)) for label, box in boxes]
            tables[f"boxes_{part}"] += rows or [own | {"class_name": "No finding"}]
    for part in ("train", "test"):
        keys = ["image_id", *["rad_id"] * (part == "train")]
        path = out / "annotations" / f"image_labels_{part}.csv"
        save_table(path, tables[f"labels_{part}"], [*keys, *VINDR])
        if part == "test":
            path.write_text(path.read_text().replace("Other diseases", "Other disease"), newline="\n")
        save_table(
            out / "annotations" / f"annotations_{part}.csv", tables[f"boxes_{part}"], [*keys, "class_name", *CORNERS]
        )


def _shaken(region: Region, size: int, random: np.random.Generator, reader: str) -> Corners:
    """The region's corners, as a reader sets them; those of the consensus are exact."""
    x, y, width, height = bounds(region.mask)
    corners = np.array([x, y, x + width, y + height])
    if reader:
        corners += random.normal(0, 0.04, 4) * np.array([width, height, width, height])
    left, top, right, bottom = corners.round(1).clip(0, size).tolist()
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _save_vindr(path: Path, pixels: np.ndarray, case: Case, number: int) -> None:
    """12 bit; every third is MONOCHROME1, and hardly a header has a sex or an age."""
    save_dicom(path, pixels, case, uids=[f"{ROOT}.{level}.{number}" for level in (2, 3, 4)])
    data, negative = pydicom.dcmread(path), number % 3 == 2
    data.PhotometricInterpretation = "MONOCHROME1" if negative else "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    deep = pixels.astype(np.uint16) * 16
    data.PixelData = (4095 - deep if negative else deep).tobytes()
    data.PatientSex = ("O", case.sex, "")[number % 3]
    data.PatientAge = ("000Y", f"{case.age:03d}Y", "")[number % 3]
    data.ViewPosition = ""
    data.save_as(path, enforce_file_format=True)


TB = (("ActiveTuberculosis", "Consolidation"), ("ObsoletePulmonaryTuberculosis", "Lung Lesion"))


def write_tbx11k(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """The original release: a third each of healthy, sick and tuberculous; a tenth is the test part without labels.

    Active tuberculosis looks like a consolidation here, latent like a nodule.
    """
    begin(out, n=n, size=size)
    kinds = ("health", "sick", "tb")
    entries: dict[str, list[tuple[str, list[Region]]]] = {"train": [], "val": []}
    for number, case in enumerate(frontal_cases(seed, n, _tb_chances)):
        kind, phantom = kinds[case.patient % 3], render(case, size)
        if number % 10 == 9:
            save_picture(out / "imgs" / "test" / f"test_{number:05d}.png", phantom.image)
            continue
        name = f"{kind}/{kind[0] if kind != 'tb' else kind}{number:04d}.png"
        save_picture(out / "imgs" / name, phantom.image)
        lesions = [region for region in phantom.regions if region.finding.name in {finding for _, finding in TB}]
        entries["train" if case.split == "train" else "val"].append((name, lesions if kind == "tb" else []))
    for folder in ("json", "xml"):
        (out / "annotations" / folder).mkdir(parents=True)
    (out / "lists").mkdir()
    for part, listed in entries.items():
        _save_coco(out / "annotations" / "json" / f"TBX11K_{part}.json", listed, size)
        (out / "lists" / f"TBX11K_{part}.txt").write_text("".join(f"{name}\n" for name, _ in listed), newline="\n")
        for name, regions in listed:
            if regions:
                _save_xml(out / "annotations" / "xml" / f"{Path(name).stem}.xml", regions, size)


def _tb_chances(patient: int) -> Mapping[str, float]:
    if patient % 3 == 0:
        return {}
    if patient % 3 == 1:
        return {"Pleural Effusion": 0.6, "Cardiomegaly": 0.6, "Edema": 0.3}
    return {"Consolidation": 1.0} if patient % 2 else {"Lung Lesion": 1.0}


def _save_coco(path: Path, listed: list[tuple[str, list[Region]]], size: int) -> None:
    names = {finding: place for place, (_, finding) in enumerate(TB, start=1)}
    annotations = [
        {"image_id": number, "category_id": names[region.finding.name], "bbox": list(bounds(region.mask))}
        for number, (_, regions) in enumerate(listed, start=1)
        for region in regions
    ]
    values = {
        "images": [
            {"id": number, "file_name": name, "width": size, "height": size}
            for number, (name, _) in enumerate(listed, start=1)
        ],
        "annotations": [{"id": number, **each} for number, each in enumerate(annotations, start=1)],
        "categories": [{"id": place, "name": name} for place, (name, _) in enumerate(TB, start=1)]
        + [{"id": 3, "name": "PulmonaryTuberculosis"}],
    }
    path.write_text(json.dumps(values), encoding="utf-8")


def _save_xml(path: Path, regions: list[Region], size: int, enlarged: int = 3) -> None:
    """In pixels of an original ``enlarged`` times as large."""
    names = {finding: name for name, finding in TB}
    objects = []
    for region in regions:
        x, y, width, height = (int(value) * enlarged for value in bounds(region.mask))
        edges = {"xmin": x, "ymin": y, "xmax": x + width, "ymax": y + height}
        corners = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges.items())
        objects.append(f"<object><name>{names[region.finding.name]}</name><bndbox>{corners}</bndbox></object>")
    side = enlarged * size
    frame = f"<size><width>{side}</width><height>{side}</height><depth>3</depth></size>"
    path.write_text(f"<annotation>{frame}{''.join(objects)}</annotation>\n", encoding="utf-8", newline="\n")


IN_DET = ("Atelectasis", "Consolidation", "Effusion", "Fracture", "Mass", "Nodule", "Pneumothorax", "Cardiomegaly")


def write_chestx_det(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """ChestX-Det: boxes and outlines in two JSON files, the images beside them under numbers."""
    begin(out, n=n, size=size)
    entries: dict[str, list[Row]] = {"train": [], "test": []}
    numbers = count(36200)
    for case in frontal_cases(seed, n, lambda patient: {**usual(patient), "Fracture": 0.1}):
        part = "test" if case.split == "test" else "train"
        phantom, name = render(case, size), f"{next(numbers)}.png"
        save_picture(out / f"{part}_data" / name, phantom.image)
        shown = [(label, region) for region in phantom.regions if (label := _det_name(region))]
        entries[part].append(
            {
                "file_name": name,
                "syms": [label for label, _ in shown],
                "boxes": [_det_box(region, size) for _, region in shown],
                "polygons": [outline(region.mask, FRAME / size) for _, region in shown],
            }
        )
    for part, listed in entries.items():
        (out / f"ChestX_Det_{part}.json").write_text(json.dumps(listed), encoding="utf-8")


def _det_name(region: Region) -> str | None:
    name = nih_name(region.finding) or region.finding.name
    return name if name in IN_DET else None


def _det_box(region: Region, size: int) -> list[int]:
    x, y, width, height = (value * FRAME / size for value in bounds(region.mask))
    return [round(x), round(y), round(x + width), round(y + height)]


def outline(mask: np.ndarray, scale: float = 1.0) -> list[list[int]]:
    """Along the upper edge of a region and back along its lower one, at a dozen columns."""
    filled = np.flatnonzero(mask.any(axis=0))
    columns = np.unique(np.linspace(filled[0], filled[-1], 12).astype(int))
    columns = columns[mask[:, columns].any(axis=0)]
    above = [(column, int(mask[:, column].argmax())) for column in columns]
    below = [(column, len(mask) - int(mask[::-1, column].argmax())) for column in columns[::-1]]
    return [[round(x * scale), round(y * scale)] for x, y in (*above, *below)]
