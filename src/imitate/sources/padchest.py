"""PadChest: 16-bit PNG files, Spanish reports without endings, and labels of physicians or of a network.

``raw`` holds PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv (or .csv.gz) and the images in folders named by
ImageDir, or in the zip files of that name, which are read in place; either may be below ``images``.

The publishers have applied the DICOM window, so that the one of the table is not applied again. They have not inverted
MONOCHROME1, which only the table says: it is done here. The report is the findings section, in Spanish ("es").
There is no official split: 80/10/10 by a hash of the patient. Images labelled exclude or suboptimal study, and those
of projection EXCLUDE, are excluded. The default selection is PA, AP and AP_HORIZONTAL.

A class of ``classes`` is positive where a label has its words in this order: fracture also in rib fracture, nodule in
nodules but not in pseudonodule; ``match`` exact takes equal labels only. An image whose only label is unchanged has no
labels, since its report says nothing but that; ``labelled_by`` physician does so with those that a network labelled.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from imitate.data.demographics import demographics
from imitate.data.records import Excluded, Record
from imitate.data.reports import cell_text
from imitate.data.tables import MISSING, find, hashed_split, is_below, is_there, newest_table, read_table
from imitate.errors import UserError
from imitate.sources import Options, Source, Traits
from imitate.sources.conventions import NOT_ARCHIVE, Archives, check_header, once, rows_of

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19"
HEADER = (
    *("ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM"),
    *("ViewPosition_DICOM", "Projection", "MethodProjection", "Pediatric", "Modality_DICOM", "Manufacturer_DICOM"),
    *("PhotometricInterpretation_DICOM", "PixelRepresentation_DICOM", "PixelAspectRatio_DICOM"),
    *("SpatialResolution_DICOM", "BitsStored_DICOM", "WindowCenter_DICOM", "WindowWidth_DICOM", "Rows_DICOM"),
    *("Columns_DICOM", "XRayTubeCurrent_DICOM", "Exposure_DICOM", "ExposureInuAs_DICOM", "ExposureTime"),
    *("RelativeXRayExposure_DICOM", "ReportID", "Report", "MethodLabel", "Labels", "Localizations"),
    *("LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS"),
)
REQUIRED = (
    *("ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM"),
    *("Projection", "PhotometricInterpretation_DICOM", "Report", "MethodLabel", "Labels"),
)
CLASSES = (  # the 14 on which published models are compared zero-shot, then frequent ones
    *("normal", "pleural effusion", "pacemaker", "atelectasis", "pneumonia", "consolidation", "cardiomegaly"),
    *("emphysema", "nodule", "edema", "pneumothorax", "fracture", "mass", "catheter"),
    *("COPD signs", "aortic elongation", "scoliosis", "interstitial pattern", "infiltrates"),
)
UNUSABLE = ("exclude", "suboptimal study")
PROJECTIONS = {"L": "LATERAL"}
MEMBER = re.compile(r"(?:^|/)([^/]+\.png)$")


class PadchestOptions(Options):
    classes: tuple[str, ...] = Field(CLASSES, description="labels to use, by the publishers' names", min_length=1)
    match: Literal["words", "exact"] = Field(
        "words", description="words: rib fracture counts as fracture; exact: a label must equal the class"
    )
    labelled_by: Literal["any", "physician"] = Field(
        "any", description="physician: labels that a network extracted from reports are unknown"
    )


class _Reader(NamedTuple):
    options: PadchestOptions
    patterns: dict[str, re.Pattern[str]]
    places: _Places
    known: dict[str, set[str]]  # label -> its classes, of the labels that were met

    def classes(self, label: str) -> set[str]:
        if label not in self.known:
            self.known[label] = {name for name, pattern in self.patterns.items() if pattern.search(label)}
        return self.known[label]


def records(options: PadchestOptions) -> Iterator[Record | Excluded]:
    path = newest_table(options.raw, f"{TABLE[:-9]}*") or find(options.raw, f"{TABLE}.csv")
    table = read_table(path, REQUIRED, text=True)
    check_header(path, list(table.columns), HEADER)
    table, again = once(table[[name for name in HEADER if name in table]], "ImageID", path=path)
    yield from again
    reader = _Reader(options, _patterns(options), _Places(options.raw), {})
    table = table[[name for name in (*REQUIRED, "Manufacturer_DICOM") if name in table]]
    for row in rows_of(table):
        yield _record(row, reader, path)


def _patterns(options: PadchestOptions) -> dict[str, re.Pattern[str]]:
    """A label is of a class where the class's pattern is found in it."""
    exact = options.match == "exact"
    return {
        name: re.compile(rf"^{re.escape(name.lower())}$" if exact else rf"\b{re.escape(name.lower())}s?\b")
        for name in options.classes
    }


def _record(row: dict[str, Any], reader: _Reader, path: Path) -> Record | Excluded:
    name, patient = row["ImageID"], row["PatientID"]
    if not all((name, patient, row["StudyID"], row["ImageDir"])):
        return Excluded(str(name), "row without ids")
    found = _labels(row["Labels"], path)
    projection = (row["Projection"] or "").strip().upper()
    unusable = next((word for word in UNUSABLE if word in (found or ())), None)
    if unusable or projection == "EXCLUDE":
        return Excluded(name, f"labelled {unusable}" if unusable else "projection EXCLUDE")
    place = reader.places.find(row["ImageDir"].strip().removesuffix(".0"), name)
    if isinstance(place, str):
        return Excluded(name, place)
    report = (cell_text(row["Report"]) or "").replace(" .", ".") or None
    read = reader.options.labelled_by == "any" or (row["MethodLabel"] or "").strip().casefold() == "physician"
    labels = None
    if read and found and found != {"unchanged"}:
        positive = {each for label in found for each in reader.classes(label)}
        labels = {name: float(name in positive) for name in reader.patterns}
    return Record(
        image_id=name,
        image=place[0],
        member=place[1],
        patient=patient,
        study=row["StudyID"],
        split=hashed_split(patient),
        projection=PROJECTIONS.get(projection, projection),
        findings=report,
        language="es" if report else "",
        labels=labels,
        **demographics(sex=row["PatientSex_DICOM"], age=_age(row), scanner=row.get("Manufacturer_DICOM")),
        invert=(row["PhotometricInterpretation_DICOM"] or "").strip().upper() == "MONOCHROME1",
    )


def _labels(cell: str | None, path: Path) -> set[str] | None:
    """The text of a Python list with stray blanks, cases and empty strings; None where there is none."""
    if cell is None or not cell.strip():
        return None
    try:
        values = ast.literal_eval(cell)
        return {" ".join(value.split()).lower() for value in values if value.strip()}
    except (ValueError, SyntaxError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        raise UserError(f"{path}: Labels {cell[:60]!r} is not a list of labels: download the table again") from error


def _age(row: dict[str, Any]) -> int | None:
    """Years from birth to the study; ``2017 - birth``, as some code has it, is the age at the end of the archive."""
    born = re.fullmatch(r"(\d{4})(?:\.0*)?", (row["PatientBirth"] or "").strip())
    taken = re.match(r"(\d{4})\d{4}", (row["StudyDate_DICOM"] or "").strip())
    return int(taken[1]) - int(born[1]) if born and taken else None


class _Places:
    """Where images are: in folders and in zip archives, which are opened once."""

    def __init__(self, raw: Path) -> None:
        self.raw = raw
        self.bases = [base for base in (raw / "images", raw) if base.is_dir()]
        self.archives: dict[str, Archives] = {}

    def find(self, folder: str, name: str) -> tuple[Path, str] | str:
        """The file and, of an archive, the member; or why there is none."""
        for base in self.bases:
            file = base / folder / name
            if not is_below(file, self.raw):
                return "image outside the root"
            if is_there(file):
                return file, ""
        if folder not in self.archives:
            zips = [base / f"{folder}.zip" for base in self.bases]
            self.archives[folder] = Archives([path for path in zips if is_there(path)], MEMBER)
        archives = self.archives[folder]
        return archives.places.get(name) or (NOT_ARCHIVE if archives.damaged else MISSING)


SOURCE = Source(
    records,
    PadchestOptions,
    classes=lambda options: options.classes,
    signs=((f"{TABLE[:-9]}*",),),
    expected={"records": 160_861},
    traits=Traits(projections=("PA", "AP", "AP_HORIZONTAL"), population="padchest", prompts="padchest"),
)
