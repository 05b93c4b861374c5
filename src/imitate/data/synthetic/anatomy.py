"""A schematic chest: soft shapes over a plane whose unit is half the image's height; the centre is (0, 0).

Densities are near the brightness they end in: 0 is air, 1 is metal. A shape is a map in [0, 1] with soft borders.
"""

import math
from dataclasses import dataclass

import numpy as np

from imitate.data.synthetic.cases import Case, generator

Map = np.ndarray  # float32 (height, width), or broadcastable to it
Point = tuple[float, float]  # (x, y)

BREADTH = 0.70  # of a lung's lateral border
COSTOPHRENIC = 0.66
RIB_SPACING = 0.165
CELLS = 128  # of the noise that places the vessels


@dataclass
class Anatomy:
    """The healthy parts of one image. A dict has one entry a side of the patient."""

    x: Map  # (1, width)
    y: Map  # (height, 1)
    density: Map  # soft tissue; lesions change it
    lungs: dict[str, Map]  # up to the diaphragm and the mediastinum
    heart: Map
    outward: dict[str, int]  # the sign of x towards the chest wall
    hila: dict[str, Point]
    vessels: Map
    ribs: Map  # counts ribs downwards: k + 1/2 is the middle of rib k
    cage: Map  # where ribs are seen
    bones: Map  # clavicles, shoulders, spine
    landmarks: dict[str, Point]

    @property
    def pixel(self) -> float:
        return 2 / self.y.size

    @property
    def shape(self) -> tuple[int, int]:
        return self.y.size, self.x.size


def soft(distance: Map, width: float) -> Map:
    """1 inside (positive distance), 0 outside, with a border of this width."""
    return np.clip(distance / width + 0.5, 0, 1)


def radius(anatomy: Anatomy, centre: Point, axes: Point, tilt: float = 0) -> Map:
    """Distance from the centre of a tilted (radians) ellipse, 1 on its border."""
    x, y, cos, sin = anatomy.x - centre[0], anatomy.y - centre[1], math.cos(tilt), math.sin(tilt)
    along, across = (x * cos + y * sin) / axes[0], (y * cos - x * sin) / axes[1]
    return np.sqrt(along * along + across * across)


def blend(density: Map, amount: Map, target: float) -> None:
    """Move ``density`` in place towards ``target`` by ``amount``."""
    density += amount * (target - density)


def smooth_noise(random: np.random.Generator, shape: tuple[int, int], cells: int) -> Map:
    """Uniform noise in [-1, 1] on a grid of cells, interpolated linearly."""
    grid = random.uniform(-1, 1, (cells, cells)).astype(np.float32)
    rows, columns = (_hat(length, cells) for length in shape)
    return rows @ grid @ columns.T


def build(case: Case, height: int, width: int) -> Anatomy:
    """The patient's anatomy as this view shows it; cardiomegaly is part of it."""
    x = (((np.arange(width) + 0.5) * 2 - width) / height).astype(np.float32)[None, :]
    y = (((np.arange(height) + 0.5) * 2 - height) / height).astype(np.float32)[:, None]
    person = generator(case.seed, case.patient, purpose="anatomy")
    position = case.generator(f"position {case.image}")
    x = (x - position.uniform(-0.04, 0.04)) * person.uniform(0.95, 1.10)
    y = (y - position.uniform(-0.04, 0.04)) * person.uniform(0.95, 1.10)
    return _lateral(case, x, y, person) if case.view == "LATERAL" else _frontal(case, x, y, person)


def heart_ratio(case: Case, person: np.random.Generator) -> float:
    """Width of the heart over that of the thorax; the limit of the normal is 0.5, wider in AP."""
    finding = case.find("Cardiomegaly")
    ratio = {"mild": 0.56, "moderate": 0.61, "severe": 0.67}[finding.severity] if finding else 0.45
    return ratio + float(person.uniform(-0.02, 0.02)) + (0.02 if case.view == "AP" else 0)


def _frontal(case: Case, x: Map, y: Map, person: np.random.Generator) -> Anatomy:
    reach = np.abs(x)
    lift = -0.05 if case.view == "AP" else 0.0
    domes = {"right": lift + person.uniform(0.38, 0.46), "left": lift + person.uniform(0.44, 0.52)}
    diaphragms = {side: _diaphragm(reach, dome) for side, dome in domes.items()}
    half = 0.13 + 0.03 * np.cos(3 * y)
    outer = 0.26 + (BREADTH - 0.26) * (1 - np.clip(1 - (y + 0.84) / 1.5, 0, 1) ** 2.5) ** 0.6
    apex = -0.84 + 1.5 * (reach - 0.27) ** 2
    sides = {"right": soft(-x, 0.01), "left": soft(x, 0.01)}
    field = soft(outer - reach, 0.03) * soft(reach - half, 0.05) * soft(y - apex, 0.04)
    lungs = {side: field * soft(diaphragms[side] - y, 0.02) * sides[side] for side in sides}
    hila = {"right": (-0.17, -0.08), "left": (0.17, -0.11)}

    wall = person.uniform(0.84, 0.94)
    flank = wall + 0.8 * np.clip(-0.25 - y, 0, None) - 0.04 * np.cos(3 * y)
    shoulder = -0.93 + 0.45 * np.clip(reach - 0.2, 0, None) ** 1.4
    body = np.clip(np.minimum((flank - reach) / 0.22, (y - shoulder) / 0.16), 0, 1) ** 0.6
    density = 0.04 + 0.62 * body
    below = sum(soft(y - diaphragms[side], 0.02) * sides[side] for side in sides) * soft(outer + 0.1 - reach, 0.2)
    blend(density, below * body, 0.84)
    for side, lung in lungs.items():
        blend(density, lung, 0.23 if side == "right" else 0.22)
    _breasts(case, density, x, y, person)
    blend(density, soft(half + 0.01 - reach, 0.06) * body, 0.76)

    heart = _frontal_heart(case, x, y, person)
    anatomy = Anatomy(
        x=x,
        y=y,
        density=density,
        lungs=lungs,
        heart=heart * (1 - 0.9 * below),
        outward={"right": -1, "left": 1},
        hila=hila,
        vessels=_vessels(x, y, hila, person),
        ribs=(y + person.uniform(0.80, 0.90) - 0.10 * reach - 0.42 * reach**2) / RIB_SPACING,
        cage=soft(outer + 0.04 - reach, 0.03) * soft(reach - 0.06, 0.03) * soft(y + 0.87 - reach * 0.1, 0.05),
        bones=_frontal_bones(x, y, person),
        landmarks={
            "throat": (0.0, -1.2),
            "carina": (0.0, -0.22),
            "neck": (-0.16, -1.1),
            "atrium": (-0.15, 0.02),
            "stomach": (0.22, 0.66),
            "generator": (0.47, -0.52),
            "apex": (0.16, 0.36),
            "collar": (0.0, -0.62),
        },
    )
    blend(density, heart, 0.74)
    blend(density, soft(1 - radius(anatomy, (0.12, -0.33), (0.11, 0.10)), 0.3), 0.76)
    for centre in hila.values():
        density += 0.16 * np.exp(-(radius(anatomy, centre, (0.08, 0.13)) ** 2))
    blend(density, soft(0.038 - reach, 0.03) * soft(-0.22 - y, 0.05) * body * 0.5, 0.4)
    blend(density, soft(1 - radius(anatomy, (0.30, 0.66), (0.13, 0.07)), 0.5) * 0.5, 0.4)
    return anatomy


def _frontal_heart(case: Case, x: Map, y: Map, person: np.random.Generator) -> Map:
    half = heart_ratio(case, person) * BREADTH
    v = (y - 0.22) / (0.20 + 0.42 * half)
    u = (x - 0.09 - 0.22 * half - 0.30 * (y - 0.22)) / (half * 0.93)
    return soft(1 - np.hypot(u, v), 0.10)


def _diaphragm(reach: Map, dome: float) -> Map:
    lateral = np.clip((reach - 0.33) / (BREADTH - 0.33), 0, None) ** 2.5
    return dome + (COSTOPHRENIC - dome) * lateral + 0.08 * np.clip((0.33 - reach) / 0.33, 0, 1) ** 2


def _breasts(case: Case, density: Map, x: Map, y: Map, person: np.random.Generator) -> None:
    amount = person.uniform(0.02, 0.10) if case.sex == "F" else 0.0
    shape = np.hypot((np.abs(x) - 0.45) / 0.34, (y - 0.28) / 0.33)
    density += amount * soft(1 - shape, 0.25) * (0.5 + 0.5 * np.clip(y * 3, 0, 1))


def _frontal_bones(x: Map, y: Map, person: np.random.Generator) -> Map:
    reach = np.abs(x)
    clavicle = person.uniform(-0.62, -0.54) - 0.22 * reach - 0.03 * np.sin(7 * reach)
    bones = 0.13 * soft(0.022 - np.abs(y - clavicle), 0.015) * soft(reach - 0.07, 0.03) * soft(0.85 - reach, 0.05)
    vertebra = 0.55 + 0.45 * np.cos(2 * np.pi * y / 0.14)
    bones += 0.07 * soft(0.075 - reach, 0.02) * vertebra
    anterior = (y + 0.55 - 0.55 * (BREADTH - reach)) / RIB_SPACING % 1
    bones += (
        0.035 * soft(0.27 - np.abs(anterior - 0.5), 0.1) * np.clip((reach - 0.25) * 4, 0, 1) * soft(0.72 - reach, 0.03)
    )
    bones += 0.12 * soft(1 - np.hypot((reach - 0.93) / 0.13, (y + 0.60) / 0.14), 0.2)
    scapula = np.hypot((reach - 0.74 - 0.2 * (y + 0.35)) / 0.06, (y + 0.3) / 0.33)
    return bones + 0.06 * soft(1 - scapula, 0.2)


def _lateral(case: Case, x: Map, y: Map, person: np.random.Generator) -> Anatomy:
    """Seen from the left: the sternum lies on the image's left, the spine on its right; the lungs overlap."""
    front = -0.50 - 0.06 * np.cos(2.2 * y) + 0.25 * np.clip(-0.35 - y, 0, None)
    back = 0.56 - 0.10 * y**2
    diaphragm = 0.34 + 0.38 * np.clip((x + 0.3) / 0.9, -0.3, 1) ** 2
    lung = soft(x - front, 0.04) * soft(back - x, 0.04) * soft(diaphragm - y, 0.03)
    lung = lung * soft(1 - np.hypot((x - 0.02) / 0.66, (y - 0.18) / 1.02), 0.06)
    body = np.clip(np.minimum(x - front + 0.22, back + 0.24 - x) / 0.2, 0, 1) ** 0.6
    body = body * soft(y + 0.92 - 0.5 * np.abs(x) ** 2, 0.1)
    density = 0.04 + 0.62 * body
    blend(density, soft(y - diaphragm, 0.03) * body, 0.82)
    blend(density, lung, 0.27)
    size = heart_ratio(case, person)
    heart = soft(1 - np.hypot((x + 0.20 + 0.35 * (y - 0.2)) / (0.55 * size), (y - 0.18) / (0.62 * size)), 0.12)
    blend(density, heart * 0.9, 0.68)
    hilum = (0.04, -0.06)
    spine = soft(0.09 - np.abs(x - 0.50 + 0.12 * y**2), 0.03)
    bones = 0.16 * spine * (0.6 + 0.4 * np.cos(2 * np.pi * y / 0.15)) * np.clip(0.9 - 0.5 * y, 0, 1)
    bones = bones + 0.14 * soft(0.025 - np.abs(x - front + 0.03), 0.02) * soft(0.1 - y, 0.05) * soft(y + 0.55, 0.05)
    blend(density, soft(0.04 - np.abs(x - 0.02), 0.03) * soft(-0.2 - y, 0.05) * body * 0.4, 0.3)
    hila = {"right": hilum, "left": hilum}
    return Anatomy(
        x=x,
        y=y,
        density=density,
        lungs={"right": lung, "left": lung},
        heart=heart,
        outward={"right": 1, "left": 1},
        hila=hila,
        vessels=_vessels(x, y, {"left": hilum, "right": hilum}, person),
        ribs=(y + 0.95 + 0.45 * (x - 0.5)) / RIB_SPACING,
        cage=0.5 * soft(x - front, 0.03) * soft(back + 0.05 - x, 0.03) * soft(y + 0.85, 0.05),
        bones=bones,
        landmarks={
            "throat": (0.0, -1.2),
            "carina": (0.02, -0.2),
            "neck": (-0.1, -1.1),
            "atrium": (-0.08, 0.0),
            "stomach": (-0.1, 0.62),
            "generator": (-0.38, -0.5),
            "apex": (-0.3, 0.3),
            "collar": (-0.1, -0.62),
        },
    )


def _vessels(x: Map, y: Map, hila: dict[str, Point], person: np.random.Generator) -> Map:
    """Branches that leave the hila: ridges of noise over the angle, finer and fainter outwards."""
    table = person.uniform(-1, 1, (2, 2, CELLS)).astype(np.float32)
    slope = np.diff(table, append=0)
    on_left = (x > 0).astype(np.int32)
    near, far = (np.where(on_left, np.float32(hila["left"][i]), np.float32(hila["right"][i])) for i in range(2))
    across, down = x - near, y - far
    distance = np.sqrt(across * across + down * down)
    angle = np.arctan2(down, np.abs(across)) + 0.10 * np.sin(9 * distance + 3 * on_left)
    vessels = np.zeros_like(distance)
    for octave, (frequency, reach) in enumerate(((5, 0.20), (11, 0.38))):
        place = (angle + 4) * frequency
        cell = place.astype(np.int32)
        start = cell + CELLS * on_left
        ridge = table[:, octave].take(start) + (place - cell) * slope[:, octave].take(start)
        vessels += np.clip(1.2 - np.abs(ridge) * (2 + 14 * distance), 0, 1) * np.exp(-distance / reach)
    vessels *= np.clip(distance * 12, 0, 1)
    return vessels


def _hat(length: int, cells: int) -> Map:
    """(length, cells) weights of linear interpolation."""
    place = np.linspace(0, cells - 1, length, dtype=np.float32)
    return np.clip(1 - np.abs(place[:, None] - np.arange(cells, dtype=np.float32)), 0, 1)
