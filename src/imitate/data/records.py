"""What a source yields: one record an image, before any pixel is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imitate.data.annotations import Annotation


@dataclass(frozen=True, slots=True)
class Record:
    """One radiograph. Plain data: it can be written to Parquet, hashed and handed to another process."""

    image_id: str  # unique within the source
    image: Path  # the file, or the zip archive that holds it
    patient: str
    study: str
    member: str = ""  # name within the archive, where ``image`` is one
    split: str = "train"  # train, val, test, or the name of an extra set such as 5x200
    projection: str = ""  # PA, AP, FRONTAL (PA or AP), LATERAL, ...; empty where unknown
    findings: str | None = None
    impression: str | None = None
    language: str = ""  # of the report, ISO 639-1; empty where unknown
    labels: Mapping[str, float] | None = None  # class -> 1 or 0; NaN where unknown
    annotations: tuple[Annotation, ...] = ()
    annotated: bool | None = None  # whether somebody looked for what the annotations show; None where unknown
    sex: str = ""  # F, M, O (another), or empty where unknown: see data/demographics.py
    age: float | None = None  # years
    scanner: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)  # further columns: race, ethnicity, insurance, site, ...
    originals: tuple[str, ...] = ()  # how sex and age were written, such as "age: nnnY"; counted, not stored
    invert: bool | None = None  # for sources that say so outside the file
    window: tuple[float, float] | None = None  # (center, width), likewise
    notes: tuple[str, ...] = ()  # what is odd about it, each in a few words: they are counted, no names or values


@dataclass(frozen=True, slots=True)
class Excluded:
    """A record that is not used, with its reason in a few words. Reasons are counted: no names or values in them."""

    source: str  # path or id, for the user to find it
    reason: str
