"""The words that settings and files use, where more than one module needs them."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

AnyPath = str | Path
Paths = AnyPath | Sequence[AnyPath]
Names = str | Sequence[str]
Models = str | PathLike[str] | Sequence[str | PathLike[str]]  # run folders, hub ids, random, ...
FLAGS: dict[Any, Any] = {  # what the command line takes where a function takes several types
    AnyPath: Path,
    AnyPath | None: Path | None,
    Paths: tuple[Path, ...],
    Names: tuple[str, ...],
    Models: tuple[str, ...],
}
Kernel = Literal["exp", "gaussian", "laplacian", "sigmoid", "none"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Texts = Literal["sections", "swapped", "report", "both"]
Aggregation = Literal["channels", "spatial", "pooled"]
ChannelChoice = Literal["replacement", "distinct", "sample"]
Mode = Literal["clean", "paper"]
# The first two are ours; those with a filter in their name are of published encoders, see data/squares.py
Resize = Literal[
    "stretch", "letterbox", "stretch-bilinear", "stretch-bicubic", "crop-bilinear", "crop-bicubic", "pad-area",
    "pad-lanczos", "frame-bicubic", "middle-bilinear",
]  # fmt: skip
TaskName = str  # of a built-in task, or of one of the entry-point group imitate.tasks
Branch = Literal["both", "findings", "impression"]
Backend = Literal["torch", "onnx"]  # what computes a model
Tracker = Literal["tensorboard", "csv", "wandb", "mlflow"]
CalibrationMethod = Literal["temperature", "platt", "isotonic"]
Aim = Literal["sensitivity", "specificity", "youden", "cost"]  # of a threshold
HeatMap = Literal["default", "gradient", "places", "attention"]
Language = Literal["en", "de", "es", "fr"]  # of reports, with built-in headers and templates (ISO 639-1)
Tone = Literal["native", "equalized", "unknown"]  # of gray values; equalized: their histogram is flat
Section = Literal["findings", "impression"]
SECTIONS: tuple[Section, Section] = ("findings", "impression")
REPORT = "report"  # findings and impression as one text
SENTENCES = "sentences"  # of the report

CHEXPERT = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)  # labels of CheXpert and MIMIC-CXR, in the order of the tables
NIH = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
)  # labels of ChestX-ray14 and Open-i, in the order of the publication  # fmt: skip
VINDR_LOCAL = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation",
    "Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst",
    "Mediastinal shift", "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax",
    "Pulmonary fibrosis", "Rib fracture", "Other lesion",
)  # labels of VinDr-CXR that have boxes, in the order of the tables  # fmt: skip
VINDR = (*VINDR_LOCAL, "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases", "No finding")


POPULATIONS = ("brax", "chest-xray14", "chexpert", "covidx", "mimic-cxr", "open-i", "padchest", "rexgradient")
"""Whose patients a public data set shows: sources of one population name the same patients by the same ids."""


def several(given: str | PathLike[str] | Sequence[Any]) -> tuple[Any, ...]:
    """One path or name, or several of them, as a tuple."""
    return (given,) if isinstance(given, str | PathLike) else tuple(given)


def repeated(words: Sequence[str], flags: Mapping[str, Any]) -> str:
    """The first of the flags that take several values which is given twice on the command line; empty if none is."""
    given = [word.partition("=")[0].replace("_", "-") for word in words]
    lists = (f"--{name.replace('_', '-')}" for name, kind in flags.items() if _is_list(kind))
    return next((flag for flag in lists if given.count(flag) > 1), "")


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple or any(map(_is_list, get_args(kind)))
