"""PadChest's on-disk layout: one table, 16-bit PNG files in folders and zips, Spanish reports without endings."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from imitate.synthetic.cases import Case, Finding, draw_case
from imitate.synthetic.files import Row, begin, save_picture, save_table
from imitate.synthetic.phantom import render

COLUMNS = (
    *("", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM"),
    *("ViewPosition_DICOM", "Projection", "MethodProjection", "Pediatric", "Modality_DICOM", "Manufacturer_DICOM"),
    *("PhotometricInterpretation_DICOM", "PixelRepresentation_DICOM", "PixelAspectRatio_DICOM"),
    *("SpatialResolution_DICOM", "BitsStored_DICOM", "WindowCenter_DICOM", "WindowWidth_DICOM", "Rows_DICOM"),
    *("Columns_DICOM", "XRayTubeCurrent_DICOM", "Exposure_DICOM", "ExposureInuAs_DICOM", "ExposureTime"),
    *("RelativeXRayExposure_DICOM", "ReportID", "Report", "MethodLabel", "Labels", "Localizations"),
    *("LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS"),
)
WORDS = {  # a finding, or a device: its label, and what a report without endings says
    "Lung Lesion": ("nodule", "nodul pulmon"),
    "Pneumothorax": ("pneumothorax", "neumotorax"),
    "COVID-19": ("infiltrates", "infiltr bilateral"),
    "Edema": ("pulmonary edema", "edem pulmon"),
    "Pleural Effusion": ("pleural effusion", "derram pleural"),
    "Consolidation": ("consolidation", "consolid"),
    "Pneumonia": ("pneumonia", "neumoni"),
    "Atelectasis": ("atelectasis basal", "atelectasi basal"),
    "Cardiomegaly": ("cardiomegaly", "cardiomegali"),
    "Fracture": ("rib fracture", "fractur costal"),
    "Foreign Object": ("metal", "material metal"),
    "endotracheal tube": ("endotracheal tube", "tub endotraqueal"),
    "enteric tube": ("NSG tube", "sond nasogastr"),
    "central venous line": ("central venous catheter", "cateter venos central"),
    "pacemaker": ("pacemaker", "marcapas"),
}
SIDES = {"right": " derech", "left": " izquierd", "both": " bilateral"}
MANUFACTURERS = ("PhilipsMedicalSystems", "ImagingDynamicsCompanyLtd")
ARCHIVED = ("1", "54")  # folders that are zip archives


def write_padchest(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """Images in the folders 0 and 2 and in the archives 1.zip and 54.zip, one patient in seven MONOCHROME1."""
    begin(out, n=n, size=size)
    (out / "images").mkdir()
    rows: list[Row] = []
    members: dict[str, dict[str, bytes]] = {folder: {} for folder in ARCHIVED}
    for number, case in enumerate(draw_case(seed, index) for index in range(n)):
        folder, name = ("0", "1", "2", "54")[number % 4], f"{_study(case)}_0{case.study}-{number:03d}-{seed:03d}.png"
        inverted = case.patient % 7 == 3
        deep = render(case, size).image.astype(np.uint16) * 257
        deep = 65_535 - deep if inverted else deep
        if folder in ARCHIVED:
            file = io.BytesIO()
            Image.fromarray(deep).save(file, "PNG", compress_level=1)
            members[folder][name] = file.getvalue()
        else:
            save_picture(out / "images" / folder / name, deep)
        rows.append({"": number, "ImageID": name, "ImageDir": folder} | _image(case, inverted, deep) | _report(case))
    for folder, files in members.items():
        with zipfile.ZipFile(out / "images" / f"{folder}.zip", "w", zipfile.ZIP_STORED) as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name), data)
    save_table(out / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", rows, COLUMNS)


def _study(case: Case) -> str:
    return f"2168401113669640{case.patient:07d}{case.study}"


def _image(case: Case, inverted: bool, pixels: np.ndarray) -> Row:
    projection = {"PA": "PA", "AP": "AP_horizontal" if case.patient % 2 else "AP", "LATERAL": "L"}[case.view]
    year = 2014 + case.study
    return {
        "StudyDate_DICOM": 10_000 * year + 512,
        "StudyID": _study(case),
        "PatientID": f"{839_860_488_694_292_331_637_988_235_681_460_987 + case.patient}",
        "PatientBirth": float(year - case.age),
        "PatientSex_DICOM": "O" if case.patient % 23 == 22 else case.sex,
        "Projection": "COSTAL" if case.patient % 13 == 12 else projection,
        "MethodProjection": "Manual review of DICOM fields",
        "Pediatric": "No",
        "Modality_DICOM": "DX",
        "Manufacturer_DICOM": MANUFACTURERS[case.patient % 2],
        "PhotometricInterpretation_DICOM": "MONOCHROME1" if inverted else "MONOCHROME2",
        "BitsStored_DICOM": 12,
        "WindowCenter_DICOM": "[2047.0, 100.0]" if case.patient % 5 == 0 else "2047",
        "WindowWidth_DICOM": "4095",
        "Rows_DICOM": pixels.shape[0],
        "Columns_DICOM": pixels.shape[1],
    }


def _report(case: Case) -> Row:
    """Labels have stray blanks, capitals and empty strings; a network has read three reports of four."""
    words = [_words(finding) for finding in case.findings]
    labels = [label for label, _ in words] or ["normal"]
    said = [text for _, text in words] or ["sin hallazg patolog", "no se observ alter"]
    draw = case.generator("padchest").random()
    if case.study and draw < 0.3:
        labels, said = ["unchanged"], ["sin cambi respect estudi previ"]
    elif draw < 0.04:
        labels = ["exclude"]
    elif draw > 0.96:
        labels.append("suboptimal study")
    odd = [label.title() if place % 3 == 2 else f" {label}" if place else label for place, label in enumerate(labels)]
    return {
        "ReportID": 4_000_000 + 10 * case.patient + case.study,
        "Report": None if draw > 0.99 else " . ".join(said) + " . ",
        "MethodLabel": "Physician" if case.patient % 4 == 0 else "RNN_model",
        "Labels": str([*odd, ""] if case.patient % 3 == 0 else odd),
    }


def _words(finding: Finding) -> tuple[str, str]:
    label, text = WORDS[finding.name if finding.name in WORDS else finding.place.kind]
    return label, text + SIDES.get(finding.place.side, "")
