"""What goes to a worker process that decodes, and what comes back; apart from ``decoding`` for the sake of the parent,
which needs no decoders.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from imitate.data.annotations import Annotation
from imitate.names import Resize

if TYPE_CHECKING:
    from imitate.data.records import Record

Percentiles = tuple[float, float]


class Setup(NamedTuple):
    """What decides the pixels."""

    size: int
    resize: Resize
    masks: bool
    percentiles: Percentiles | None = None
    from_header: tuple[str, ...] = ()  # elements of the DICOM headers to return
    equalized: bool = False


class Job(NamedTuple):
    """The fields of a record that its pixels depend on."""

    image: Path
    member: str
    annotations: tuple[Annotation, ...]
    invert: bool | None
    window: tuple[float, float] | None

    @classmethod
    def of(cls, record: "Record") -> "Job":
        return cls(*(getattr(record, name) for name in cls._fields))


class Decoded(NamedTuple):
    image: UInt8[np.ndarray, "size size"]
    mask: UInt8[np.ndarray, "size size"] | None
    boxes: list[dict[str, Any]]  # in prepared pixels
    regions: list[dict[str, Any]]  # masks with a label or a phrase, as run lengths of the prepared square
    boxes_outside: int
    notes: tuple[str, ...]  # of ``pixels.read_noted``
    header: Mapping[str, str] | None = None  # the elements that were asked for; None where the file is no DICOM
