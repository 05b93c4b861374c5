"""Official on-disk layouts of the sources with reports, and the registry of all layouts."""

import gzip
import hashlib
import io
import tarfile
from html import escape
from pathlib import Path
from typing import Protocol

from imitate.synthetic.box_layouts import write_chestx_det, write_tbx11k, write_vindr_cxr
from imitate.synthetic.cases import Case, draw_case
from imitate.synthetic.files import Row, begin, save_picture, save_table, save_zip
from imitate.synthetic.labelled_layouts import (
    write_chestxray14,
    write_chexpert,
    write_covidx,
    write_object_cxr,
    write_rsna,
    write_siim,
)
from imitate.synthetic.labels import CHEXPERT, NIH_CLASSES, chexpert_mentions, nih_name
from imitate.synthetic.mask_layouts import write_chexlocalize
from imitate.synthetic.mimic_ids import mimic_ids
from imitate.synthetic.padchest_layout import write_padchest
from imitate.synthetic.phantom import render
from imitate.synthetic.phrase_layouts import write_ms_cxr, write_padchest_gr
from imitate.synthetic.phrases import SYMPTOMS
from imitate.synthetic.relabelled_layouts import write_brax, write_nih_google
from imitate.synthetic.report_layouts import write_chexpert_plus, write_rexgradient
from imitate.synthetic.table_layout import write_table
from imitate.synthetic.wording import compose, mimic_report


class Write(Protocol):
    """Writes about ``n`` images of ``size`` px height; the same arguments give the same bytes."""

    def __call__(self, out: Path, *, n: int, seed: int, size: int = 256) -> None: ...


METADATA = (
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)
VIEW_MEANINGS = {"PA": "postero-anterior", "AP": "antero-posterior", "LATERAL": "lateral"}


def write_mimic_cxr(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """MIMIC-CXR-JPG's tree and tables, and beside them MIMIC-CXR's zip of reports."""
    begin(out, n=n, size=size)
    metadata, splits, labels, reports, sums = [], [], {}, {}, {}
    for index in range(n):
        case = draw_case(seed, index)
        ids = mimic_ids(case)
        folder = f"files/p{ids['subject_id'] // 1_000_000}/p{ids['subject_id']}"
        name = f"{folder}/s{ids['study_id']}/{ids['dicom_id']}.jpg"
        width = round(size * case.generator(f"width {case.image}").uniform(0.82, 1.22))
        save_picture(out / name, render(case, size, width).image)
        sums[name] = hashlib.sha256((out / name).read_bytes()).hexdigest()
        metadata.append(ids | _mimic_metadata(case, size, width))
        splits.append(ids | {"split": "validate" if case.split == "val" else case.split})
        if case.image == 0:
            reports[f"{folder}/s{ids['study_id']}.txt"] = mimic_report(case)
            labels[ids["study_id"]] = {key: ids[key] for key in ("subject_id", "study_id")} | chexpert_mentions(case)
    prefix = "mimic-cxr-2.0.0-"
    save_table(out / f"{prefix}metadata.csv.gz", metadata, METADATA)
    save_table(out / f"{prefix}split.csv.gz", splits, ("dicom_id", "study_id", "subject_id", "split"))
    for labeller in ("chexpert", "negbio"):
        save_table(
            out / f"{prefix}{labeller}.csv.gz", list(labels.values()), ("subject_id", "study_id", *sorted(CHEXPERT))
        )
    (out / "IMAGE_FILENAMES").write_text("".join(f"{name}\n" for name in sums), encoding="utf-8")
    (out / "SHA256SUMS.txt").write_text("".join(f"{sums[name]} {name}\n" for name in sums), encoding="utf-8")
    save_zip(out / "mimic-cxr-reports.zip", reports)


def _mimic_metadata(case: Case, rows: int, columns: int) -> Row:
    """One view in thirty is blank, and one lateral view in two is called LL, as in the original."""
    random = case.generator(f"metadata {case.image}")
    view = "" if random.random() < 1 / 30 else "LL" if case.view == "LATERAL" and random.random() < 0.5 else case.view
    return {
        "PerformedProcedureStepDescription": "CHEST (PORTABLE AP)" if case.view == "AP" else "CHEST (PA AND LAT)",
        "ViewPosition": view,
        "Rows": rows,
        "Columns": columns,
        "StudyDate": 21_500_000 + 10_000 * case.study + 100 * random.integers(1, 13) + random.integers(1, 29),
        "StudyTime": round(float(random.integers(24) * 10_000 + random.integers(60) * 100 + random.uniform(0, 60)), 3),
        "ProcedureCodeSequence_CodeMeaning": "CHEST (PORTABLE AP)" if case.view == "AP" else "CHEST (PA AND LAT)",
        "ViewCodeSequence_CodeMeaning": VIEW_MEANINGS[case.view],
        "PatientOrientationCodeSequence_CodeMeaning": "Erect",
    }


def write_open_i(out: Path, *, n: int, seed: int, size: int = 256) -> None:
    """The CSV form with its images, the official tgz of XML reports, and the NegBio labels of its studies."""
    begin(out, n=n, size=size)
    reports, projections, labels, documents = [], [], [], {}
    for index in range(n):
        case = draw_case(seed, index)
        uid = 1 + 3 * case.patient + case.study
        projection, series = ("Lateral", 3001) if case.view == "LATERAL" else ("Frontal", 4001)
        stem = f"{uid}_IM-{case.patient:04d}-{series}"
        save_picture(out / "images" / "images_normalized" / f"{stem}.dcm.png", render(case, size).image)
        projections.append({"uid": uid, "filename": f"{stem}.dcm.png", "projection": projection})
        if case.image == 0:
            reports.append({"uid": uid} | _open_i_report(case))
            found = {nih_name(finding) for finding in case.findings}
            flags = {name: int(name in found) for name in NIH_CLASSES} | {"normal": int(not case.findings)}
            labels.append({"filename": f"CXR{uid}"} | flags)
            documents[f"ecgen-radiology/{uid}.xml"] = _open_i_document(reports[-1], stem)
    projections.append({"uid": 1, "filename": "1_IM-0000-9001.dcm.png", "projection": "Frontal"})  # listed, not there
    save_table(out / "indiana_reports.csv", reports)
    save_table(out / "indiana_projections.csv", projections)
    save_table(out / "openi_gld_std14.csv", labels)
    _save_tgz(out / "NLMCXR_reports.tgz", documents)


def _open_i_report(case: Case) -> Row:
    """The sections, with the archive's token XXXX for what was removed."""
    report, random = compose(case), case.generator("open-i")
    problems = ";".join(finding.name for finding in case.findings) or "normal"
    symptom = SYMPTOMS[random.integers(len(SYMPTOMS))]
    findings, impression = (
        text and text.replace("radiograph", "x-XXXX").replace(" is seen", " is XXXX")
        for text in (report.findings, report.impression)
    )
    return {
        "MeSH": problems,
        "Problems": problems,
        "image": "PA and lateral chest" if case.view != "AP" else "Portable chest",
        "indication": f"XXXX-year-old {'female' if case.sex == 'F' else 'male'} with {symptom}.",
        "comparison": "None." if case.study == 0 else "XXXX.",
        "findings": findings,
        "impression": impression,
    }


def _open_i_document(report: Row, stem: str) -> str:
    parts = "".join(
        f'            <AbstractText Label="{name.upper()}">{escape(report[name] or "", quote=False)}</AbstractText>\n'
        for name in ("comparison", "indication", "findings", "impression")
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<eCitation>\n   <meta type="rr"/>\n'
        f'   <uId id="CXR{report["uid"]}"/>\n   <MedlineCitation>\n      <Article>\n         <Abstract>\n{parts}'
        "         </Abstract>\n      </Article>\n   </MedlineCitation>\n"
        f"   <MeSH>\n      <major>{report['MeSH']}</major>\n   </MeSH>\n"
        f'   <parentImage id="CXR{stem}"/>\n</eCitation>\n'
    )


def _save_tgz(path: Path, documents: dict[str, str]) -> None:
    with gzip.GzipFile(path, "wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for name, text in documents.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))


LAYOUTS: dict[str, Write] = {
    "open-i": write_open_i,
    "mimic-cxr": write_mimic_cxr,
    "table": write_table,
    "chexpert": write_chexpert,
    "rsna": write_rsna,
    "covidx": write_covidx,
    "chestxray14": write_chestxray14,
    "siim": write_siim,
    "object-cxr": write_object_cxr,
    "brax": write_brax,
    "chexpert-plus": write_chexpert_plus,
    "nih-google": write_nih_google,
    "padchest": write_padchest,
    "rexgradient": write_rexgradient,
    "chestx-det": write_chestx_det,
    "chexlocalize": write_chexlocalize,
    "ms-cxr": write_ms_cxr,
    "padchest-gr": write_padchest_gr,
    "tbx11k": write_tbx11k,
    "vindr-cxr": write_vindr_cxr,
}
