"""The words of synthetic reports in Spanish."""

from imitate.synthetic.cases import Finding
from imitate.synthetic.phrases import LUNGS, Words

# Degree of severity after a masculine and a feminine noun; several take an s
DEGREES = {
    "mild": ("leve", "leve"),
    "moderate": ("moderado", "moderada"),
    "severe": ("importante", "importante"),
}
SIZE = {"mild": "pequeño", "moderate": "moderado", "severe": "gran"}
MASS = {"mild": "nódulo de 1,2 cm", "moderate": "nódulo de 2,0 cm", "severe": "masa de 4,3 cm"}
OBJECTS = {
    "mild": ("un cuerpo extraño", "metálico", "redondo", "rectangular", "un botón", "un clip"),
    "moderate": ("dos cuerpos extraños", "metálicos", "redondos", "rectangulares", "botones", "clips"),
    "severe": ("tres cuerpos extraños", "metálicos", "redondos", "rectangulares", "botones", "clips"),
}
SIDES = {"right": ("derecho", "derecha"), "left": ("izquierdo", "izquierda")}
ZONES = {"upper": "superior", "middle": "media", "lower": "inferior"}

PLACES = {
    "upper": (
        "el lóbulo superior {side}",
        "el campo pulmonar superior {side}",
        "el vértice pulmonar {side}",
    ),
    "middle": (
        "el campo pulmonar medio {side}",
        "el tercio medio del pulmón {side}",
        "la región perihiliar {side_f}",
    ),
    "lower": ("el lóbulo inferior {side}", "el campo pulmonar inferior {side}", "la base pulmonar {side_f}"),
}

PHRASES = {
    "Cardiomegaly": (
        "cardiomegalia {f}",
        "aumento {m} de la silueta cardíaca",
        "aumento {m} del tamaño del corazón",
    ),
    "Edema": (
        "edema pulmonar {m}",
        "edema pulmonar intersticial {m}",
        "opacidades perihiliares {f}s en relación con edema pulmonar",
    ),
    "Pleural Effusion": (
        "derrame pleural {side} {m}",
        "derrame pleural {m} en el lado {side}",
        "{size} derrame pleural {side}",
    ),
    "Pleural Effusion/both": ("derrames pleurales bilaterales {m}s", "derrame pleural bilateral {m}"),
    "Pneumothorax": (
        "neumotórax {side} {m}",
        "neumotórax apicolateral {side} {m}",
        "neumotórax {m} en el lado {side}",
    ),
    "Consolidation": (
        "consolidación {f} en {place}",
        "consolidación parenquimatosa {f} en {place}",
        "área densa de consolidación {f} en {place}",
    ),
    "Pneumonia": (
        "opacidad parcheada {f} en {place} sugestiva de neumonía",
        "neumonía {f} en {place}",
        "infiltrados parcheados {m}s en {place} compatibles con neumonía",
    ),
    "Atelectasis": (
        "atelectasia laminar {f} en {place}",
        "atelectasia lineal {f} en {place}",
        "atelectasia subsegmentaria {f} en {place}",
    ),
    "Lung Lesion": ("{mass} en {place}", "imagen redondeada, {mass}, en {place}"),
    "COVID-19": (
        "opacidades periféricas bilaterales {f}s en vidrio deslustrado, típicas de COVID-19",
        "opacidades periféricas multifocales {f}s en ambos pulmones, compatibles con COVID-19",
    ),
    "Fracture": (
        "fractura costal {side_f} con desplazamiento {m}",
        "fractura con desplazamiento {m} de una costilla {zone} {side_f}",
    ),
    "Support Devices/endotracheal tube": (
        "tubo endotraqueal con el extremo por encima de la carina",
        "tubo endotraqueal en posición correcta",
    ),
    "Support Devices/enteric tube": (
        "sonda nasogástrica con el extremo en el estómago",
        "sonda enteral que desciende por debajo del diafragma",
    ),
    "Support Devices/central venous line": (
        "catéter venoso central yugular derecho con el extremo en la aurícula derecha",
        "catéter venoso central derecho",
    ),
    "Support Devices/pacemaker": (
        "marcapasos pectoral izquierdo con un electrodo",
        "marcapasos izquierdo con electrodo en el ventrículo derecho",
    ),
    "Foreign Object/button": (
        "{object} {metallic} {round} sobre el hemitórax {side}",
        "{object} en el lado {side}, probablemente {button}",
    ),
    "Foreign Object/clip": (
        "{object} {metallic} {rectangular} sobre el hemitórax {side}",
        "{object} en el lado {side}, probablemente {clip}",
    ),
    "Foreign Object/necklace": (
        "collar como cuerpo extraño en el cuello",
        "cuerpo extraño en el cuello, probablemente un collar",
    ),
}

ABSENT = (
    (LUNGS, ("Pulmones limpios.", "Los pulmones están libres.", "Pulmones bien expandidos y sin alteraciones.")),
    (frozenset({"Consolidation", "Pneumonia"}), ("No se observa consolidación que sugiera neumonía.",)),
    (frozenset({"Consolidation"}), ("Sin consolidación focal.", "No se observa consolidación.")),
    (frozenset({"Pneumonia"}), ("Sin evidencia de neumonía.",)),
    (
        frozenset({"Edema"}),
        ("No hay edema pulmonar.", "Sin signos de edema pulmonar.", "Vasculatura pulmonar normal."),
    ),
    (
        frozenset({"Pleural Effusion", "Pneumothorax"}),
        (
            "No se observa derrame pleural ni neumotórax.",
            "Sin derrame pleural ni neumotórax.",
            "Espacios pleurales libres, sin derrame ni neumotórax.",
        ),
    ),
    (frozenset({"Pleural Effusion"}), ("No hay derrame pleural.", "Sin derrame.", "Senos costofrénicos libres.")),
    (frozenset({"Pneumothorax"}), ("Sin neumotórax.", "No se observa neumotórax.")),
    (frozenset({"Lung Lesion"}), ("No se observa ningún nódulo sospechoso.",)),
    (
        frozenset({"Cardiomegaly"}),
        (
            "Silueta cardíaca de tamaño normal.",
            "Silueta cardiomediastínica dentro de límites normales.",
            "El corazón no está aumentado de tamaño.",
            "Contornos cardíacos y mediastínicos normales.",
        ),
    ),
    (
        frozenset({"Fracture"}),
        ("Sin lesiones óseas agudas.", "Estructuras óseas íntegras.", "Sin fractura costal desplazada."),
    ),
)


def _fields(finding: Finding) -> dict[str, str]:
    place, severity = finding.place, finding.severity
    names = ("object", "metallic", "round", "rectangular", "button", "clip")
    return {
        **dict(zip(("m", "f"), DEGREES[severity], strict=True)),
        **dict(zip(("side", "side_f"), SIDES.get(place.side, ("", "")), strict=True)),
        **dict(zip(names, OBJECTS[severity], strict=True)),
        "zone": ZONES.get(place.zone, ""),
        "size": SIZE[severity],
        "mass": MASS[severity],
    }


SPANISH = Words(
    classes={
        "Atelectasis": "Atelectasia",
        "COVID-19": "COVID-19",
        "Cardiomegaly": "Cardiomegalia",
        "Consolidation": "Consolidación",
        "Edema": "Edema pulmonar",
        "Foreign Object": "Cuerpo extraño",
        "Fracture": "Fractura",
        "Lung Lesion": "Lesión pulmonar",
        "Pleural Effusion": "Derrame pleural",
        "Pneumonia": "Neumonía",
        "Pneumothorax": "Neumotórax",
        "Support Devices": "Dispositivos médicos",
    },
    fields=_fields,
    places=PLACES,
    phrases=PHRASES,
    verbs={
        "seen": ("observa", "observan"),
        "found": ("identifica", "identifican"),
        "possible": ("Posible", "Posibles"),
    },
    plurals=("derrames", "infiltrados", "opacidades", "cuerpos"),
    affirmed=("{Phrase}.", "Se {seen} {phrase}.", "Se {found} {phrase}.", "Presencia de {phrase}."),
    doubted=("{possible} {phrase}.", "Dudosa presencia de {phrase}.", "Sospecha de {phrase}."),
    concluded=("{Phrase}.", "{Phrase}, según lo descrito.", "Hallazgos compatibles con {phrase}."),
    concluded_doubt=("{possible} {phrase}.", "Sospecha de {phrase}."),
    without_article=frozenset(),
    absent=ABSENT,
    unremarkable="Tórax sin alteraciones.",
    normal=(
        "Sin hallazgos cardiopulmonares agudos.",
        "Sin alteraciones cardiopulmonares agudas.",
        "Radiografía de tórax normal.",
        "Sin evidencia de enfermedad aguda.",
        "Sin signos radiológicos de enfermedad cardiopulmonar aguda.",
    ),
    symptoms=(
        "tos",
        "fiebre",
        "disnea",
        "dolor torácico",
        "caída",
        "alteración de la conciencia",
        "disnea de esfuerzo",
    ),
    filed=(
        "Motivo: {symptom}.",
        "Técnica: radiografía de tórax.",
        "Hallazgos: {findings}",
        "Impresión diagnóstica: {impression}",
        "Firmado electrónicamente",
    ),
)
