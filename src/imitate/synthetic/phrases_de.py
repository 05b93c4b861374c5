"""The words of synthetic reports in German. Phrases are in the nominative, which no frame changes."""

from imitate.synthetic.cases import Finding
from imitate.synthetic.phrases import LUNGS, Words

# Degree of severity, as an adverb and before a masculine, feminine, neuter noun, and before several
ADVERB = {"mild": "gering", "moderate": "mäßig", "severe": "deutlich"}
ENDINGS = {"m": "er", "f": "e", "n": "es", "p": "e"}
MASS = {
    "mild": "1,2 cm großer Rundherd",
    "moderate": "2,0 cm großer Rundherd",
    "severe": "4,3 cm große Raumforderung",
}
COUNT = {"mild": "ein", "moderate": "zwei", "severe": "drei"}
SIDES = {  # adverb, and after a preposition with the dative
    "right": ("rechts", "rechten"),
    "left": ("links", "linken"),
}
ZONES = {"upper": "oberen", "middle": "mittleren", "lower": "unteren"}

PLACES = {
    "upper": ("im {dative} Oberlappen", "im {dative} Oberfeld", "{adverb} apikal"),
    "middle": ("im {dative} Mittelfeld", "{adverb} perihilär", "in der Mitte der {dative} Lunge"),
    "lower": ("im {dative} Unterlappen", "im {dative} Unterfeld", "{adverb} basal"),
}

PHRASES = {
    "Cardiomegaly": (
        "{f} Kardiomegalie",
        "{f} Vergrößerung des Herzens",
        "{f} Verbreiterung der Herzsilhouette",
    ),
    "Edema": (
        "{n} Lungenödem",
        "{n} interstitielles Lungenödem",
        "{f} perihiläre Trübung im Sinne eines Lungenödems",
    ),
    "Pleural Effusion": (
        "{m} Pleuraerguss {adverb}",
        "{m} {adverb}seitiger Pleuraerguss",
        "{m}, auslaufender Pleuraerguss {adverb}",
    ),
    "Pleural Effusion/both": ("{p} Pleuraergüsse beidseits", "{p} beidseitige Pleuraergüsse"),
    "Pneumothorax": (
        "{m} Pneumothorax {adverb}",
        "{m} apikolateraler Pneumothorax {adverb}",
        "{m} {adverb}seitiger Pneumothorax",
    ),
    "Consolidation": (
        "{f} Konsolidierung {place}",
        "{f} flächige Konsolidierung {place}",
        "{f}, dichte Konsolidierung {place}",
    ),
    "Pneumonia": (
        "{f} fleckige Verschattung {place} mit Verdacht auf Pneumonie",
        "{f} Pneumonie {place}",
        "{p} fleckige Infiltrate {place} im Sinne einer Pneumonie",
    ),
    "Atelectasis": (
        "{f} Plattenatelektase {place}",
        "{f} streifige Atelektase {place}",
        "{f} subsegmentale Atelektase {place}",
    ),
    "Lung Lesion": ("{mass} {place}", "{place} {mass}"),
    "COVID-19": (
        "{p} periphere Milchglastrübungen beidseits, typisch für COVID-19",
        "{p} multifokale periphere Verschattungen beider Lungen, vereinbar mit COVID-19",
    ),
    "Fracture": (
        "{degree} dislozierte Rippenfraktur {adverb}",
        "{degree} dislozierte Fraktur einer Rippe {adverb} im {zone} Thoraxdrittel",
    ),
    "Support Devices/endotracheal tube": (
        "Endotrachealtubus mit Spitze oberhalb der Carina",
        "Trachealtubus in regelrechter Lage",
    ),
    "Support Devices/enteric tube": (
        "Magensonde mit Spitze im Magen",
        "nasogastrale Sonde mit Verlauf bis unter das Zwerchfell",
    ),
    "Support Devices/central venous line": (
        "zentraler Venenkatheter über die rechte Vena jugularis interna mit Spitze im rechten Vorhof",
        "zentraler Venenkatheter von rechts",
    ),
    "Support Devices/pacemaker": (
        "linkspektoraler Herzschrittmacher mit einer Elektrode",
        "Herzschrittmacher links mit Elektrode im rechten Ventrikel",
    ),
    "Foreign Object/button": (
        "{count} runde{r} metallische{r} Fremdkörper über der {dative} Thoraxhälfte",
        "{count} Fremdkörper {adverb}, am ehesten {button}",
    ),
    "Foreign Object/clip": (
        "{count} rechteckige{r} metallische{r} Fremdkörper über der {dative} Thoraxhälfte",
        "{count} Fremdkörper {adverb}, am ehesten {clip}",
    ),
    "Foreign Object/necklace": ("Halskette als Fremdkörper am Hals", "Fremdkörper am Hals, am ehesten eine Halskette"),
}

ABSENT = (
    (LUNGS, ("Die Lunge ist frei.", "Beide Lungen sind frei.", "Lungen beidseits gut entfaltet und frei.")),
    (frozenset({"Consolidation", "Pneumonia"}), ("Keine fokale Konsolidierung im Sinne einer Pneumonie.",)),
    (frozenset({"Consolidation"}), ("Keine Konsolidierung.", "Es besteht keine fokale Konsolidierung.")),
    (frozenset({"Pneumonia"}), ("Kein Anhalt für eine Pneumonie.",)),
    (
        frozenset({"Edema"}),
        ("Kein Lungenödem.", "Es besteht kein Lungenödem.", "Die Lungengefäße sind normal weit."),
    ),
    (
        frozenset({"Pleural Effusion", "Pneumothorax"}),
        (
            "Kein Pleuraerguss, kein Pneumothorax.",
            "Weder Pleuraerguss noch Pneumothorax.",
            "Die Pleura ist unauffällig, kein Erguss, kein Pneumothorax.",
        ),
    ),
    (frozenset({"Pleural Effusion"}), ("Kein Pleuraerguss.", "Kein Erguss.", "Die Randwinkel sind frei.")),
    (frozenset({"Pneumothorax"}), ("Kein Pneumothorax.", "Es besteht kein Pneumothorax.")),
    (frozenset({"Lung Lesion"}), ("Kein suspekter Rundherd.",)),
    (
        frozenset({"Cardiomegaly"}),
        (
            "Das Herz ist normal groß.",
            "Herz und Mediastinum sind unauffällig.",
            "Das Herz ist nicht vergrößert.",
            "Herzgröße im Normbereich.",
        ),
    ),
    (
        frozenset({"Fracture"}),
        (
            "Keine frische knöcherne Verletzung.",
            "Das knöcherne Thoraxskelett ist intakt.",
            "Keine dislozierte Rippenfraktur.",
        ),
    ),
)


def _fields(finding: Finding) -> dict[str, str]:
    side, zone, _ = finding.place
    adverb, dative = SIDES.get(side, ("", ""))
    degree, one = ADVERB[finding.severity], finding.severity == "mild"
    return {
        "degree": degree,
        **{name: degree + ending for name, ending in ENDINGS.items()},
        "adverb": adverb,
        "dative": dative,
        "zone": ZONES.get(zone, ""),
        "mass": MASS[finding.severity],
        "count": COUNT[finding.severity],
        "r": "r" if one else "",
        "button": "ein Knopf" if one else "Knöpfe",
        "clip": "ein Clip" if one else "Clips",
    }


GERMAN = Words(
    classes={
        "Atelectasis": "Atelektase",
        "COVID-19": "COVID-19",
        "Cardiomegaly": "Kardiomegalie",
        "Consolidation": "Konsolidierung",
        "Edema": "Lungenödem",
        "Foreign Object": "Fremdkörper",
        "Fracture": "Fraktur",
        "Lung Lesion": "Lungenherd",
        "Pleural Effusion": "Pleuraerguss",
        "Pneumonia": "Pneumonie",
        "Pneumothorax": "Pneumothorax",
        "Support Devices": "Fremdmaterial",
    },
    fields=_fields,
    places=PLACES,
    phrases=PHRASES,
    verbs={"shows": ("zeigt", "zeigen"), "is": ("ist", "sind")},
    plurals=("ergüsse", "Infiltrate", "trübungen", "Verschattungen", "zwei ", "drei "),
    affirmed=("{Phrase}.", "Es {shows} sich {phrase}.", "Erkennbar {is} {phrase}."),
    doubted=("Möglicherweise {phrase}.", "Möglich {is} {phrase}.", "Fraglich {phrase}."),
    concluded=("{Phrase}.", "{Phrase}, wie oben beschrieben.", "Es {shows} sich {phrase}."),
    concluded_doubt=("Möglicherweise {phrase}.", "Fraglich {phrase}."),
    without_article=frozenset(),
    absent=ABSENT,
    unremarkable="Unauffälliger Thorax.",
    normal=(
        "Keine akute kardiopulmonale Auffälligkeit.",
        "Kein Hinweis auf ein akutes kardiopulmonales Geschehen.",
        "Unauffällige Röntgenaufnahme des Thorax.",
        "Kein Anhalt für eine akute Erkrankung.",
        "Altersentsprechend unauffälliger Thorax.",
    ),
    symptoms=("Husten", "Fieber", "Atemnot", "Thoraxschmerz", "Sturz", "Vigilanzminderung", "Belastungsdyspnoe"),
    filed=(
        "Klinische Angaben: {symptom}.",
        "Technik: Thoraxaufnahme im sagittalen Strahlengang.",
        "Befund: {findings}",
        "Beurteilung: {impression}",
        "Mit freundlichen Grüßen",
    ),
)
