"""Synthetic radiographs to begin with: one finding each, and one with none."""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np

from imitate.synthetic.cases import Case, draw_case
from imitate.synthetic.phantom import render

HEIGHT, WIDTH = 720, 640  # px
SEED = 2025
WANTED = (None, "Pleural Effusion", "Cardiomegaly", "Pneumothorax", "Consolidation", "Lung Lesion")


class Drawing(NamedTuple):
    title: str
    phrase: str  # as a report would have it
    pixels: np.ndarray


def drawings() -> Iterator[Drawing]:
    for wanted in WANTED:
        case = next(case for case in _cases() if _shows(case, wanted))
        where = " ".join(_where(case))
        title = (wanted or "No finding").capitalize() + (f" ({where})" if where else "")
        phrase = f"{where} {wanted}".strip().lower() if wanted else ""
        yield Drawing(title, phrase, render(case, HEIGHT, WIDTH).image)


def _cases() -> Iterator[Case]:
    return (case for case in (draw_case(SEED, index) for index in count()) if case.view != "LATERAL")


def _shows(case: Case, wanted: str | None) -> bool:
    if wanted is None:
        return not case.findings
    return [(finding.name, finding.severity) for finding in case.findings] == [(wanted, "severe")]


def _where(case: Case) -> list[str]:
    places = [part for finding in case.findings for part in (finding.place.side, finding.place.zone) if part]
    return ["bilateral" if part == "both" else part for part in places]
