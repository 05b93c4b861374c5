"""Tubes, lines, pacemakers and foreign objects, drawn over everything else."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from imitate.synthetic.anatomy import Anatomy, Map, Point, blend, radius, soft
from imitate.synthetic.cases import Finding
from imitate.synthetic.lesions import SCALE, aerated, spot


def support_devices(anatomy: Anatomy, finding: Finding, random: np.random.Generator) -> Iterator[tuple[str, Map]]:
    marks, wobble = anatomy.landmarks, random.uniform(-0.02, 0.02)
    if finding.place.kind == "pacemaker":
        x, y = marks["generator"]
        box = soft(1 - _superellipse(anatomy, (x, y), (0.10, 0.085)), 0.1)
        path = [(x - 0.05, y - 0.07), (0.1, y - 0.12), (-0.08, -0.3), (-0.1, 0.15), marks["apex"]]
        shape = np.maximum(box, _stroke(anatomy, path, 0.011))
    else:
        path = {
            "endotracheal tube": [marks["throat"], (marks["carina"][0], -0.7), (marks["carina"][0], -0.32 + wobble)],
            "enteric tube": [marks["throat"], (0.02, -0.3), (0.03, 0.4), (0.1, 0.6), marks["stomach"]],
            "central venous line": [marks["neck"], (-0.17, -0.7), (-0.13, -0.4), marks["atrium"]],
        }[finding.place.kind]
        shape = _stroke(anatomy, path, 0.018 if finding.place.kind == "endotracheal tube" else 0.012)
    blend(anatomy.density, shape * 0.75, 0.98)
    yield finding.place.side, shape


def foreign_object(anatomy: Anatomy, finding: Finding, random: np.random.Generator) -> Iterator[tuple[str, Map]]:
    """One to three objects apart from each other; a necklace is one."""
    side, kind = finding.place.side, finding.place.kind
    if kind == "necklace":
        x, y = anatomy.landmarks["collar"]
        reach, drop = random.uniform(0.2, 0.3), random.uniform(0.15, 0.25)
        chain = [(x + reach * t, y + drop * (1 - t * t)) for t in np.linspace(-1, 1, 9)]
        shapes = [_stroke(anatomy, chain, 0.016)]
    else:
        shapes = []
        for depth in random.permutation([0.2, 0.5, 0.8])[: SCALE[finding.severity] + 1]:
            depth += random.uniform(-0.05, 0.05)
            centre = spot(anatomy, aerated(anatomy, side), side, float(depth), random.uniform(0.3, 0.8))
            if kind == "button":
                size = random.uniform(0.035, 0.05)
                shapes.append(soft(1 - radius(anatomy, centre, (size, size)), 0.1))
            else:
                half = (random.uniform(0.06, 0.10), random.uniform(0.018, 0.028))
                inside = np.minimum(half[0] - np.abs(anatomy.x - centre[0]), half[1] - np.abs(anatomy.y - centre[1]))
                shapes.append(soft(inside, anatomy.pixel))
    for shape in shapes:
        blend(anatomy.density, shape * 0.95, 0.98)
        yield side, shape


def _superellipse(anatomy: Anatomy, centre: Point, axes: Point) -> Map:
    return (((anatomy.x - centre[0]) / axes[0]) ** 4 + ((anatomy.y - centre[1]) / axes[1]) ** 4) ** 0.25


def _stroke(anatomy: Anatomy, points: list[Point], thickness: float) -> Map:
    """A smooth curve through the points."""
    knots = np.asarray(points)
    place = np.linspace(0, len(knots) - 1, 3 * max(anatomy.shape))
    line = np.stack([_through(knots[:, axis], place) for axis in (0, 1)], axis=1)
    columns = (line[:, 0] - anatomy.x[0, 0]) / (anatomy.x[0, 1] - anatomy.x[0, 0])
    rows = (line[:, 1] - anatomy.y[0, 0]) / (anatomy.y[1, 0] - anatomy.y[0, 0])
    shape = np.zeros(anatomy.shape, np.float32)
    reach = round(thickness / anatomy.pixel / 2)
    for down, across in product(range(-reach, reach + 1), repeat=2):
        if down**2 + across**2 <= reach**2 + 1:
            row, column = np.rint(rows + down).astype(int), np.rint(columns + across).astype(int)
            seen = (row >= 0) & (row < shape.shape[0]) & (column >= 0) & (column < shape.shape[1])
            shape[row[seen], column[seen]] = 1
    return shape


def _through(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Catmull-Rom spline."""
    padded = np.concatenate([2 * values[:1] - values[1:2], values, 2 * values[-1:] - values[-2:-1]])
    start = np.minimum(place.astype(int), len(values) - 2)
    t = place - start
    before, here, there, after = (padded[start + i] for i in range(4))
    return here + 0.5 * t * (
        there - before + t * (2 * before - 5 * here + 4 * there - after + t * (3 * (here - there) + after - before))
    )
