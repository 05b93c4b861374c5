"""The words of synthetic reports: noun phrases of findings, statements of what is absent, conclusions; in English.

``phrases_de`` and ``phrases_es`` hold those of other languages.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from imitate.synthetic.cases import CLASSES, OPACITIES, Finding

Statements = tuple[tuple[frozenset[str], tuple[str, ...]], ...]
"""What must be absent, and what is then said; wide ones first, each name is denied once."""


class Words(NamedTuple):
    """A language. Frames take ``phrase``, ``Phrase`` and the verbs; phrases take the fields and ``place``."""

    classes: Mapping[str, str]  # what a table calls them
    fields: Callable[[Finding], dict[str, str]]
    places: Mapping[str, tuple[str, ...]]  # by zone
    phrases: Mapping[str, tuple[str, ...]]
    verbs: Mapping[str, tuple[str, str]]  # for one and for several
    plurals: tuple[str, ...]  # what only phrases of several contain
    affirmed: tuple[str, ...]
    doubted: tuple[str, ...]
    concluded: tuple[str, ...]
    concluded_doubt: tuple[str, ...]
    without_article: frozenset[str]  # frames
    absent: Statements
    unremarkable: str
    normal: tuple[str, ...]
    symptoms: tuple[str, ...]
    filed: tuple[str, ...]  # lines of a whole report, with {symptom}, {findings}, {impression}


SIZE = {"mild": "small", "moderate": "moderate", "severe": "large"}
COUNT = {"mild": "one", "moderate": "two", "severe": "three"}
MASS = {"mild": "1.2 cm nodule", "moderate": "2.0 cm nodule", "severe": "4.3 cm mass"}

PLACES = {
    "upper": ("{side} upper lobe", "{side} upper lung zone", "{side} lung apex"),
    "middle": ("{side} mid lung", "{side} mid lung zone", "{side} perihilar region"),
    "lower": ("{side} lower lobe", "{side} lower lung zone", "{side} lung base"),
}

# A countable phrase begins with "a". Fields: side, zone, place, and severity as degree, size, count, mass.
PHRASES = {
    "Cardiomegaly": (
        "{degree} cardiomegaly",
        "{degree} enlargement of the cardiac silhouette",
        "{degree} enlargement of the heart",
    ),
    "Edema": (
        "{degree} pulmonary edema",
        "{degree} interstitial pulmonary edema",
        "{degree} perihilar haze in keeping with pulmonary edema",
    ),
    "Pleural Effusion": (
        "a {size} {side} pleural effusion",
        "a {size} pleural effusion on the {side}",
        "a {size} layering {side} pleural effusion",
    ),
    "Pleural Effusion/both": ("{size} bilateral pleural effusions", "bilateral pleural effusions, {size} in size"),
    "Pneumothorax": (
        "a {size} {side} pneumothorax",
        "a {size} {side} apicolateral pneumothorax",
        "a {size} pneumothorax on the {side}",
    ),
    "Consolidation": (
        "{degree} consolidation in the {place}",
        "{degree} {place} consolidation",
        "a dense area of {degree} consolidation in the {place}",
    ),
    "Pneumonia": (
        "a {degree} patchy opacity in the {place} concerning for pneumonia",
        "{degree} {place} pneumonia",
        "{degree} patchy airspace disease in the {place} consistent with pneumonia",
    ),
    "Atelectasis": (
        "{degree} plate-like atelectasis in the {place}",
        "{degree} linear atelectasis in the {place}",
        "{degree} subsegmental {place} atelectasis",
    ),
    "Lung Lesion": ("a {mass} in the {place}", "a {mass} projecting over the {place}", "a rounded {mass}, {place}"),
    "COVID-19": (
        "{degree} bilateral peripheral ground-glass opacities typical of COVID-19",
        "{degree} multifocal peripheral opacities in both lungs in keeping with COVID-19",
    ),
    "Fracture": (
        "a {degree}ly displaced {side} rib fracture",
        "a {degree}ly displaced fracture of a {side} {zone} rib",
    ),
    "Support Devices/endotracheal tube": (
        "an endotracheal tube with its tip above the carina",
        "an endotracheal tube in standard position",
    ),
    "Support Devices/enteric tube": (
        "an enteric tube with its tip in the stomach",
        "a nasogastric tube that courses below the diaphragm",
    ),
    "Support Devices/central venous line": (
        "a right internal jugular central venous line with its tip in the right atrium",
        "a right central venous catheter",
    ),
    "Support Devices/pacemaker": (
        "a left pectoral pacemaker with one lead",
        "a left-sided pacemaker with its lead in the right ventricle",
    ),
    "Foreign Object/button": (
        "{count} round metallic foreign object{s} over the {side} chest",
        "{count} foreign object{s}, likely button{s}, on the {side}",
    ),
    "Foreign Object/clip": (
        "{count} rectangular metallic foreign object{s} over the {side} chest",
        "{count} foreign object{s}, likely clip{s}, on the {side}",
    ),
    "Foreign Object/necklace": ("a necklace, a foreign object at the neck", "a foreign object at the neck, a necklace"),
}

AFFIRMED = (
    "There {is} {phrase}.",
    "{Phrase}.",
    "{Phrase} {is} present.",
    "{Phrase} {is} seen.",
    "{Phrase} {is} noted.",
)
DOUBTED = ("Possible {phrase}.", "There may be {phrase}.", "{Phrase} {is} suspected.")
CONCLUDED = ("{Phrase}.", "{Phrase}, as described above.", "Findings compatible with {phrase}.")
CONCLUDED_DOUBT = ("Possible {phrase}.", "Suspected {phrase}.")

LUNGS = OPACITIES | {"Lung Lesion"}
ABSENT: Statements = (
    (LUNGS, ("The lungs are clear.", "Lungs are well expanded and clear.", "Both lungs are clear.")),
    (frozenset({"Consolidation", "Pneumonia"}), ("There is no focal consolidation to suggest pneumonia.",)),
    (frozenset({"Consolidation"}), ("No focal consolidation.", "There is no focal consolidation.")),
    (frozenset({"Pneumonia"}), ("No evidence of pneumonia.",)),
    (
        frozenset({"Edema"}),
        ("There is no pulmonary edema.", "No overt pulmonary edema.", "The pulmonary vasculature is normal."),
    ),
    (
        frozenset({"Pleural Effusion", "Pneumothorax"}),
        (
            "There is no pleural effusion or pneumothorax.",
            "No pneumothorax or pleural effusion is seen.",
            "The pleural surfaces are clear without effusion or pneumothorax.",
        ),
    ),
    (
        frozenset({"Pleural Effusion"}),
        ("There is no pleural effusion.", "No effusion.", "The costophrenic angles are sharp."),
    ),
    (frozenset({"Pneumothorax"}), ("There is no pneumothorax.", "No pneumothorax is seen.")),
    (frozenset({"Lung Lesion"}), ("No suspicious pulmonary nodule is seen.",)),
    (
        frozenset({"Cardiomegaly"}),
        (
            "Heart size is normal.",
            "The cardiomediastinal silhouette is within normal limits.",
            "The heart is not enlarged.",
            "Cardiac and mediastinal contours are normal.",
        ),
    ),
    (
        frozenset({"Fracture"}),
        ("No acute osseous abnormality.", "The bony structures are intact.", "No displaced rib fracture."),
    ),
)

NORMAL = (
    "No acute cardiopulmonary process.",
    "No acute cardiopulmonary abnormality.",
    "Normal chest radiograph.",
    "No evidence of acute disease.",
    "No radiographic evidence of acute cardiopulmonary disease.",
)
ACUTE = OPACITIES | {"Pleural Effusion", "Pneumothorax"}
URGENCY = (  # what a conclusion names first
    "Pneumothorax",
    "Edema",
    "COVID-19",
    "Pneumonia",
    "Consolidation",
    "Pleural Effusion",
    "Lung Lesion",
    "Fracture",
    "Atelectasis",
    "Cardiomegaly",
    "Foreign Object",
    "Support Devices",
)
SYMPTOMS = ("cough", "fever", "shortness of breath", "chest pain", "a fall", "altered mental status", "dyspnea")


def _fields(finding: Finding) -> dict[str, str]:
    side, zone, _ = finding.place
    words = {"degree": finding.severity, "size": SIZE[finding.severity], "count": COUNT[finding.severity]}
    plural = "" if finding.severity == "mild" else "s"
    return {"side": side, "zone": zone, "mass": MASS[finding.severity], "s": plural, **words}


ENGLISH = Words(
    classes={name: name for name in CLASSES},
    fields=_fields,
    places=PLACES,
    phrases=PHRASES,
    verbs={"is": ("is", "are")},
    plurals=("opacities", "effusions", "objects"),
    affirmed=AFFIRMED,
    doubted=DOUBTED,
    concluded=CONCLUDED,
    concluded_doubt=CONCLUDED_DOUBT,
    without_article=frozenset({"{Phrase}.", "Possible {phrase}.", "Suspected {phrase}."}),
    absent=ABSENT,
    unremarkable="The chest is unremarkable.",
    normal=NORMAL,
    symptoms=SYMPTOMS,
    filed=(
        "Indication: {symptom}.",
        "Technique: chest radiograph.",
        "Findings: {findings}",
        "Impression: {impression}",
        "Electronically signed",
    ),
)
