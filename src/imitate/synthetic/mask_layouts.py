"""Official on-disk layout of CheXlocalize: CheXpert's validation and test images with masks of ten findings."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from imitate.data.coco import pack_counts
from imitate.names import CHEXPERT
from imitate.synthetic.box_layouts import outline
from imitate.synthetic.cases import OPACITIES, draw_case, usual
from imitate.synthetic.files import Row, begin, save_picture, save_table
from imitate.synthetic.labels import chexpert_truth
from imitate.synthetic.lesions import Region
from imitate.synthetic.phantom import render

DRAWN = (
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Airspace Opacity", "Edema", "Consolidation"),
    *("Atelectasis", "Pneumothorax", "Pleural Effusion", "Support Devices"),
)
ABOUT = ("Sex", "Age", "Frontal/Lateral", "AP/PA")


def write_chexlocalize(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """Masks as packed run lengths and as outlines; test tables without a column on patients or views."""
    begin(out, n=n, size=size)
    tables: dict[str, list[Row]] = {"val": [], "test": []}
    masks: dict[str, dict[str, Any]] = {"val": {}, "test": {}}
    outlines: dict[str, dict[str, Any]] = {"val": {}, "test": {}}
    for case in (draw_case(seed, index, lambda patient: {**usual(patient), "Cardiomegaly": 0.3}) for index in range(n)):
        part = "val" if case.patient % 3 else "test"
        lateral = case.view == "LATERAL"
        place = f"patient{64541 + case.patient}/study{case.study + 1}/view{case.image + 1}"
        place += "_lateral" if lateral else "_frontal"
        width = round(size * case.generator(f"width {case.image}").uniform(0.82, 1.22))
        phantom, truth = render(case, size, width), chexpert_truth(case)
        save_picture(out / "CheXpert" / part / f"{place}.jpg", phantom.image)
        about = ("Female" if case.sex == "F" else "Male", case.age, "Lateral" if lateral else "Frontal",
                 None if lateral else case.view)  # fmt: skip
        path = f"CheXpert-v1.0/{'valid' if part == 'val' else 'test'}/{place}.jpg"
        tables[part].append({"Path": path} | dict(zip(ABOUT, about, strict=True)) | truth)
        of_label = {label: _union(phantom.regions, label, (size, width)) for label in DRAWN}
        found = {label: mask for label, mask in of_label.items() if mask.any()}
        if found or part == "val":
            key = place.replace("/", "_")
            masks[part][key] = {label: _packed(mask) for label, mask in of_label.items()}
            outlines[part][key] = {"img_size": [size, width]} | {name: [outline(mask)] for name, mask in found.items()}
    for part, rows in tables.items():
        columns = ("Path", *(ABOUT if part == "val" else ()), *CHEXPERT)
        save_table(out / "CheXpert" / f"{part}_labels.csv", [{name: row[name] for name in columns} for row in rows])
        for kind, values in (("segmentations", masks), ("annotations", outlines)):
            file = out / "CheXlocalize" / f"gt_{kind}_{part}.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(values[part]), encoding="utf-8")


def _union(regions: list[Region], label: str, shape: tuple[int, int]) -> np.ndarray:
    names = {
        "Airspace Opacity": OPACITIES | {"Lung Lesion"},
        "Enlarged Cardiomediastinum": {"Cardiomegaly"},
    }.get(label, {label})
    found = [region.mask for region in regions if region.finding.name in names]
    return np.any([np.zeros(shape, bool), *found], axis=0)


def _packed(mask: np.ndarray) -> dict[str, Any]:
    """As COCO's tools write it: the runs of both kinds down the columns, the first one of what is not masked."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": pack_counts([0, *counts] if flat[0] else counts)}
