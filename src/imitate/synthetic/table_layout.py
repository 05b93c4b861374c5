"""A hospital's own archive: PNG files and a table, in English or as hospitals elsewhere export it."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from imitate.synthetic.cases import CLASSES, Case, draw_case
from imitate.synthetic.files import Row, begin, save_picture, save_table
from imitate.synthetic.phantom import render
from imitate.synthetic.wording import compose, whole_report, words_of


class _Export(NamedTuple):
    """How a hospital writes its table."""

    file: str
    folder: str  # of the images
    columns: dict[str, str]  # what the options of ``table`` call them -> their names
    splits: dict[str, str]
    labels: tuple[str, str]  # no and yes
    delimiter: str
    encoding: str
    before: str = ""  # the header


EXPORTS = {
    "de": _Export(
        file="tabelle.csv",
        folder="bilder",
        columns={
            "image_path": "Bilddatei",
            "patient": "Patientennummer",
            "study": "Untersuchung",
            "split": "Aufteilung",
            "projection": "Projektion",
            "report": "Befundtext",
        },
        splits={"train": "Training", "val": "Validierung", "test": "Prüfung"},
        labels=("nein", "ja"),
        delimiter=";",
        encoding="cp1252",
        before="sep=;\r\n",
    ),
    "es": _Export(
        file="tabla.txt",
        folder="imágenes",
        columns={
            "image_path": "Archivo",
            "patient": "Paciente",
            "study": "Estudio",
            "split": "Grupo",
            "projection": "Proyección",
            "report": "Informe",
        },
        splits={"train": "Entrenamiento", "val": "Validación", "test": "Prueba"},
        labels=("no", "sí"),
        delimiter="\t",
        encoding="utf-16",
    ),
}
"""A CSV file of a German Excel, and the "Unicode text" of any."""


def write_table(out: Path, *, n: int, seed: int, size: int = 256, language: str = "en") -> None:
    """In English a CSV file with the sections; in another language whole reports, and words of that language alone."""
    words_of(language)
    begin(out, n=n, size=size)
    cases = [draw_case(seed, index) for index in range(n)]
    if language != "en":
        _write_export(out, cases, size, language)
        return
    rows = []
    for case in cases:
        report, name = compose(case), _save(out, case, size, folder="images")
        sections = {"projection": case.view, "findings": report.findings, "impression": report.impression}
        rows.append(_keys(case, name) | sections | {label: int(value) for label, value in case.labels.items()})
    save_table(out / "table.csv", rows)


def table_options(language: str) -> dict[str, Any]:
    """The options with which ``table`` reads what ``write_table`` wrote, but for its folder."""
    if language == "en":
        return {"labels": CLASSES}
    classes = tuple(words_of(language).classes[label] for label in CLASSES)
    return {**EXPORTS[language].columns, "labels": classes, "language": language}


def _write_export(out: Path, cases: list[Case], size: int, language: str) -> None:
    export, classes = EXPORTS[language], words_of(language).classes
    rows = []
    for case in cases:
        keys = _keys(case, _save(out, case, size, folder=export.folder))
        keys |= {"projection": case.view, "report": whole_report(case, language), "split": export.splits[case.split]}
        labels = {classes[label]: export.labels[int(value)] for label, value in case.labels.items()}
        rows.append({export.columns[name]: value for name, value in keys.items()} | labels)
    text = pd.DataFrame(rows).to_csv(index=False, sep=export.delimiter, lineterminator="\r\n")
    (out / export.file).write_bytes((export.before + text).encode(export.encoding))


def _save(out: Path, case: Case, size: int, *, folder: str) -> str:
    name = f"{folder}/P{case.patient:05d}-{case.study + 1}-{case.view.lower()}.png"
    save_picture(out / name, render(case, size).image)
    return name


def _keys(case: Case, name: str) -> Row:
    patient = f"P{case.patient:05d}"
    return {"image_path": name, "patient": patient, "study": f"{patient}-{case.study + 1}", "split": case.split}
