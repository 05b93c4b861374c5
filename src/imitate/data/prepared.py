"""The prepared folder: the contract between data and everything else.

images.npy       uint8 (N, S, S), memory-mapped
masks.npy        uint8 (N, S, S), 0 or 1, only where the source has masks
table.parquet    one row an image: image_id, patient, study, split, view, findings, impression, labels, boxes
text/<encoder>/  findings.npy, impression.npy, report.npy (both as one text): float16 (N, W), zero rows where missing
dropped.csv      every record left out: source, reason
meta.json        written last: its presence means that the folder is complete
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imitate.data.annotations import Box
from imitate.data.splits import patient_folds
from imitate.errors import UserError
from imitate.names import REPORT, SECTIONS

FORMAT_VERSION = 1


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


@dataclass(frozen=True)
class Prepared:
    """A complete prepared folder, open for reading; pixels stay on disk until touched."""

    root: Path
    meta: dict[str, Any]
    table: pd.DataFrame
    images: np.ndarray  # memory map, uint8 (N, S, S)
    masks: np.ndarray | None

    @classmethod
    def open(cls, root: Path, *, size: int | None = None) -> "Prepared":
        """Raises UserError where the folder is absent, incomplete, of another format version or not of ``size``."""
        root = Path(root)
        if not (root / "meta.json").is_file():
            state = "is incomplete (run the same `imitate prepare` again)" if root.is_dir() else "does not exist"
            raise UserError(f"prepared folder {root} {state}")
        meta = json.loads((root / "meta.json").read_text(encoding="utf-8"))
        if meta.get("format_version") != FORMAT_VERSION:
            raise UserError(
                f"{root} has format version {meta.get('format_version')}, not {FORMAT_VERSION}: prepare it again"
            )
        if size is not None and meta["size"] != size:
            raise UserError(
                f"{root} holds images of {meta['size']} px, this model needs {size}: "
                f"run `imitate prepare` with --size {size} into another folder"
            )
        masks = root / "masks.npy"
        return cls(
            root=root,
            meta=meta,
            table=pd.read_parquet(root / "table.parquet"),
            images=np.load(root / "images.npy", mmap_mode="r", allow_pickle=False),
            masks=np.load(masks, mmap_mode="r", allow_pickle=False) if masks.is_file() else None,
        )

    def __len__(self) -> int:
        return len(self.table)

    @property
    def classes(self) -> list[str]:
        return self.meta["classes"]

    @property
    def labels(self) -> np.ndarray:
        """(N, classes) float32; NaN where unknown."""
        if not self.classes:
            raise UserError(f"{self.root} has no labels: prepare a labelled source")
        return np.stack(self.table["labels"].to_list()).astype(np.float32)

    def boxes(self, index: int) -> list[Box]:
        """The boxes of one image, in prepared pixels."""
        return [Box(**box) for box in self.table["boxes"].iloc[index]]

    def folds(self, count: int, *, test: str) -> "Iterator[Prepared]":
        """The folder ``count`` times for cross-validation by patient: a fold is the split ``test``, the rest trains."""
        fold = patient_folds(self.table["patient"].to_list(), count)
        for number in range(count):
            split = np.where(fold == number, test, "train")
            meta = {**self.meta, "fingerprint": f"fold{number}-{self.meta['fingerprint']}"}  # other subsets are drawn
            yield replace(self, meta=meta, table=self.table.assign(split=split))

    def rows(self, split: str) -> np.ndarray:
        """Indices of a split; UserError where it is empty."""
        found = np.flatnonzero(self.table["split"].to_numpy() == split)
        if not len(found):
            counts = self.table["split"].value_counts().to_dict()
            raise UserError(f"{self.root} has no images in split {split!r}; it has {counts}")
        return found

    def text(self, section: str) -> pd.Series:
        """A section of each report, or ``report``, the two as one text; null where there is none."""
        if section != REPORT:
            return self.table[section]
        findings, impression = (self.table[name] for name in SECTIONS)
        return (findings + " " + impression).fillna(findings).fillna(impression)

    def has(self, section: str) -> np.ndarray:
        """(N,) bool: which images have this text."""
        return self.text(section).notna().to_numpy()
