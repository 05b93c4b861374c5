"""The chest from the side: the sternum lies on the image's left, the spine on its right, the lungs overlap."""

import numpy as np

from imitate.synthetic.anatomy import RIB_SPACING, Anatomy, Map, blend, heart_ratio, soft, vessels
from imitate.synthetic.cases import SIDES, Case

HILA = dict.fromkeys(SIDES, (0.04, -0.06))
LANDMARKS = {
    "throat": (0.0, -1.2),
    "carina": (0.02, -0.2),
    "neck": (-0.1, -1.1),
    "atrium": (-0.08, 0.0),
    "stomach": (-0.1, 0.62),
    "generator": (-0.38, -0.5),
    "apex": (-0.3, 0.3),
    "collar": (-0.1, -0.62),
}


def lateral(case: Case, x: Map, y: Map, person: np.random.Generator) -> Anatomy:
    front = -0.50 - 0.06 * np.cos(2.2 * y) + 0.25 * np.clip(-0.35 - y, 0, None)
    back = 0.56 - 0.10 * y**2
    diaphragm = 0.34 + 0.38 * np.clip((x + 0.3) / 0.9, -0.3, 1) ** 2
    lung = soft(x - front, 0.04) * soft(back - x, 0.04) * soft(diaphragm - y, 0.03)
    lung *= soft(1 - np.hypot((x - 0.02) / 0.66, (y - 0.18) / 1.02), 0.06)
    body = np.clip(np.minimum(x - front + 0.22, back + 0.24 - x) / 0.2, 0, 1) ** 0.6
    body *= soft(y + 0.92 - 0.5 * x**2, 0.1)
    size = heart_ratio(case, person)
    heart = soft(1 - np.hypot((x + 0.20 + 0.35 * (y - 0.2)) / (0.55 * size), (y - 0.18) / (0.62 * size)), 0.12)
    density = 0.04 + 0.62 * body
    blend(density, soft(y - diaphragm, 0.03) * body, 0.82)
    blend(density, lung, 0.27)
    blend(density, heart * 0.9, 0.68)
    blend(density, soft(0.04 - np.abs(x - 0.02), 0.03) * soft(-0.2 - y, 0.05) * body * 0.4, 0.3)
    return Anatomy(
        x=x,
        y=y,
        density=density,
        lungs=dict.fromkeys(SIDES, lung),
        heart=heart,
        outward=dict.fromkeys(SIDES, 1),
        hila=HILA,
        vessels=vessels(x, y, HILA, person),
        ribs=(y + 0.95 + 0.45 * (x - 0.5)) / RIB_SPACING,
        cage=0.5 * soft(x - front, 0.03) * soft(back + 0.05 - x, 0.03) * soft(y + 0.85, 0.05),
        bones=_bones(x, y, front),
        landmarks=LANDMARKS,
    )


def _bones(x: Map, y: Map, front: Map) -> Map:
    """Spine and sternum."""
    spine = soft(0.09 - np.abs(x - 0.50 + 0.12 * y**2), 0.03)
    vertebra = (0.6 + 0.4 * np.cos(2 * np.pi * y / 0.15)) * np.clip(0.9 - 0.5 * y, 0, 1)
    sternum = soft(0.025 - np.abs(x - front + 0.03), 0.02) * soft(0.1 - y, 0.05) * soft(y + 0.55, 0.05)
    return 0.16 * spine * vertebra + 0.14 * sternum
