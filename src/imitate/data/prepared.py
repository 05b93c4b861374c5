"""Names of the first edition that other modules still import, until they take those of corpus.py and manifest.py."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from imitate.data.annotations import Box
from imitate.data.corpus import Corpus

FORMAT_VERSION = 1
Prepared = Corpus


@dataclass(frozen=True, slots=True)
class Record:
    """One radiograph as a data set yields it, before any pixel is read."""

    image_id: str  # unique in the data set
    image: Path
    patient: str
    study: str
    split: str = "train"  # train, val, test, or the name of an extra set such as 5x200
    view: str = ""  # PA, AP, LATERAL, ...; empty if unknown
    findings: str | None = None
    impression: str | None = None
    labels: Mapping[str, float] | None = None  # class -> 1, 0; NaN where unknown
    boxes: tuple[Box, ...] = ()
    frame: tuple[int, int] | None = None  # (width, height) that the boxes count in, where it isn't the file's own
    mask: Callable[[int, int], np.ndarray] | None = field(default=None)  # (width, height) -> bool (height, width)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A record left out, with its reason in a few words (reasons are counted, so no names or values in them)."""

    source: str  # path or id, for the user to find it
    reason: str
