"""Official on-disk layouts of the labelled sources."""

import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from imitate.data.annotations import encode_runs
from imitate.synthetic.cases import Case, draw_case, frontal_cases, usual
from imitate.synthetic.files import Row, begin, save_dicom, save_picture, save_table
from imitate.synthetic.labels import CHEXPERT, chexpert_mentions, chexpert_truth, nih_name
from imitate.synthetic.lesions import Region
from imitate.synthetic.phantom import bounds, render

FRAME = 1024  # px: in it the published annotations of RSNA, SIIM and ChestX-ray14 count, whatever the files' size
COMPETITION = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
BOXED = {"Atelectasis", "Effusion", "Cardiomegaly", "Infiltration", "Pneumonia", "Pneumothorax", "Mass", "Nodule"}
NIH_HEADER = (  # as its unquoted commas break it
    *("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position"),
    *("OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"),
)
ROOT = "1.2.276.0.7230010.3.1"


def write_chexpert(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """train, valid and test by patient. Every other patient has one competition finding alone, as 5x200 needs them."""
    begin(out, n=n, size=size)
    tables: dict[str, list[Row]] = {"train": [], "valid": []}
    studies: dict[str, Row] = {}
    for case in (draw_case(seed, index, _chexpert_chances) for index in range(n)):
        part = {"val": "valid"}.get(case.split, case.split)
        folder = f"{part}/patient{case.patient + 1:05d}/study{case.study + 1}"
        lateral = case.view == "LATERAL"
        name = f"{folder}/view{case.image + 1}_{'lateral' if lateral else 'frontal'}.jpg"
        width = round(size * case.generator(f"width {case.image}").uniform(0.82, 1.22))
        save_picture(out / name, render(case, size, width).image)
        if part == "test":
            studies[folder] = {"Study": f"CheXpert-v1.0/{folder}"} | chexpert_truth(case)
            continue
        about = {
            "Path": f"CheXpert-v1.0-small/{name}",
            "Sex": "Female" if case.sex == "F" else "Male",
            "Age": case.age,
            "Frontal/Lateral": "Lateral" if lateral else "Frontal",
            "AP/PA": None if lateral else case.view,
        }
        labels = chexpert_mentions(case) if part == "train" else chexpert_truth(case)
        tables[part].append(about | labels)
    for part, rows in tables.items():
        save_table(out / f"{part}.csv", rows, ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT))
    save_table(out / "groundtruth.csv", list(studies.values()), ("Study", *CHEXPERT))


def _chexpert_chances(patient: int) -> Mapping[str, float]:
    return usual(patient) if patient % 2 else {COMPETITION[patient // 2 % len(COMPETITION)]: 1.0}


def write_rsna(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """DICOM files and two tables; a tenth of the images is the unlabelled test part."""
    begin(out, n=n, size=size)
    chances = {**usual(0), "Pneumonia": 0.2, "Consolidation": 0.1, "COVID-19": 0.0}
    labels: list[Row] = []
    classes: list[Row] = []
    for number, case in enumerate(frontal_cases(seed, n, lambda _: chances)):
        phantom, name = render(case, size), str(uuid.UUID(bytes=case.generator("rsna id").bytes(16)))
        folder = "stage_2_test_images" if number % 10 == 9 else "stage_2_train_images"
        uids = [f"{ROOT}.{level}.8323329.{number}" for level in (2, 3, 4)]
        save_dicom(out / folder / f"{name}.dcm", phantom.image, case, uids=uids)
        if folder == "stage_2_test_images":
            continue
        opacities = [region for region in phantom.regions if region.finding.name in {"Pneumonia", "Consolidation"}]
        boxes = [np.array(bounds(region.mask)) * FRAME / size for region in opacities]
        corners = [dict(zip(("x", "y", "width", "height"), box.tolist(), strict=True)) for box in boxes]
        labels += [{"patientId": name} | box | {"Target": int(bool(box))} for box in corners or [{}]]
        kind = "Lung Opacity" if boxes else "No Lung Opacity / Not Normal" if case.findings else "Normal"
        classes += [{"patientId": name, "class": kind}] * max(1, len(boxes))
    save_table(out / "stage_2_train_labels.csv", labels, ("patientId", "x", "y", "width", "height", "Target"))
    save_table(out / "stage_2_detailed_class_info.csv", classes)


def write_covidx(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """The three-class lists 9A: patient, file, class, source; the class goes with the patient."""
    begin(out, n=n, size=size)
    chances: tuple[Mapping[str, float], ...] = ({}, {"Pneumonia": 1.0}, {"COVID-19": 1.0})
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for number, case in enumerate(frontal_cases(seed, n, lambda patient: chances[patient % 3])):
        label = ("normal", "pneumonia", "COVID-19")[case.patient % 3]
        source = ("stonybrook", "sirm", "ricord")[case.patient // 3 % 3] if label == "COVID-19" else "rsna"
        part = "test" if case.split == "test" else "train"
        patient = f"{source}-{case.patient:05d}"
        name = f"{patient}-{case.study}.{'png' if number % 2 else 'jpg'}"
        save_picture(out / part / name, render(case, size).image)
        lists[part].append(f"{patient} {name} {label} {source}\n")
    for part, lines in lists.items():
        (out / f"{part}_COVIDx9A.txt").write_text("".join(lines), encoding="utf-8")


def write_chestxray14(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """Images, entries, official lists, and the boxes of test images; both headers break at commas in brackets."""
    begin(out, n=n, size=size)
    entries, boxes, lists = [], [], {"train_val": "", "test": ""}
    for case in frontal_cases(seed, n):
        phantom, (name, entry) = render(case, size), nih_image(case)
        save_picture(out / "images" / name, phantom.image)
        entries.append(",".join(map(str, entry)))
        lists["test" if case.split == "test" else "train_val"] += f"{name}\n"
        if case.split == "test":
            boxes += [f"{name},{line}" for region in phantom.regions if (line := _nih_box(region, size))]
    _save_lines(out / "Data_Entry_2017_v2020.csv", [",".join(NIH_HEADER), *entries])
    _save_lines(out / "BBox_List_2017.csv", ["Image Index,Finding Label,Bbox [x,y,w,h],,,", *boxes])
    for part, text in lists.items():
        (out / f"{part}_list.txt").write_text(text, encoding="utf-8")


def nih_image(case: Case) -> tuple[str, tuple[object, ...]]:
    """The name of the file, and what the table of entries says of it."""
    name = f"{case.patient + 1:08d}_{case.study:03d}.png"
    found = sorted({label for finding in case.findings if (label := nih_name(finding))})
    about = (case.study, case.patient + 1, case.age, case.sex, case.view, 2 * FRAME, 2 * FRAME, 0.171, 0.171)
    return name, (name, "|".join(found) or "No Finding", *about)


def _nih_box(region: Region, size: int) -> str | None:
    label = nih_name(region.finding)
    if label not in BOXED:
        return None
    box = np.array(bounds(region.mask)) * FRAME / size
    return ",".join([label.replace("Infiltration", "Infiltrate"), *map(str, box.tolist()), "", "", ""])


def _save_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_siim(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """DICOM files in a tree by study and series, and run lengths; some masks take several rows."""
    begin(out, n=n, size=size)
    chances = {**usual(0), "Pneumothorax": 0.4}
    rows = []
    for number, case in enumerate(frontal_cases(seed, n, lambda _: chances)):
        phantom = render(case, size)
        study, series, image = (
            f"{ROOT}.{level}.8323329.{300 + number}.1517875.{100_000 + number}" for level in (2, 3, 4)
        )
        path = out / "dicom-images-train" / study / series / f"{image}.dcm"
        save_dicom(path, phantom.image, case, uids=(study, series, image))
        air = next((region.mask for region in phantom.regions if region.finding.name == "Pneumothorax"), None)
        parts = [] if air is None else _parts(_enlarged(air), 1 + number % 3)
        rows += [{"ImageId": image, " EncodedPixels": text} for text in (f" {encode_runs(part)}" for part in parts)]
        if air is None:
            rows.append({"ImageId": image, " EncodedPixels": " -1"})
    save_table(out / "train-rle.csv", rows)


def _enlarged(mask: np.ndarray) -> np.ndarray:
    rows, columns = (np.arange(FRAME) * side // FRAME for side in mask.shape)
    return mask[np.ix_(rows, columns)]


def _parts(mask: np.ndarray, count: int) -> list[np.ndarray]:
    """The mask cut into horizontal bands; each has pixels."""
    rows = np.array_split(np.flatnonzero(mask.any(axis=1)), count)
    return [mask & np.isin(np.arange(len(mask)), band)[:, None] for band in rows]


def write_object_cxr(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """train and dev; half of the images shows objects, drawn as rectangles, ellipses and polygons."""
    begin(out, n=n, size=size)
    chances = {**usual(0), "Foreign Object": 0.5}
    tables: dict[str, list[Row]] = {"train": [], "dev": []}
    for number, case in enumerate(frontal_cases(seed, n, lambda _: chances)):
        part = "dev" if case.split == "test" else "train"
        width = round(size * case.generator("width").uniform(0.82, 1.22))
        phantom, name = render(case, size, width), f"{number:05d}.jpg"
        save_picture(out / part / name, phantom.image)
        objects = [annotation(region) for region in phantom.regions if region.finding.name == "Foreign Object"]
        tables[part].append({"image_name": name, "annotation": ";".join(objects)})
    for part, rows in tables.items():
        save_table(out / f"{part}.csv", rows)


def annotation(region: Region) -> str:
    """A clip as rectangle, a button as ellipse, a necklace as the polygon along its upper and back its lower edge."""
    x, y, width, height = map(int, bounds(region.mask))
    kind = region.finding.place.kind
    if kind != "necklace":
        return f"{0 if kind == 'clip' else 1} {x} {y} {x + width} {y + height}"
    columns = np.linspace(x, x + width - 1, 12).astype(int)
    above = [(column, int(region.mask[:, column].argmax())) for column in columns]
    below = [(column, len(region.mask) - int(region.mask[::-1, column].argmax())) for column in columns[::-1]]
    return " ".join(["2", *(f"{column} {row}" for column, row in above + below)])
