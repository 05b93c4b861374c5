"""Cases: who is examined, what is found and where. Pixels, masks, labels and words all follow from a case."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from typing import Literal, NamedTuple
from zlib import crc32

from imitate.data.lazy import np

SMALLEST = 64  # px of height: below, small findings have no pixel
Severity = Literal["mild", "moderate", "severe"]
Hospital = Literal["north", "south"]  # whose equipment takes the images, and whose words the reports have
Prevalence = Callable[[int], Mapping[str, float]]
"""From a patient's number to the chance of each finding."""


class Place(NamedTuple):
    """Where, or for devices and objects, which kind. ``side`` is right, left, both or empty."""

    side: str = ""
    zone: str = ""
    kind: str = ""


class Trait(NamedTuple):
    """How a finding occurs."""

    prevalence: float
    places: tuple[Place, ...]
    fills: tuple[str, ...] = ()  # zones of the lung that it takes and nothing else may; () for its own zone
    in_lung: bool = True  # False: it takes no room in the lungs
    chronic: bool = False  # the patient has it in every study, at the same place
    doubtful: float = 0.0  # chance that the reader only suspects it


class Finding(NamedTuple):
    name: str
    place: Place
    severity: Severity  # of foreign objects: one, two or three
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Case:
    """One radiograph. Patients and their studies count from zero; image 1 of a study is its lateral view."""

    seed: int
    patient: int
    study: int
    image: int
    age: int
    sex: Literal["F", "M"]
    view: Literal["PA", "AP", "LATERAL"]
    findings: tuple[Finding, ...]

    def find(self, name: str) -> Finding | None:
        return next((finding for finding in self.findings if finding.name == name), None)

    def generator(self, purpose: str) -> np.random.Generator:
        """Random numbers of this study for one purpose."""
        return generator(self.seed, self.patient, self.study, purpose=purpose)

    @property
    def labels(self) -> dict[str, float]:
        """1 or 0 for each of CLASSES."""
        return {name: float(self.find(name) is not None) for name in CLASSES}

    @property
    def split(self) -> str:
        """By patient, 70/15/15, evenly over any run of patients (multiples of the golden ratio)."""
        position = (self.patient * 0.6180339887 + self.seed * 0.7548776662) % 1
        return "train" if position < 0.7 else "val" if position < 0.85 else "test"


SIDES = ("right", "left")  # of the patient: the right lung lies on the image's left
ZONES = ("upper", "middle", "lower")
ONE_SIDE = tuple(Place(side) for side in SIDES)
ONE_ZONE = tuple(Place(side, zone) for side in SIDES for zone in ZONES)
BELOW_APEX = tuple(place for place in ONE_ZONE if place.zone != "upper")
BOTH = Place("both")
DEVICES = (
    Place(kind="endotracheal tube"),
    Place(kind="enteric tube"),
    Place("right", kind="central venous line"),
    Place("left", kind="pacemaker"),
)
OBJECTS = (*(Place(side, kind=kind) for side in SIDES for kind in ("button", "clip")), Place(kind="necklace"))

TRAITS = {  # in drawing order: what is drawn first finds the lungs free
    "Lung Lesion": Trait(0.07, ONE_ZONE, chronic=True, doubtful=0.2),
    "Pneumothorax": Trait(0.06, ONE_SIDE, ZONES, doubtful=0.1),
    "COVID-19": Trait(0.06, (BOTH,), ("middle", "lower"), doubtful=0.2),
    "Edema": Trait(0.10, (BOTH,), ("middle",), doubtful=0.2),
    "Pleural Effusion": Trait(0.15, (*ONE_SIDE, BOTH), ("lower",), doubtful=0.1),
    "Consolidation": Trait(0.09, ONE_ZONE, doubtful=0.2),
    "Pneumonia": Trait(0.09, ONE_ZONE, doubtful=0.3),
    "Atelectasis": Trait(0.11, BELOW_APEX, doubtful=0.3),
    "Cardiomegaly": Trait(0.13, (Place(),), in_lung=False, chronic=True, doubtful=0.1),
    "Fracture": Trait(0.05, BELOW_APEX, in_lung=False, chronic=True),
    "Support Devices": Trait(0.12, DEVICES, in_lung=False),
    "Foreign Object": Trait(0.07, OBJECTS, in_lung=False),
}
CLASSES = tuple(sorted(TRAITS))
OPACITIES = frozenset({"Atelectasis", "COVID-19", "Consolidation", "Edema", "Pneumonia"})

# Twelve images in a row, of seven patients: (patient, study, image). Some return, some have a lateral view too.
PATTERN = ((0, 0), (1, 0), (1, 0, 1), (2, 0), (3, 0), (3, 1), (4, 0), (5, 0), (5, 1), (5, 2), (5, 2, 1), (6, 0))


def generator(seed: int, *numbers: int, purpose: str) -> np.random.Generator:
    """Random numbers for one purpose, independent of those for any other."""
    return np.random.default_rng([seed, *numbers, crc32(purpose.encode())])


def usual(patient: int) -> Mapping[str, float]:
    """The chances of a mixed clinic, for every patient: about a third of the studies is normal."""
    return {name: trait.prevalence for name, trait in TRAITS.items()}


def draw_case(seed: int, index: int, prevalence: Prevalence = usual) -> Case:
    """The case at a place in the endless sequence of this seed: a pure function of its arguments."""
    block, within = divmod(index, len(PATTERN))
    number, study, *view = PATTERN[within]
    patient = block * (PATTERN[-1][0] + 1) + number
    person = generator(seed, patient, purpose="person")
    age = int(person.integers(18, 90))
    findings = tuple(_draw_findings(seed, patient, study, prevalence(patient)))
    frail = any(finding.name == "Support Devices" for finding in findings)
    portable = frail or generator(seed, patient, study, purpose="portable").random() < 0.3
    return Case(
        seed=seed,
        patient=patient,
        study=study,
        image=len(view),
        age=age + study,
        sex="F" if person.random() < 0.5 else "M",
        view="LATERAL" if view else "AP" if portable else "PA",
        findings=findings,
    )


def frontal_cases(seed: int, n: int, prevalence: Prevalence = usual) -> Iterator[Case]:
    """The first ``n`` cases that are no lateral views."""
    cases = (draw_case(seed, index, prevalence) for index in count())
    return islice((case for case in cases if case.view != "LATERAL"), n)


def _draw_findings(seed: int, patient: int, study: int, chances: Mapping[str, float]) -> Iterator[Finding]:
    taken: set[tuple[str, str]] = set()
    for name, trait in TRAITS.items():
        random = generator(seed, patient, 0 if trait.chronic else study, purpose=name)
        if random.random() >= chances.get(name, 0):
            continue
        places = [place for place in trait.places if not taken & _room(trait, place)]
        if places:
            place = places[random.integers(len(places))]
            taken |= _room(trait, place)
            severity: Severity = random.choice(["mild", "moderate", "severe"], p=[0.4, 0.35, 0.25]).item()
            yield Finding(name, place, severity, bool(random.random() >= trait.doubtful))


def _room(trait: Trait, place: Place) -> set[tuple[str, str]]:
    if not trait.in_lung:
        return set()
    sides = SIDES if place.side == "both" else (place.side,)
    return {(side, zone) for side in sides for zone in trait.fills or (place.zone,)}
