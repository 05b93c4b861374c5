"""Official on-disk layouts of the sources with phrases: MS-CXR, PadChest-GR."""

import json
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from imitate.synthetic.cases import Case, Finding, draw_case, frontal_cases
from imitate.synthetic.files import Row, begin, save_picture, save_table
from imitate.synthetic.lesions import Region
from imitate.synthetic.mimic_ids import mimic_ids
from imitate.synthetic.phantom import bounds, render
from imitate.synthetic.wording import compose

IN_MS = {
    **{name: name for name in ("Cardiomegaly", "Pneumothorax", "Pneumonia", "Consolidation", "Pleural Effusion")},
    "COVID-19": "Lung Opacity",
    "Atelectasis": "Atelectasis",
    "Edema": "Edema",
}
MS_COLUMNS = (
    *("dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height", "split"),
)


def write_ms_cxr(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """The table of version 1.1.0 and its images in MIMIC-CXR-JPG's tree; what is on both sides has two boxes."""
    begin(out, n=n, size=size)
    rows: list[Row] = []
    for case in islice(_worded(seed), n):
        ids = mimic_ids(case)
        folder = f"files/p{ids['subject_id'] // 1_000_000}/p{ids['subject_id']}/s{ids['study_id']}"
        name = f"{folder}/{ids['dicom_id']}.jpg"
        width = round(size * case.generator(f"width {case.image}").uniform(0.82, 1.22))
        phantom, sentences = render(case, size, width), compose(case).sentences
        save_picture(out / name, phantom.image)
        for region in phantom.regions:
            if (category := IN_MS.get(region.finding.name)) is None:
                continue
            words = (ids["dicom_id"], category, sentences[region.finding].rstrip("."), name)
            numbers = (*map(int, bounds(region.mask)), width, size, case.split)
            rows.append(dict(zip(MS_COLUMNS, (*words, *numbers), strict=True)))
    save_table(out / "MS_CXR_Local_Alignment_v1.1.0.csv", rows, MS_COLUMNS)


def _worded(seed: int) -> Iterator[Case]:
    """Frontal cases with a finding of MS-CXR."""
    for case in (draw_case(seed, index) for index in count()):
        if case.view != "LATERAL" and any(finding.name in IN_MS for finding in case.findings):
            yield case


SPANISH = {  # label, and the words of a sentence
    "Atelectasis": ("atelectasis", "Atelectasia"),
    "COVID-19": ("infiltrates", "Infiltrados"),
    "Cardiomegaly": ("cardiomegaly", "Cardiomegalia"),
    "Consolidation": ("consolidation", "Consolidación"),
    "Edema": ("interstitial pattern", "Patrón intersticial"),
    "Fracture": ("rib fracture", "Fractura costal"),
    "Lung Lesion": ("nodule", "Nódulo"),
    "Pleural Effusion": ("pleural effusion", "Derrame pleural"),
    "Pneumonia": ("pneumonia", "Neumonía"),
    "Pneumothorax": ("pneumothorax", "Neumotórax"),
    "Support Devices": ("catheter", "Catéter"),
}
SIDES = {"left": " izquierdo", "right": " derecho", "both": " bilateral"}
NORMAL = ("normal", "No significant findings.", "Sin hallazgos significativos.")
MASTER = (
    *("StudyID", "ImageID", "label", "boxes_count", "extra_boxes_count", "sentence_en", "sentence_es"),
    *("study_is_benchmark", "study_is_validation", "split", "PatientID", "PatientSex_DICOM", "PatientAge"),
)


def write_padchest_gr(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """Sentences in two languages, some without a box, a second reader for some; 16-bit PNG files in original size."""
    begin(out, n=n, size=size)
    entries, rows = [], []
    for case in frontal_cases(seed, n):
        random = case.generator("padchest")
        number = f"{random.integers(10**15, 10**16)}"
        image, study = f"{number}_{case.patient:03d}-{case.study:03d}.png", number
        phantom = render(case, size)
        save_picture(out / "PadChest_GR" / image, phantom.image.astype(np.uint16) * 257)
        findings = list(_findings(case, phantom.regions, size, random))
        entries.append({"StudyID": study, "ImageID": image, "PreviousStudyID": None, "findings": findings})
        split = "validation" if case.split == "val" else case.split
        about = (True, False, split, f"PC{case.patient:05d}", case.sex, case.age)
        for finding in findings:
            for label in finding.get("labels", [NORMAL[0]]):
                counts = (len(finding.get(key, ())) for key in ("boxes", "extra_boxes"))
                texts = (finding["sentence_en"], finding["sentence_es"])
                rows.append(dict(zip(MASTER, (study, image, label, *counts, *texts, *about), strict=True)))
    (out / "grounded_reports_20240819.json").write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    save_table(out / "master_table.csv", rows, MASTER)


def _findings(case: Case, regions: list[Region], size: int, random: np.random.Generator) -> Iterator[dict[str, Any]]:
    """One a finding; what is normal has neither labels nor boxes."""
    said = compose(case).sentences
    shown = [finding for finding in case.findings if finding.name in SPANISH]
    for finding in shown:
        boxes = [_fractions(region.mask, size) for region in regions if region.finding == finding]
        yield {
            "sentence_en": said[finding],
            "sentence_es": _spanish(finding),
            "abnormal": True,
            "boxes": boxes if random.random() < 0.9 else [],  # of what is diffuse
            "extra_boxes": boxes if random.random() < 0.3 else [],
            "labels": [SPANISH[finding.name][0]],
            "locations": [finding.place.side] if finding.place.side else [],
        }
    if not shown:
        yield {"sentence_en": NORMAL[1], "sentence_es": NORMAL[2], "abnormal": False}


def _spanish(finding: Finding) -> str:
    return f"{SPANISH[finding.name][1]}{SIDES.get(finding.place.side, '')}."


def _fractions(mask: np.ndarray, size: int) -> list[float]:
    x, y, width, height = (value / size for value in bounds(mask))
    return [round(value, 4) for value in (x, y, x + width, y + height)]
