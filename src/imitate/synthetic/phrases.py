"""The words of synthetic reports: noun phrases of findings, statements of what is absent, conclusions."""

from imitate.synthetic.cases import OPACITIES

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
        "{count} round metallic foreign object(s) over the {side} chest",
        "{count} foreign object(s), likely button(s), on the {side}",
    ),
    "Foreign Object/clip": (
        "{count} rectangular metallic foreign object(s) over the {side} chest",
        "{count} foreign object(s), likely clip(s), on the {side}",
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
ABSENT = (  # (what must be absent, statements); wide ones first, each name is denied once
    (LUNGS, ("The lungs are clear.", "Lungs are well expanded and clear.", "Both lungs are clear.")),
    ({"Consolidation", "Pneumonia"}, ("There is no focal consolidation to suggest pneumonia.",)),
    ({"Consolidation"}, ("No focal consolidation.", "There is no focal consolidation.")),
    ({"Pneumonia"}, ("No evidence of pneumonia.",)),
    ({"Edema"}, ("There is no pulmonary edema.", "No overt pulmonary edema.", "The pulmonary vasculature is normal.")),
    (
        {"Pleural Effusion", "Pneumothorax"},
        (
            "There is no pleural effusion or pneumothorax.",
            "No pneumothorax or pleural effusion is seen.",
            "The pleural surfaces are clear without effusion or pneumothorax.",
        ),
    ),
    ({"Pleural Effusion"}, ("There is no pleural effusion.", "No effusion.", "The costophrenic angles are sharp.")),
    ({"Pneumothorax"}, ("There is no pneumothorax.", "No pneumothorax is seen.")),
    ({"Lung Lesion"}, ("No suspicious pulmonary nodule is seen.",)),
    (
        {"Cardiomegaly"},
        (
            "Heart size is normal.",
            "The cardiomediastinal silhouette is within normal limits.",
            "The heart is not enlarged.",
            "Cardiac and mediastinal contours are normal.",
        ),
    ),
    ({"Fracture"}, ("No acute osseous abnormality.", "The bony structures are intact.", "No displaced rib fracture.")),
)

NORMAL = (
    "No acute cardiopulmonary process.",
    "No acute cardiopulmonary abnormality.",
    "Normal chest radiograph.",
    "No evidence of acute disease.",
    "No radiographic evidence of acute cardiopulmonary disease.",
)
NOTHING_ACUTE = NORMAL[:2]
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
