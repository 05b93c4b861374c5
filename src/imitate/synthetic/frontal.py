"""The chest from the front: the patient's right is the image's left."""

from typing import NamedTuple

import numpy as np

from imitate.synthetic.anatomy import RIB_SPACING, Anatomy, Map, blend, heart_ratio, radius, soft, vessels
from imitate.synthetic.cases import Case

BREADTH, COSTOPHRENIC = 0.70, 0.66  # x of a lung's lateral border, y of its lowest point
HILA = {"right": (-0.17, -0.08), "left": (0.17, -0.11)}
LANDMARKS = {
    "throat": (0.0, -1.2),
    "carina": (0.0, -0.22),
    "neck": (-0.16, -1.1),
    "atrium": (-0.15, 0.02),
    "stomach": (0.22, 0.66),
    "generator": (0.47, -0.52),
    "apex": (0.16, 0.36),
    "collar": (0.0, -0.62),
}


class Outline(NamedTuple):
    """Borders as distances from the midline, and the areas between them."""

    outer: Map
    inner: Map
    lungs: dict[str, Map]
    below: Map  # the diaphragm
    body: Map


def frontal(case: Case, x: Map, y: Map, person: np.random.Generator) -> Anatomy:
    reach = np.abs(x)
    outline = _outline(case, x, y, person)
    heart = _heart(case, x, y, person)
    anatomy = Anatomy(
        x=x,
        y=y,
        density=0.04 + 0.62 * outline.body,
        lungs=outline.lungs,
        heart=heart * (1 - 0.9 * outline.below),
        outward={"right": -1, "left": 1},
        hila=HILA,
        vessels=vessels(x, y, HILA, person),
        ribs=(y + person.uniform(0.80, 0.90) - 0.10 * reach - 0.42 * reach**2) / RIB_SPACING,
        cage=soft(outline.outer + 0.04 - reach, 0.03) * soft(reach - 0.06, 0.03) * soft(y + 0.87 - reach * 0.1, 0.05),
        bones=_bones(x, y, person),
        landmarks=LANDMARKS,
    )
    _add_tissue(anatomy, outline, heart)
    if case.sex == "F":
        shape = np.hypot((reach - 0.45) / 0.34, (y - 0.28) / 0.33)
        breast = soft(1 - shape, 0.25) * (0.5 + 0.5 * np.clip(y * 3, 0, 1))
        anatomy.density += person.uniform(0.02, 0.10) * breast * (1 - heart)
    return anatomy


def _outline(case: Case, x: Map, y: Map, person: np.random.Generator) -> Outline:
    reach = np.abs(x)
    lift = -0.05 if case.view == "AP" else 0.0
    domes = {"right": lift + person.uniform(0.38, 0.46), "left": lift + person.uniform(0.44, 0.52)}
    diaphragms = {side: _diaphragm(reach, dome) for side, dome in domes.items()}
    sides = {"right": soft(-x, 0.01), "left": soft(x, 0.01)}
    inner = 0.13 + 0.03 * np.cos(3 * y)
    outer = 0.26 + (BREADTH - 0.26) * (1 - np.clip(1 - (y + 0.84) / 1.5, 0, 1) ** 2.5) ** 0.6
    apex = -0.84 + 1.5 * (reach - 0.27) ** 2
    field = soft(outer - reach, 0.03) * soft(reach - inner, 0.05) * soft(y - apex, 0.04)
    below = sum(soft(y - diaphragms[side], 0.02) * sides[side] for side in sides)
    flank = person.uniform(0.84, 0.94) + 0.8 * np.clip(-0.25 - y, 0, None) - 0.04 * np.cos(3 * y)
    shoulder = -0.93 + 0.45 * np.clip(reach - 0.2, 0, None) ** 1.4
    return Outline(
        outer=outer,
        inner=inner,
        lungs={side: field * soft(diaphragms[side] - y, 0.02) * sides[side] for side in sides},
        below=below * soft(outer + 0.1 - reach, 0.2),
        body=np.clip(np.minimum((flank - reach) / 0.22, (y - shoulder) / 0.16), 0, 1) ** 0.6,
    )


def _add_tissue(anatomy: Anatomy, outline: Outline, heart: Map) -> None:
    """Abdomen, lungs, mediastinum, heart, aortic knob, hila, trachea and the bubble of the stomach."""
    density, body, reach = anatomy.density, outline.body, np.abs(anatomy.x)
    blend(density, outline.below * body, 0.84)
    for lung in outline.lungs.values():
        blend(density, lung, 0.23)
    blend(density, soft(outline.inner + 0.01 - reach, 0.06) * body, 0.76)
    blend(density, heart, 0.74)
    blend(density, soft(1 - radius(anatomy, (0.12, -0.33), (0.11, 0.10)), 0.3), 0.76)
    for centre in HILA.values():
        density += 0.16 * np.exp(-(radius(anatomy, centre, (0.08, 0.13)) ** 2))
    blend(density, soft(0.038 - reach, 0.03) * soft(-0.22 - anatomy.y, 0.05) * body * 0.5, 0.4)
    blend(density, soft(1 - radius(anatomy, (0.30, 0.66), (0.13, 0.07)), 0.5) * 0.5, 0.4)


def _heart(case: Case, x: Map, y: Map, person: np.random.Generator) -> Map:
    half = heart_ratio(case, person) * BREADTH
    v = (y - 0.22) / (0.20 + 0.42 * half)
    u = (x - 0.09 - 0.22 * half - 0.30 * (y - 0.22)) / (half * 0.93)
    return soft(1 - np.hypot(u, v), 0.10)


def _diaphragm(reach: Map, dome: float) -> Map:
    lateral = np.clip((reach - 0.33) / (BREADTH - 0.33), 0, None) ** 2.5
    return dome + (COSTOPHRENIC - dome) * lateral + 0.08 * np.clip((0.33 - reach) / 0.33, 0, 1) ** 2


def _bones(x: Map, y: Map, person: np.random.Generator) -> Map:
    reach = np.abs(x)
    clavicle = person.uniform(-0.62, -0.54) - 0.22 * reach - 0.03 * np.sin(7 * reach)
    bones = 0.13 * soft(0.022 - np.abs(y - clavicle), 0.015) * soft(reach - 0.07, 0.03) * soft(0.85 - reach, 0.05)
    vertebra = 0.55 + 0.45 * np.cos(2 * np.pi * y / 0.14)
    bones += 0.07 * soft(0.075 - reach, 0.02) * vertebra
    anterior = (y + 0.55 - 0.55 * (BREADTH - reach)) / RIB_SPACING % 1
    seen = np.clip((reach - 0.25) * 4, 0, 1) * soft(0.72 - reach, 0.03)
    bones += 0.035 * soft(0.27 - np.abs(anterior - 0.5), 0.1) * seen
    bones += 0.12 * soft(1 - np.hypot((reach - 0.93) / 0.13, (y + 0.60) / 0.14), 0.2)
    scapula = np.hypot((reach - 0.74 - 0.2 * (y + 0.35)) / 0.06, (y + 0.3) / 0.33)
    return bones + 0.06 * soft(1 - scapula, 0.2)
