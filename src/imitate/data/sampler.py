"""Which samples make a step, and reading them ahead of the computation."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Thread

import numpy as np
import torch
from torch import Tensor

from imitate.data.prepared import Prepared
from imitate.data.text_cache import TextRows
from imitate.errors import UserError
from imitate.models.types import PretrainBatch
from imitate.names import REPORT, SECTIONS, Texts

SOURCES: dict[Texts, tuple[str, str]] = {
    "sections": ("findings", "impression"),
    "swapped": ("impression", "findings"),
    "report": (REPORT, REPORT),
}
"""What the findings and the impression branch learn from."""


class Order:
    """A new permutation of the rows in every epoch, from (seed, epoch) alone; the last incomplete batch is left out."""

    def __init__(self, rows: np.ndarray, *, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.steps_per_epoch = len(rows) // batch_size
        if not self.steps_per_epoch:
            raise UserError(f"{len(rows)} training samples are fewer than batch_size {batch_size}: lower batch_size")
        self._epoch, self._permutation = -1, rows

    def batch(self, step: int) -> np.ndarray:
        """Row indices of the global batch of this step."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = np.random.default_rng([self.seed, epoch])
            self._epoch, self._permutation = epoch, self.rows[generator.permutation(len(self.rows))]
        return self._permutation[position * self.batch_size : (position + 1) * self.batch_size]


def training_rows(data: Prepared) -> np.ndarray:
    """Images of the train split that have at least one section."""
    some = np.logical_or.reduce([data.has(section) for section in SECTIONS])
    rows = data.rows("train")
    kept = rows[some[rows]]
    if not len(kept):
        raise UserError(f"{data.root}: no image of the train split has findings or impression text")
    return kept


class Reader:
    """Batches of a prepared folder and its text embeddings, by row index; pinned where a GPU will take them.

    A batch's ``findings`` and ``impression`` are what these branches learn from, whichever text that is.
    """

    def __init__(
        self,
        data: Prepared,
        texts: Mapping[str, TextRows | np.ndarray],
        *,
        branches: Texts = "sections",
        pin: bool = False,
    ) -> None:
        self._images, self._pin = data.images, pin
        self._texts = [texts[source] for source in SOURCES[branches]]
        self._has = [data.has(source) for source in SOURCES[branches]]
        self.image_ids = data.table["image_id"].to_numpy()

    def __call__(self, rows: np.ndarray) -> PretrainBatch:
        order = np.argsort(rows)  # ascending reads of the memory map
        images = torch.empty((len(rows), *self._images.shape[1:]), dtype=torch.uint8, pin_memory=self._pin)
        images.numpy()[order] = self._images[rows[order]]
        findings, impression = (self._tensor(text[rows].astype(np.float32)) for text in self._texts)
        has_findings, has_impression = (self._tensor(has[rows]) for has in self._has)
        return PretrainBatch(
            images=images,
            findings=findings,
            impression=impression,
            has_findings=has_findings,
            has_impression=has_impression,
        )

    def _tensor(self, values: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(values)
        return tensor.pin_memory() if self._pin else tensor


class LabelReader(Reader):
    """A batch has ``labels`` too, float32 (batch, classes), NaN where unknown."""

    def __init__(
        self,
        data: Prepared,
        texts: Mapping[str, TextRows | np.ndarray],
        *,
        branches: Texts = "sections",
        pin: bool = False,
    ) -> None:
        super().__init__(data, texts, branches=branches, pin=pin)
        self._labels = data.labels

    def __call__(self, rows: np.ndarray) -> PretrainBatch:
        return {**super().__call__(rows), "labels": self._tensor(self._labels[rows])}


def warm_up(path: Path) -> Thread | None:
    """Read a file once from end to end in the background, so that reads here and there then find it in memory.

    Sequential reading is what disks are good at. None where the file would take over half of this machine's memory.
    """
    if path.stat().st_size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2:
        return None

    def read() -> None:
        block = bytearray(2**24)
        with path.open("rb", buffering=0) as file:
            while file.readinto(block):
                pass

    thread = Thread(target=read, daemon=True)
    thread.start()
    return thread


def read_ahead(reader: Reader, batches: Iterator[np.ndarray], *, depth: int = 2) -> Iterator[PretrainBatch]:
    """Yield the batches in order, the next ``depth`` being read meanwhile by one thread."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(reader, rows) for rows in islice(batches, depth)]
        while waiting:
            batch = waiting.pop(0).result()
            waiting += [pool.submit(reader, rows) for rows in islice(batches, 1)]
            yield batch
