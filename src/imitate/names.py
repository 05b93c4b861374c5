"""The words that settings and files use, where more than one module needs them."""

from typing import Literal

Kernel = Literal["exp", "gaussian", "laplacian", "sigmoid", "none"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Texts = Literal["sections", "swapped", "report"]
ChannelChoice = Literal["replacement", "distinct", "sample"]
Mode = Literal["clean", "paper"]
Fit = Literal["squash", "pad"]
SourceName = Literal[
    "synthetic", "open-i", "mimic-cxr", "table", "chexpert", "rsna", "covidx", "chestxray14", "siim", "object-cxr"
]
TaskName = str  # of a built-in task, or of one of the entry-point group imitate.tasks
Branch = Literal["both", "findings", "impression"]
Section = Literal["findings", "impression"]
SECTIONS: tuple[Section, Section] = ("findings", "impression")
REPORT = "report"  # findings and impression as one text

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
