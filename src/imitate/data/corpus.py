"""Prepared folders as one corpus: the contract between data and everything else."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from imitate.data.annotations import Box
from imitate.data.columns import Columns, light_columns, on_disk
from imitate.data.folder import Folder, open_folder
from imitate.data.merging import merged_meta, merged_table, require_alike, require_projections
from imitate.data.splits import patient_folds
from imitate.data.stacked import Stacked, by_piece
from imitate.errors import UserError
from imitate.names import REPORT, SECTIONS, SENTENCES


@dataclass(frozen=True)
class Corpus:
    """One or several prepared folders, open for reading.

    Pixels, texts, labels and boxes stay on disk until they are read. A corpus that has no ``columns`` and no ``parts``
    is in memory: ``table`` then holds findings, impression, labels and boxes too.
    """

    root: Path  # of several folders: their names
    meta: dict[str, Any]
    table: pd.DataFrame
    images: np.ndarray | Stacked  # uint8 (N, S, S)
    masks: np.ndarray | Stacked | None
    columns: Columns | None = field(default=None, repr=False)
    parts: tuple["Corpus", ...] = ()  # of several folders: each of them, in the order of the rows
    fallback: pd.Series | None = field(default=None, repr=False)  # text of those without a report
    variant: str = ""  # in which way it isn't the folder as it stands; "" where it is

    @classmethod
    def open(
        cls,
        folders: str | Path | Sequence[str | Path],
        *,
        size: int | None = None,
        projections: Sequence[str] | None = None,
    ) -> "Corpus":
        """Raises UserError where a folder is absent, incomplete, damaged, of another format or not of ``size``.

        ``projections`` are selected in place of those that each folder selects by default.
        """
        paths = [Path(folders)] if isinstance(folders, str | Path) else [Path(folder) for folder in folders]
        if not paths:
            raise UserError("no prepared folder is given: give at least one")
        opened = [open_folder(path) for path in paths]
        for folder in opened:
            if size is not None and folder.meta["size"] != size:
                raise UserError(
                    f"{folder.root} holds images of {folder.meta['size']} px, but this model needs {size}: "
                    f"run `imitate prepare` with --size {size} into another folder"
                )
        every = [_whole(folder) for folder in opened]
        if projections is not None:
            require_projections(every, projections)
        corpora = [_chosen(each, projections) for each in every]
        return corpora[0] if len(corpora) == 1 else merge(corpora)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def name(self) -> str:
        return self.root.resolve().name

    @property
    def each(self) -> tuple["Corpus", ...]:
        """The corpora of the single folders."""
        return self.parts or (self,)

    @property
    def fingerprint(self) -> str:
        """Identifies the rows and what belongs to them."""
        return str(self.meta["fingerprint"])

    @property
    def size(self) -> int:
        return int(self.meta["size"])

    @property
    def resize(self) -> str:
        return str(self.meta["resize"])

    @property
    def percentiles(self) -> tuple[float, float] | None:
        """Of the gray values of each image, which became black and white."""
        low_high = self.meta.get("percentiles")
        return None if low_high is None else (float(low_high[0]), float(low_high[1]))

    @property
    def traits(self) -> dict[str, Any]:
        return self.meta.get("traits", {})

    @property
    def classes(self) -> list[str]:
        return self.meta["classes"]

    @property
    def labels(self) -> Float[np.ndarray, "rows classes"]:
        """NaN where unknown."""
        if not self.classes:
            raise UserError(f"{self.root} has no labels: prepare a labelled source")
        if "labels" in self.table:
            return np.stack(self.table["labels"].to_list()).astype(np.float32)
        return self._labels

    @cached_property
    def _labels(self) -> Float[np.ndarray, "rows classes"]:
        if self.columns:
            return self.columns.labels(self.classes)
        out = np.full((len(self), len(self.classes)), np.nan, np.float32)
        start = 0
        for part in self.parts:
            if part.classes:
                places = [self.classes.index(name) for name in part.classes]
                out[start : start + len(part), places] = part.labels
            start += len(part)
        return out

    def boxes(self, index: int) -> list[Box]:
        """The boxes of one image, in prepared pixels."""
        if self.columns:
            return self.columns.boxes(index)
        if self.parts:
            ((number, _, local),) = by_piece(np.array([index]), self._ends)
            return self.parts[number].boxes(int(local[0]))
        return [Box(**box) for box in self.table["boxes"].iloc[index]]

    def box_counts(self) -> Int[np.ndarray, " rows"]:
        """How many boxes each image has."""
        if self.columns:
            return self.columns.box_counts()
        if self.parts:
            return np.concatenate([part.box_counts() for part in self.parts])
        return self.table["boxes"].map(len).to_numpy(dtype=np.int64)

    def folds(self, count: int, *, test: str) -> "Iterator[Corpus]":
        """The corpus ``count`` times for cross-validation by patient: a fold is the split ``test``, the rest trains."""
        fold = patient_folds(self.table["patient"].to_list(), count)
        for number in range(count):
            split = np.where(fold == number, test, "train")
            meta = {**self.meta, "fingerprint": f"fold{number}-{self.fingerprint}"}  # other subsets are drawn
            yield replace(self, meta=meta, table=self.table.assign(split=split))

    def rows(self, split: str) -> Int[np.ndarray, " n"]:
        """Indices of a split; UserError where it is empty."""
        found = np.flatnonzero(self.table["split"].to_numpy() == split)
        if not len(found):
            counts = self.table["split"].value_counts().to_dict()
            raise UserError(f"{self.root} has no images in split {split!r}; it has {counts}")
        return found

    def text(self, section: str, rows: Int[np.ndarray, " n"] | None = None) -> pd.Series:
        """A section of each report, or ``report``, the two as one text; null where there is none.

        Of all rows, or of these, which are the index of what comes back. The texts of 1,000,000 reports are a gigabyte:
        ``texts`` goes through them a shard at a time.
        """
        rows = np.arange(len(self)) if rows is None else rows
        if section == REPORT:
            findings, impression = (self._section(name, rows) for name in SECTIONS)
            found = (findings + " " + impression).fillna(findings).fillna(impression)
        else:
            found = self._section(section, rows)
        if self.fallback is None:
            return found
        bare = ~(self.written(SECTIONS[0]) | self.written(SECTIONS[1]))[rows]
        return found.where(~bare, self.fallback.iloc[rows])

    def texts(self, section: str) -> Iterator[pd.Series]:
        """``text`` of all rows in order, a shard at a time."""
        for rows in self._by_shard():
            yield self.text(section, rows)

    def reports(self, sections: Sequence[str] = SECTIONS, rows: Int[np.ndarray, " n"] | None = None) -> pd.DataFrame:
        """These sections side by side."""
        return pd.DataFrame({section: self.text(section, rows) for section in sections})

    def has(self, section: str) -> Bool[np.ndarray, " rows"]:
        """Which images have this text."""
        either = self.written(SECTIONS[0]) | self.written(SECTIONS[1])
        found = either if section in (REPORT, SENTENCES) else self.written(section)
        return found if self.fallback is None else found | (~either & self.fallback.notna().to_numpy())

    def select(self, projections: Sequence[str]) -> "Corpus":
        """The images of these projections. UserError: there are none of one that is named."""
        require_projections(self.each, projections)
        if self.parts:
            return merge([part._selected(projections) for part in self.parts])
        return self._selected(projections)

    def filled(self, write: "Callable[[Corpus], pd.Series]") -> "Corpus":
        """With a text for both sections of the images without a report; ``write`` gives one or null for each row."""
        if self.parts:
            return merge([part.filled(write) for part in self.parts])
        text = write(self).reset_index(drop=True)
        digest = hashlib.sha256("\0".join(text.fillna("")).encode()).hexdigest()
        return self._varied(f"fallback {digest}", fallback=text)

    def image_files(self) -> list[Path]:
        """Where the pixels lie."""
        if self.parts:
            return [path for part in self.parts for path in part.image_files()]
        return [shard.images for shard in self.columns.folder.shards] if self.columns else []

    def written(self, section: str) -> Bool[np.ndarray, " rows"]:
        """Which images have this section in their report, whatever ``filled`` added."""
        if section in self.table:
            return self.table[section].notna().to_numpy(dtype=bool)
        return self.table[f"has_{section}"].to_numpy(dtype=bool)

    def _section(self, section: str, rows: np.ndarray) -> pd.Series:
        if section in self.table:
            return self.table[section].iloc[rows]
        if self.columns:
            return pd.Series(self.columns.take(section, rows).to_pandas().array, index=rows, name=section)
        pieces = [
            self.parts[number].text(section, local).set_axis(positions)
            for number, positions, local in by_piece(rows, self._ends)
        ]
        return pd.concat(pieces).sort_index().set_axis(rows) if pieces else pd.Series([], dtype=str)

    @property
    def _ends(self) -> Int[np.ndarray, " parts"]:
        return np.cumsum([len(part) for part in self.parts], dtype=np.int64)

    def _by_shard(self) -> Iterator[Int[np.ndarray, " n"]]:
        if self.columns:
            yield from (rows for _, rows, _ in by_piece(self.columns.places, self.columns.folder.ends))
        elif self.parts:
            for part, end in zip(self.parts, self._ends, strict=True):
                yield from (rows + (end - len(part)) for rows in part._by_shard())
        else:
            yield np.arange(len(self))

    def _selected(self, projections: Sequence[str]) -> "Corpus":
        rows = np.flatnonzero(self.table["projection"].isin(list(projections)))
        table = self.table.iloc[rows].reset_index(drop=True)
        if self.columns:
            taken = replace(self, **on_disk(self.columns.folder, self.columns.places[rows]), table=table)
        else:
            masks = None if self.masks is None else self.masks[rows]
            taken = replace(self, table=table, images=self.images[rows], masks=masks)
        fallback = None if self.fallback is None else self.fallback.iloc[rows].reset_index(drop=True)
        return taken._varied(f"projections {sorted(projections)}", fallback=fallback)

    def _varied(self, how: str, *, fallback: pd.Series | None) -> "Corpus":
        digest = hashlib.sha256(f"{self.fingerprint} {how}".encode()).hexdigest()
        return replace(self, meta={**self.meta, "fingerprint": digest}, fallback=fallback, variant=digest[:12])


def merge(parts: Sequence[Corpus]) -> Corpus:
    """Folders as one: their rows one after the other, patients as NAME/ID, classes united; pixels stay where they are.

    UserError: two of one name, or of unlike size or resize rule.
    """
    require_alike(parts)
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    images, masks = [part.images for part in parts], [part.masks for part in parts if part.masks is not None]
    side = images[0].shape[1:]
    blank = pd.Series([None], dtype=object)
    fallback = [blank.repeat(len(part)) if part.fallback is None else part.fallback for part in parts]
    return Corpus(
        root=Path("+".join(part.name for part in parts)),
        meta=merged_meta(parts),
        table=merged_table(parts),
        images=Stacked(images.__getitem__, ends, shape=side),
        masks=Stacked(masks.__getitem__, ends, shape=side) if len(masks) == len(parts) else None,
        parts=tuple(parts),
        fallback=pd.concat(fallback, ignore_index=True) if any(p.fallback is not None for p in parts) else None,
        variant="merged",
    )


def _whole(folder: Folder) -> Corpus:
    table = light_columns(folder).to_pandas()
    return Corpus(folder.root, folder.meta, table, **on_disk(folder, np.arange(len(table))))


def _chosen(every: Corpus, projections: Sequence[str] | None) -> Corpus:
    """A folder's default selection, or these projections."""
    default = every.traits.get("projections")
    usual = every if default is None else replace(every._selected(default), meta=every.meta, variant="")
    if projections is None:
        if default and len(every) and not len(usual):
            require_projections([every], default)
        return usual
    chosen = every._selected(projections)
    return usual if chosen.table["image_id"].equals(usual.table["image_id"]) else chosen
