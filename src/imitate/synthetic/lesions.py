"""How each finding looks: a painter changes the anatomy's maps and yields the regions that the finding covers."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from imitate.synthetic.anatomy import Anatomy, Map, Point, blend, radius, smooth_noise, soft
from imitate.synthetic.cases import SIDES, Finding


class Region(NamedTuple):
    """The pixels of one finding on one side, or of one object."""

    finding: Finding
    side: str
    mask: np.ndarray  # bool (height, width)


Painter = Callable[[Anatomy, Finding, np.random.Generator], Iterator[tuple[str, Map]]]
"""Yields a side and its map; a pixel with more than a half belongs to the region."""

SCALE = {"mild": 0, "moderate": 1, "severe": 2}
DEPTH = {"upper": (0.22, 0.30), "middle": (0.45, 0.53), "lower": (0.68, 0.76)}  # of a lung, from its apex


def graded(finding: Finding, *values: float) -> float:
    return values[SCALE[finding.severity]]


def sides(finding: Finding) -> tuple[str, ...]:
    return SIDES if finding.place.side == "both" else (finding.place.side,)


def aerated(anatomy: Anatomy, side: str) -> Map:
    """A lung without the part in front of which the heart lies."""
    return anatomy.lungs[side] * (1 - anatomy.heart)


def spot(anatomy: Anatomy, lung: Map, side: str, depth: float, out: float) -> Point:
    """The point of a lung at this depth (0 top, 1 bottom) and fraction of the way to the chest wall."""
    rows = np.flatnonzero((lung > 0.5).any(axis=1))
    row = rows[round(depth * (rows.size - 1))]
    columns = np.flatnonzero(lung[row] > 0.5)[:: anatomy.outward[side]]
    column = columns[round(out * (columns.size - 1))]
    return float(anatomy.x[0, column]), float(anatomy.y[row, 0])


def zone_spot(anatomy: Anatomy, finding: Finding, random: np.random.Generator, out: Point) -> Point:
    """Somewhere in the finding's zone; ``out`` are the limits of its fraction of the way to the chest wall."""
    side, depth = finding.place.side, random.uniform(*DEPTH[finding.place.zone])
    return spot(anatomy, aerated(anatomy, side), side, depth, random.uniform(*out))


def blob(anatomy: Anatomy, random: np.random.Generator, centre: Point, axes: Point, rough: float) -> Map:
    """1 - distance to a wavy outline: positive inside."""
    distance = radius(anatomy, centre, axes, random.uniform(-0.4, 0.4))
    return 1 - distance + rough * smooth_noise(random, anatomy.shape, 16)


def consolidation(anatomy: Anatomy, finding: Finding, random: np.random.Generator) -> Iterator[tuple[str, Map]]:
    """Dense and nearly even, with the bronchi dark in it."""
    size = graded(finding, 0.15, 0.20, 0.26) * random.uniform(0.9, 1.1)
    centre = zone_spot(anatomy, finding, random, (0.4, 0.65))
    shape = soft(blob(anatomy, random, centre, (size * 1.15, size), 0.4), 0.35) * aerated(anatomy, finding.place.side)
    blend(anatomy.density, shape * (0.9 - 0.45 * np.clip(anatomy.vessels, 0, 1)), 0.66)
    yield finding.place.side, shape


def pneumonia(anatomy: Anatomy, finding: Finding, random: np.random.Generator) -> Iterator[tuple[str, Map]]:
    """Patches with blurred borders."""
    size = graded(finding, 0.15, 0.20, 0.26) * random.uniform(0.9, 1.1)
    centre = zone_spot(anatomy, finding, random, (0.35, 0.65))
    shape = soft(blob(anatomy, random, centre, (size, size * 1.1), 0.35), 0.7) * aerated(anatomy, finding.place.side)
    patches = soft(smooth_noise(random, anatomy.shape, 30) + 0.15, 0.7)
    blend(anatomy.density, shape * (0.45 + 0.4 * patches), 0.62)
    yield finding.place.side, shape


def atelectasis(anatomy: Anatomy, finding: Finding, random: np.random.Generator) -> Iterator[tuple[str, Map]]:
    """One to three plates, nearly level."""
    x, y = zone_spot(anatomy, finding, random, (0.4, 0.6))
    out = anatomy.outward[finding.place.side]
    tilt, whole = random.uniform(-0.25, 0.15) * out, np.zeros(anatomy.shape, np.float32)
    for plate in range(SCALE[finding.severity] + 1):
        axes = (random.uniform(0.14, 0.20), max(random.uniform(0.014, 0.022), 0.8 * anatomy.pixel))
        centre = (x + random.uniform(-0.03, 0.03), y - 0.07 * plate)
        shape = soft(1 - radius(anatomy, centre, axes, tilt), 0.5)
        whole = np.maximum(whole, shape * aerated(anatomy, finding.place.side))
    blend(anatomy.density, whole * 0.85, 0.60)
    yield finding.place.side, whole


def lung_lesion(anatomy: Anatomy, finding: Finding, random: np.random.Generator) -> Iterator[tuple[str, Map]]:
    """A nodule, round and sharp; severe: a mass with a wavy outline."""
    size = graded(finding, 0.035, 0.055, 0.12) * random.uniform(0.9, 1.15)
    centre = zone_spot(anatomy, finding, random, (0.35, 0.75))
    inside = blob(anatomy, random, centre, (size, size), graded(finding, 0.0, 0.1, 0.35))
    shape = soft(inside, 0.3) * aerated(anatomy, finding.place.side)
    blend(anatomy.density, shape * 0.85, 0.66)
    yield finding.place.side, shape


def edema(anatomy: Anatomy, finding: Finding, random: np.random.Generator) -> Iterator[tuple[str, Map]]:
    """A haze around the hila, and fuller vessels."""
    reach = graded(finding, 0.34, 0.40, 0.46)
    for side in sides(finding):
        haze = np.exp(-(radius(anatomy, anatomy.hila[side], (reach, reach * 1.25)) ** 2))
        veil = haze * aerated(anatomy, side)
        texture = 0.75 + 0.25 * smooth_noise(random, anatomy.shape, 24)
        blend(anatomy.density, veil * texture * graded(finding, 0.45, 0.6, 0.8), 0.66)
        anatomy.vessels += 1.2 * veil
        yield side, veil * 1.25


def covid(anatomy: Anatomy, finding: Finding, random: np.random.Generator) -> Iterator[tuple[str, Map]]:
    """Ground glass in rounded patches under the pleura, more of it below, on both sides."""
    for side in sides(finding):
        whole = np.zeros(anatomy.shape, np.float32)
        for depth in np.linspace(0.42, 0.80, 3 + SCALE[finding.severity]):
            depth += random.uniform(-0.03, 0.03)
            centre = spot(anatomy, aerated(anatomy, side), side, float(depth), random.uniform(0.78, 0.95))
            axes = (random.uniform(0.10, 0.14), random.uniform(0.12, 0.17))
            whole = np.maximum(whole, soft(blob(anatomy, random, centre, axes, 0.3), 0.5))
        whole *= aerated(anatomy, side)
        texture = 0.85 + 0.15 * smooth_noise(random, anatomy.shape, 40)
        blend(anatomy.density, whole * texture * graded(finding, 0.5, 0.6, 0.75), 0.56)
        yield side, whole


def effusion(anatomy: Anatomy, finding: Finding, random: np.random.Generator) -> Iterator[tuple[str, Map]]:
    """Fluid up to a level that climbs at the chest wall; a little of it only blunts the angle."""
    for side in sides(finding):
        lung = anatomy.lungs[side]
        depth = graded(finding, 0.06, 0.26, 0.48) * random.uniform(0.9, 1.1)
        level = spot(anatomy, aerated(anatomy, side), side, 1.0, 0.0)[1] - depth
        inner, outer = (spot(anatomy, lung, side, 0.6, out)[0] for out in (0.0, 1.0))
        climb = np.clip((anatomy.x - inner) / (outer - inner), 0, 1.2) ** 3
        fluid = soft(anatomy.y - level + 0.16 * climb, 0.05) * lung
        blend(anatomy.density, np.clip(2 * fluid, 0, 1), 0.80)
        anatomy.vessels *= 1 - 0.8 * fluid
        yield side, fluid


def pneumothorax(anatomy: Anatomy, finding: Finding, random: np.random.Generator) -> Iterator[tuple[str, Map]]:
    """The lung shrinks towards its hilum; around it no vessels, and a fine line where it ends."""
    side = finding.place.side
    lung, scale = anatomy.lungs[side], graded(finding, 0.87, 0.76, 0.55) * random.uniform(0.97, 1.03)
    thickness = max(0.012, 1.3 * anatomy.pixel)
    collapsed, rim = (_shrunk(anatomy, lung, side, scale + more) for more in (0.0, thickness / 0.6))
    air = lung * (1 - collapsed) * (1 - anatomy.heart)
    blend(anatomy.density, air, 0.13)
    blend(anatomy.density, collapsed * lung * graded(finding, 0.05, 0.15, 0.4), 0.55)
    anatomy.vessels *= 1 - air
    anatomy.density += 0.22 * np.clip(rim - collapsed, 0, 1) * air
    yield side, air


def cardiomegaly(anatomy: Anatomy, finding: Finding, random: np.random.Generator) -> Iterator[tuple[str, Map]]:
    """The wide heart is drawn with the anatomy."""
    yield "", anatomy.heart


def fracture(anatomy: Anatomy, finding: Finding, random: np.random.Generator) -> Iterator[tuple[str, Map]]:
    """A gap across a rib near the chest wall, and a step behind it."""
    side = finding.place.side
    x, y = zone_spot(anatomy, finding, random, (0.72, 0.85))
    row = int(np.argmin(np.abs(anatomy.y[:, 0] - y)))
    column = int(np.argmin(np.abs(anatomy.x[0] - x)))
    slope = float(anatomy.ribs[row, column] - anatomy.ribs[row - 1, column]) / anatomy.pixel
    y += (0.5 - float(anatomy.ribs[row, column]) % 1) / slope
    window = soft(1 - radius(anatomy, (x, y), (0.10, 0.09)), 0.4)
    along = (anatomy.x - x) * anatomy.outward[side]
    gap = soft(max(0.014, 1.2 * anatomy.pixel) - np.abs(along + 0.4 * (anatomy.y - y)), anatomy.pixel)
    anatomy.ribs = anatomy.ribs - graded(finding, 0.25, 0.35, 0.45) * window * (along > 0)
    anatomy.cage = anatomy.cage * (1 - gap * window + 0.9 * window * (1 - gap))
    yield side, soft(1 - radius(anatomy, (x, y), (0.09, 0.08)), 0.1)


def _shrunk(anatomy: Anatomy, lung: Map, side: str, scale: float) -> Map:
    """``lung`` scaled about its hilum; below the hilum half as much."""
    x, y = anatomy.hila[side]
    below = anatomy.y[:, 0] > y
    rows = y + (anatomy.y[:, 0] - y) / np.where(below, 0.5 + 0.5 * scale, scale)
    columns = x + (anatomy.x[0] - x) / scale
    axes = ((anatomy.y[:, 0], rows), (anatomy.x[0], columns))
    return lung[np.ix_(*(np.searchsorted(axis, place).clip(0, axis.size - 1) for axis, place in axes))]


SOFT_PAINTERS: dict[str, Painter] = {
    "Cardiomegaly": cardiomegaly,
    "Edema": edema,
    "COVID-19": covid,
    "Consolidation": consolidation,
    "Pneumonia": pneumonia,
    "Atelectasis": atelectasis,
    "Lung Lesion": lung_lesion,
    "Pleural Effusion": effusion,
    "Pneumothorax": pneumothorax,
    "Fracture": fracture,
}
