"""On-disk layouts of BRAX, and of the radiologists' labels of ChestX-ray14."""

from pathlib import Path

from imitate.names import CHEXPERT, NIH
from imitate.synthetic.cases import Case, draw_case, frontal_cases
from imitate.synthetic.files import Row, begin, save_picture, save_table
from imitate.synthetic.labelled_layouts import NIH_HEADER, ROOT, nih_image
from imitate.synthetic.labels import chexpert_mentions, nih_name
from imitate.synthetic.phantom import render

BRAX = (
    *("", "DicomPath", "PngPath", "PatientID", "PatientSex", "PatientAge", "AccessionNumber", "StudyDate", *CHEXPERT),
    *("ViewPosition", "Rows", "Columns", "Manufacturer"),
)


def write_brax(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """PNG files and the spreadsheet: ages in steps of five years, labels as a reader of reports has them."""
    begin(out, n=n, size=size)
    rows: list[Row] = []
    for number, case in enumerate(draw_case(seed, index) for index in range(n)):
        patient, study = f"{case.patient + 1:020d}", f"{ROOT}.2.{case.patient}.{case.study}"
        place = f"id_{patient}/Study_{study}/Series_{study}.1/image-{study}.1.{case.image + 1}"
        pixels = render(case, size).image
        save_picture(out / "images" / f"{place}.png", pixels)
        view = {"LATERAL": "L" if case.study else "RL"}.get(case.view, case.view)
        rows.append(
            {
                "": number,
                "DicomPath": f"Anonymized_DICOMs/{place}.dcm",
                "PngPath": f"images/{place}.png",
                "PatientID": patient,
                "PatientSex": case.sex,
                "PatientAge": "85 or more" if case.age >= 85 else str(case.age // 5 * 5),
                "AccessionNumber": case.study + 1,
                "StudyDate": 1_500_000_000_000_000_000 + 86_400_000_000_000 * number,
                **chexpert_mentions(case),
                "ViewPosition": "" if number % 31 == 30 else view,
                "Rows": pixels.shape[0],
                "Columns": pixels.shape[1],
                "Manufacturer": ("Philips", "GE")[case.patient % 2],
            }
        )
    save_table(out / "master_spreadsheet_update.csv", rows, BRAX)


FOUR = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")
ALL = ("Abnormal", *(name.replace("_", " ") for name in NIH), "Other")
WORDS = ("NO", "YES")


def write_nih_google(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """The images that the layout of ChestX-ray14 has too, from the same seed, and both folders of labels."""
    begin(out, n=n, size=size)
    four: dict[str, list[Row]] = {"validation": [], "test": []}
    every: list[Row] = []
    for case in frontal_cases(seed, n):
        name, about = nih_image(case)
        save_picture(out / "images" / name, render(case, size).image)
        part = "test" if case.split == "test" else "validation"
        keys = dict(zip(NIH_HEADER, about, strict=True))
        four[part].append(keys | _four(case) | {"Set Id": "test" if part == "test" else "val"})
        if part == "test" and case.view == "PA":
            every.append({"Image ID": name, "Patient ID": case.patient + 1} | _all(case))
    folders = [out / f"{name}_findings_expert_labels" for name in ("four", "all")]
    for folder in folders:
        folder.mkdir()
    for part, rows in four.items():
        save_table(folders[0] / f"{part}_labels.csv", rows, (*NIH_HEADER, *FOUR, "Set Id"))
    save_table(folders[1] / "test_labels.csv", every, ("Image ID", "Patient ID", *ALL))


def _four(case: Case) -> Row:
    names = {finding.name for finding in case.findings}
    found = {
        "Fracture": "Fracture" in names,
        "Pneumothorax": "Pneumothorax" in names,
        "Airspace opacity": bool(names & {"Atelectasis", "COVID-19", "Consolidation", "Edema", "Pneumonia"}),
        "Nodule or mass": "Lung Lesion" in names,
    }
    return {name: WORDS[value] for name, value in found.items()}


def _all(case: Case) -> Row:
    names = {name.replace("_", " ") for finding in case.findings if (name := nih_name(finding))}
    other = any(nih_name(finding) is None for finding in case.findings)
    found = {name: name in names for name in ALL} | {"Abnormal": bool(case.findings), "Other": other}
    return {name: WORDS[value] for name, value in found.items()}
