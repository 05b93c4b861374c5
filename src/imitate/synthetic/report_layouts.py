"""Official on-disk layouts of CheXpert Plus and ReXGradient-160K: images, reports in sections, demographics."""

import json
import math
from pathlib import Path

import numpy as np

from imitate.synthetic.cases import Case, draw_case
from imitate.synthetic.files import Row, begin, save_picture, save_table
from imitate.synthetic.labels import chexpert_mentions
from imitate.synthetic.phantom import render
from imitate.synthetic.wording import compose

CHEXPERT_PLUS = (
    *("path_to_image", "path_to_dcm", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order"),
    *("report", "section_narrative", "section_clinical_history", "section_history", "section_comparison"),
    *("section_technique", "section_procedure_comments", "section_findings", "section_impression"),
    *("section_end_of_impression", "section_summary", "section_accession_number", "age", "sex", "race", "ethnicity"),
    *("interpreter_needed", "insurance_type", "recent_bmi", "deceased", "split"),
)
RACES = ("White", "Asian", "Black or African American", "Other", "Unknown")
INSURANCES = ("Private Insurance", "Medicare", "Medicaid")


def write_chexpert_plus(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """PNG files and the table with its sections, whose paths say .jpg; CheXbert's labels of impressions."""
    begin(out, n=n, size=size)
    rows: list[Row] = []
    labels: list[str] = []
    for case in (draw_case(seed, index) for index in range(n)):
        part = "train" if case.split == "train" else "valid"
        patient, lateral = f"patient{case.patient + 1:05d}", case.view == "LATERAL"
        stem = f"{part}/{patient}/study{case.study + 1}/view{case.image + 1}_{'lateral' if lateral else 'frontal'}"
        save_picture(out / "PNG" / f"{stem}.png", render(case, size).image)
        keys = {"path_to_image": f"{stem}.jpg", "path_to_dcm": f"{stem}.dcm", "deid_patient_id": patient}
        view = {"frontal_lateral": "Lateral" if lateral else "Frontal", "ap_pa": None if lateral else case.view}
        rows.append(keys | view | _plus_report(case) | _plus_person(case) | {"split": part})
        mentioned = {name: None if math.isnan(value) else value for name, value in chexpert_mentions(case).items()}
        labels.append(json.dumps({"path_to_image": f"{stem}.jpg"} | mentioned) + "\n")
    save_table(out / "df_chexpert_plus_240401.csv", rows, CHEXPERT_PLUS)
    (out / "chexbert_labels").mkdir()
    (out / "chexbert_labels" / "impression_fixed.json").write_text("".join(labels), encoding="utf-8")


def _plus_report(case: Case) -> Row:
    """One study in three has an impression only, and one in five all in capitals, as many of the original's do."""
    report, random = compose(case), case.generator("chexpert plus")
    findings = None if random.random() < 1 / 3 else report.findings
    impression = report.impression
    if random.random() < 0.2:
        findings, impression = (text and text.upper() for text in (findings, impression))
    return {
        "report": f"NARRATIVE:\nIMPRESSION:\n{impression}\nACCESSION NUMBER: 7",
        "section_narrative": "\\n",
        "section_findings": findings and findings.replace(". ", ".\\n"),
        "section_impression": f"\\n{impression}" if impression else "\\n",
        "section_accession_number": "7",
        "patient_report_date_order": case.study + 1,
    }


def _plus_person(case: Case) -> Row:
    random = case.generator("chexpert plus person")
    return {
        "age": float(case.age),
        "sex": "Female" if case.sex == "F" else "Male",
        "race": RACES[case.patient % len(RACES)],
        "ethnicity": "Hispanic/Latino" if case.patient % 4 == 0 else "Non-Hispanic/Non-Latino",
        "interpreter_needed": "Yes" if case.patient % 6 == 0 else "No",
        "insurance_type": INSURANCES[case.patient % len(INSURANCES)],
        "recent_bmi": round(float(random.uniform(18, 36)), 1),
        "deceased": "No",
    }


REXGRADIENT = (
    *("id", "AccessionNumber", "StudyInstanceUid", "StudyDate", "StudyDescription", "PatientSex", "PatientAge"),
    *("Indication", "Comparison", "Findings", "Impression"),
)
VIEWS = {"PA": ("PA", "POSTERO_ANTERIOR"), "AP": ("AP", "ANTERO_POSTERIOR"), "LATERAL": ("LATERAL", "LL")}


def write_rexgradient(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """PNG files of 12 bits in 16; tables of studies, and lists of their images, whose paths begin with ../"""
    begin(out, n=n, size=size)
    studies: dict[str, dict[str, Row]] = {"train": {}, "valid": {}, "test": {}}
    images: dict[str, dict[str, Row]] = {"train": {}, "valid": {}, "test": {}}
    for number, case in enumerate(draw_case(seed, index) for index in range(n)):
        part = {"val": "valid"}.get(case.split, case.split)
        patient, accession = f"GRDN{case.patient:08d}", f"GRDN{1000 * case.patient + case.study:08d}"
        key, study = f"p{patient}_{accession}", f"GRDN.{case.patient}.{case.study}"
        name = f"{patient}/{accession}/studies/{study}/series/{study}.1/instances/{study}.1.{case.image + 1}.png"
        deep = render(case, size).image.astype(np.uint16) * 16
        save_picture(out / "deid_png" / name, deep)
        if key not in studies[part]:
            studies[part][key] = {"id": key, "AccessionNumber": accession, "StudyInstanceUid": study} | _rex_study(case)
        paths = images[part].setdefault(key, {"ImagePath": [], "ImageViewPosition": []})
        paths["ImagePath"].append(f"../deid_png/{name}")
        paths["ImageViewPosition"].append("KUB" if number % 29 == 28 else VIEWS[case.view][case.study % 2])
    for part, rows in studies.items():
        (out / "metadata").mkdir(exist_ok=True)
        save_table(out / "metadata" / f"{part}_metadata.csv", list(rows.values()), REXGRADIENT)
        path = out / "metadata" / f"{part}_metadata_view_position.json"
        path.write_text(json.dumps(images[part]), encoding="utf-8")


def _rex_study(case: Case) -> Row:
    """A missing section is the word None, and one patient in 20 an infant."""
    report = compose(case)
    return {
        "StudyDate": 20_140_101 + 10_000 * case.study,
        "StudyDescription": "XR CHEST 1 VIEW" if case.view == "AP" else "XR CHEST 2 VIEWS",
        "PatientSex": case.sex,
        "PatientAge": "002D" if case.patient % 20 == 19 else f"{case.age:03d}Y",
        "Indication": "Cough.",
        "Comparison": "None",
        "Findings": report.findings or "None",
        "Impression": report.impression or "None",
    }
