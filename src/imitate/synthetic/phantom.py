"""A case as a schematic radiograph, with the pixels that each finding covers."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from scipy.ndimage import uniform_filter

from imitate.data.annotations import Box
from imitate.synthetic.anatomy import Anatomy, plane, smooth_noise, soft
from imitate.synthetic.cases import SMALLEST, TRAITS, Case, Finding, Hospital, generator
from imitate.synthetic.devices import foreign_object, support_devices
from imitate.synthetic.frontal import frontal
from imitate.synthetic.lateral import lateral
from imitate.synthetic.lesions import SOFT_PAINTERS, Painter, Region

HARD_PAINTERS: dict[str, Painter] = {"Support Devices": support_devices, "Foreign Object": foreign_object}


class Equipment(NamedTuple):
    """How a hospital exposes: ranges to draw from."""

    contrast: tuple[float, float]
    portable: tuple[float, float]  # contrast of AP images
    grain: tuple[float, float]
    gamma: tuple[float, float]
    rims: float  # fraction of images with a black rim
    blur: int = 0  # pixels of the plate reader at a height of 256


EQUIPMENT: dict[Hospital, Equipment] = {
    "north": Equipment((0.95, 1.1), (0.8, 0.95), (0.008, 0.02), (0.85, 1.2), 0.15),
    "south": Equipment((0.75, 0.9), (0.6, 0.75), (0.02, 0.04), (1.3, 1.8), 0.6, blur=2),
}


class Phantom(NamedTuple):
    image: UInt8[np.ndarray, "height width"]  # bright is dense (MONOCHROME2)
    regions: list[Region]


def render(
    case: Case,
    height: int,
    width: int | None = None,
    *,
    contrast: float | None = None,
    hospital: Hospital = "north",
) -> Phantom:
    """A pure function of its arguments. The chest needs a ``width`` of 0.8 times ``height``; None: a square.

    ``contrast`` is that of the findings, devices and objects aside, as a fraction of the usual one. The hospital
    changes the exposure and nothing of the patient.
    """
    width = width or height
    assert height >= SMALLEST, f"{height} px are too few for the findings to be seen"
    person = generator(case.seed, case.patient, purpose="anatomy")
    view = lateral if case.view == "LATERAL" else frontal
    anatomy = view(case, *plane(case, height, width), person)
    before = None if contrast is None else (anatomy.density.copy(), anatomy.vessels.copy())
    regions = _paint(case, anatomy, SOFT_PAINTERS)
    if before is not None:
        for now, then in zip((anatomy.density, anatomy.vessels), before, strict=True):
            now[...] = then + contrast * (now - then)
    air = np.maximum(*anatomy.lungs.values()) * (1 - anatomy.heart)
    anatomy.density += 0.16 * np.clip(anatomy.vessels, 0, 1.5) * air
    rib = soft(0.31 - np.abs(anatomy.ribs % 1 - 0.5), 0.14)
    anatomy.density += 0.075 * rib * anatomy.cage + anatomy.bones
    regions += _paint(case, anatomy, HARD_PAINTERS)
    return Phantom(_expose(case, anatomy, EQUIPMENT[hospital]), regions)


def boxes(regions: list[Region], sentences: Mapping[Finding, str] | None = None) -> tuple[Box, ...]:
    """One tight box a region, in pixels of the rendered image, with the sentence of its finding."""
    said = sentences or {}
    return tuple(
        Box(region.finding.name, *bounds(region.mask), phrase=said.get(region.finding, "")) for region in regions
    )


def bounds(mask: np.ndarray) -> tuple[float, float, float, float]:
    """x, y, width, height of the tight box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(np.ptp(columns) + 1), float(np.ptp(rows) + 1)


def _paint(case: Case, anatomy: Anatomy, painters: dict[str, Painter]) -> list[Region]:
    """What is chronic looks the same in every study."""
    regions = []
    for name, painter in painters.items():
        if finding := case.find(name):
            study = 0 if TRAITS[name].chronic else case.study
            random = generator(case.seed, case.patient, study, purpose=f"{name} painted")
            regions += [Region(finding, side, shape > 0.5) for side, shape in painter(anatomy, finding, random)]
    return regions


def _expose(case: Case, anatomy: Anatomy, equipment: Equipment) -> np.ndarray:
    """Scatter, gain, gamma, grain; the side marker at the patient's left; at times the black rim of the collimator."""
    random = case.generator(f"exposure {case.image}")
    height, width = anatomy.shape
    density = anatomy.density + 0.02 * smooth_noise(random, anatomy.shape, 6)
    grain = random.standard_normal(anatomy.shape, dtype=np.float32)
    density += random.uniform(*equipment.grain) * (grain + 0.5 * np.roll(grain, 1, axis=1))
    if equipment.blur:
        density = uniform_filter(density, 1 + max(1, equipment.blur * height // 256))
    contrast = random.uniform(*(equipment.portable if case.view == "AP" else equipment.contrast))
    density = np.clip(0.5 + contrast * (density - 0.5) + random.uniform(-0.04, 0.04), 0.004, 1)
    image = density ** random.uniform(*equipment.gamma)
    unit, top, left = max(1, height // 64), height // 12, width - width // 9
    image[top : top + 4 * unit, left : left + unit] = 1
    image[top + 3 * unit : top + 4 * unit, left : left + 3 * unit] = 1
    if random.random() < equipment.rims:
        rim = int(random.integers(1, 1 + height // 50))
        image[:rim], image[-rim:], image[:, :rim], image[:, -rim:] = 0, 0, 0, 0
    return (image * 255).astype(np.uint8)
