"""The label vectors that public data sets would give a case."""

import math

from imitate.names import CHEXPERT
from imitate.names import NIH as NIH_CLASSES
from imitate.synthetic.cases import OPACITIES, Case, Finding
from imitate.synthetic.wording import compose

NIH = {"Pleural Effusion": "Effusion", "COVID-19": "Infiltration"}  # where the name is another


def chexpert_truth(case: Case) -> dict[str, float]:
    """1 or 0 for each of CHEXPERT, as radiologists label the test images."""
    names = {finding.name for finding in case.findings}
    labels = {name: float(name in names) for name in CHEXPERT}
    labels["Lung Opacity"] = float(bool(names & (OPACITIES | {"Lung Lesion"})))
    labels["Enlarged Cardiomediastinum"] = labels["Cardiomegaly"]
    labels["No Finding"] = float(names <= {"Support Devices", "Foreign Object"})
    return labels


def chexpert_mentions(case: Case) -> dict[str, float]:
    """What a labeller reads in the report: 1, 0 (denied), -1 (doubtful), NaN (not mentioned)."""
    denied = compose(case).denied
    labels = {name: 0.0 if name in denied else math.nan for name in CHEXPERT}
    for finding in case.findings:
        if finding.name in labels:
            labels[finding.name] = 1.0 if finding.certain else -1.0
    if case.find("COVID-19"):
        labels["Lung Opacity"] = 1.0
    labels["No Finding"] = chexpert_truth(case)["No Finding"] or math.nan
    return labels


def nih_name(finding: Finding) -> str | None:
    """One of NIH_CLASSES; None where they have no name for it."""
    if finding.name == "Lung Lesion":
        return "Mass" if finding.severity == "severe" else "Nodule"
    name = NIH.get(finding.name, finding.name)
    return name if name in NIH_CLASSES else None
