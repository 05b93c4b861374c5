"""The table of segmentation and detection."""

import tables
from layout import Folder
from tables import Line

METRICS = {  # what a line is called: its task and metric, None for the main one
    "segmentation, Dice": ("segmentation", None),
    "segmentation, Dice, images with a lesion": ("segmentation", "dice_positives"),
    "segmentation, images without a lesion that have a prediction": ("segmentation", "false_positive_rate"),
    "detection, mAP": ("detection", None),
}


def of_fractions(study: Folder) -> str:
    lines = [
        Line(f"{text}, {100 * fraction:g}% of the patients", *measured, fraction)
        for text, measured in METRICS.items()
        for fraction in (1.0, 0.1)
    ]
    return tables.metrics(study, study.methods, lines, chance=True)
