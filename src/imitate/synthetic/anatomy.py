"""What the views of a schematic chest share: soft shapes over a plane.

The plane's centre is (0, 0), its unit half the image's height; y points down. A shape is a map in [0, 1] with soft
borders. Densities are near the brightness that they end in: 0 is air, 1 is metal.
"""

import math
from dataclasses import dataclass

import numpy as np

from imitate.synthetic.cases import Case, generator

Map = np.ndarray  # float32 (height, width), or broadcastable to it
Point = tuple[float, float]  # (x, y)

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


def plane(case: Case, height: int, width: int) -> tuple[Map, Map]:
    """x (1, width) and y (height, 1) of the pixels, as this patient stands in this image."""
    x = (((np.arange(width) + 0.5) * 2 - width) / height).astype(np.float32)[None, :]
    y = (((np.arange(height) + 0.5) * 2 - height) / height).astype(np.float32)[:, None]
    person = generator(case.seed, case.patient, purpose="build")
    position = case.generator(f"position {case.image}")
    x = (x - position.uniform(-0.04, 0.04)) * person.uniform(0.95, 1.10)
    y = (y - position.uniform(-0.04, 0.04)) * person.uniform(0.95, 1.10)
    return x, y


def heart_ratio(case: Case, person: np.random.Generator) -> float:
    """Width of the heart over that of the thorax; the limit of the normal is 0.5, wider in AP."""
    finding = case.find("Cardiomegaly")
    ratio = {"mild": 0.56, "moderate": 0.61, "severe": 0.67}[finding.severity] if finding else 0.45
    return ratio + float(person.uniform(-0.02, 0.02)) + (0.02 if case.view == "AP" else 0)


def vessels(x: Map, y: Map, hila: dict[str, Point], person: np.random.Generator) -> Map:
    """Branches that leave the hila: ridges of noise over the angle, finer and fainter outwards."""
    table = person.uniform(-1, 1, (2, 2, CELLS)).astype(np.float32)
    slope = np.diff(table, append=0)
    on_left = (x > 0).astype(np.int32)
    near, far = (np.where(on_left, np.float32(hila["left"][i]), np.float32(hila["right"][i])) for i in range(2))
    across, down = x - near, y - far
    distance = np.sqrt(across * across + down * down)
    angle = np.arctan2(down, np.abs(across)) + 0.10 * np.sin(9 * distance + 3 * on_left)
    branches = np.zeros_like(distance)
    for octave, (frequency, reach) in enumerate(((5, 0.20), (11, 0.38))):
        place = (angle + 4) * frequency
        cell = place.astype(np.int32)
        start = cell + CELLS * on_left
        ridge = table[:, octave].take(start) + (place - cell) * slope[:, octave].take(start)
        branches += np.clip(1.2 - np.abs(ridge) * (2 + 14 * distance), 0, 1) * np.exp(-distance / reach)
    branches *= np.clip(distance * 12, 0, 1)
    return branches


def _hat(length: int, cells: int) -> Map:
    """(length, cells) weights of linear interpolation."""
    place = np.linspace(0, cells - 1, length, dtype=np.float32)
    return np.clip(1 - np.abs(place[:, None] - np.arange(cells, dtype=np.float32)), 0, 1)
