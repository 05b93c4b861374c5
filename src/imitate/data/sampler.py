"""Batches of a corpus: which rows, and the rows' pixels and text embeddings read ahead of the training step."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from imitate.data.corpus import Corpus
from imitate.data.text_cache import SentenceRows, TextRows
from imitate.errors import UserError
from imitate.models.types import PretrainBatch
from imitate.names import SECTIONS


class BatchSampler:
    """The rows of each step, from (seed, step) alone; the last incomplete batch of an epoch is excluded.

    An epoch has as many samples as there are rows. Without ``weights`` it is a permutation of all rows. With them each
    corpus supplies its weight's fraction of the samples (by largest remainder): permutations of its rows one after the
    other, across the epochs, so that none comes again before all the others came.
    """

    def __init__(
        self, rows: Sequence[Int[np.ndarray, " _"]], *, batch_size: int, seed: int, weights: Sequence[float] = ()
    ) -> None:
        """``rows`` and ``weights`` of each corpus."""
        self.rows, self.batch_size, self.seed = np.concatenate(list(rows)), batch_size, seed
        self.steps_per_epoch = len(self.rows) // batch_size
        if not self.steps_per_epoch:
            raise UserError(
                f"{len(self.rows)} training samples are fewer than batch_size {batch_size}: lower batch_size"
            )
        self._corpora = list(rows)
        self._quotas = quotas(weights, len(self.rows)) if weights and len(self._corpora) > 1 else None
        self._epoch, self._samples = -1, self.rows

    def batch(self, step: int) -> Int[np.ndarray, " batch"]:
        """Row indices of the global batch of this step."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = np.random.default_rng([self.seed, epoch])
            pool = self.rows if self._quotas is None else self._mixed(epoch)
            self._epoch, self._samples = epoch, pool[generator.permutation(len(pool))]
        return self._samples[position * self.batch_size : (position + 1) * self.batch_size]

    def _mixed(self, epoch: int) -> Int[np.ndarray, " samples"]:
        """The samples of an epoch, corpus by corpus."""
        assert self._quotas is not None
        parts = []
        for corpus, (rows, quota) in enumerate(zip(self._corpora, self._quotas, strict=True)):
            number, start = divmod(epoch * quota, len(rows))
            last = (epoch * quota + quota - 1) // len(rows)
            drawn = [
                rows[np.random.default_rng([self.seed, each, corpus + 1]).permutation(len(rows))]
                for each in range(number, last + 1)
            ]
            parts.append(np.concatenate([rows[:0], *drawn])[start : start + quota])
        return np.concatenate(parts)


def quotas(weights: Sequence[float], total: int) -> list[int]:
    """``total`` samples parted by weight; those of the largest remainders get one more."""
    exact = np.array(weights, dtype=np.float64) / sum(weights) * total
    counts = np.floor(exact).astype(np.int64)
    most = np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]
    counts[most] += 1
    return counts.tolist()


def training_rows(data: Corpus, *, textless: bool = False, every: bool = False) -> list[Int[np.ndarray, " _"]]:
    """The train split of each folder: images with a section; all of a folder without any, where ``textless`` may be.

    ``every`` takes all images, for an objective that reads no text.

    UserError: a folder that has none.
    """
    some = np.logical_or.reduce([data.has(section) for section in SECTIONS])
    training = data.table["split"].to_numpy() == "train"
    kept, start = [], 0
    for part in data.each:
        rows = np.arange(start, start + len(part))
        rows = rows[training[rows]]
        written = rows[some[rows]]
        if not len(rows):
            part.rows("train")  # UserError that says which splits there are
        if not len(written) and not (textless or every):
            raise UserError(
                f"{part.root}: no image of the train split has findings or impression text: prepare a source with "
                "reports, or set labels_as_text=true where it has labels"
            )
        kept.append(written if len(written) and not every else rows)
        start += len(part)
    return kept


Texts = TextRows | SentenceRows | np.ndarray


class BatchReader:
    """Batches of a corpus and its text embeddings, by row index; pinned where a GPU will take them.

    ``texts`` are the texts that a batch has, by name, and ``priors`` what the clinical prior is made of in their place.
    """

    def __init__(
        self,
        data: Corpus,
        texts: Mapping[str, Texts],
        *,
        priors: Mapping[str, Texts] | None = None,
        seed: int = 0,
        pin: bool = False,
    ) -> None:
        self._images, self._pin, self._seed = data.images, pin, seed
        self._texts = {**texts, **{f"prior_{name}": text for name, text in (priors or {}).items()}}
        self._has = {
            f"has_{name}": data.has(name) & text.has if isinstance(text, SentenceRows) else data.has(name)
            for name, text in texts.items()
        }
        self.image_ids = data.table["image_id"].array

    def __call__(self, rows: Int[np.ndarray, " batch"], step: int = 0) -> PretrainBatch:
        """These rows; ``step`` decides which of their sentences are drawn."""
        order = np.argsort(rows)  # ascending reads of the memory map
        images = torch.empty((len(rows), *self._images.shape[1:]), dtype=torch.uint8, pin_memory=self._pin)
        images.numpy()[order] = self._images[rows[order]]
        batch = {"images": images}
        for name, text in self._texts.items():
            found = text.drawn(rows, (self._seed, step)) if isinstance(text, SentenceRows) else text[rows]
            batch[name] = self._tensor(_as_input(found))
        batch |= {name: self._tensor(has[rows]) for name, has in self._has.items()}
        return cast(PretrainBatch, batch)

    def _tensor(self, values: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(values)
        return tensor.pin_memory() if self._pin else tensor


def _as_input(stored: np.ndarray) -> np.ndarray:
    """Embeddings in float32; word pieces, which zeros follow, as far as any text of the batch goes."""
    if stored.dtype != np.int32:
        return stored.astype(np.float32)
    longest = max(1, int((stored > 0).sum(axis=1).max()))
    return np.ascontiguousarray(stored[:, :longest])


class LabelReader(BatchReader):
    """A batch has ``labels`` too, float32 (batch, classes), NaN where unknown."""

    def __init__(self, data: Corpus, texts: Mapping[str, Texts], **settings: Any) -> None:
        super().__init__(data, texts, **settings)
        self._labels = data.labels

    def __call__(self, rows: np.ndarray, step: int = 0) -> PretrainBatch:
        return {**super().__call__(rows, step), "labels": self._tensor(self._labels[rows])}


def warm_up(paths: Sequence[Path]) -> Thread | None:
    """Read files once from end to end in the background, so that reads here and there then find them in memory.

    Sequential reading is what disks are good at. None where the files would take over half of this machine's memory,
    or the system does not say how much it has.
    """
    memory = _memory()
    if memory is None or sum(path.stat().st_size for path in paths) > memory // 2:
        return None

    def read() -> None:
        block = bytearray(2**24)
        for path in paths:
            with path.open("rb", buffering=0) as file:
                while file.readinto(block):
                    pass

    thread = Thread(target=read, daemon=True)
    thread.start()
    return thread


def _memory() -> int | None:
    """Bytes of this machine's memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, other systems not these names
        return None


def read_ahead(
    reader: Callable[[np.ndarray, int], PretrainBatch], batches: Iterator[tuple[np.ndarray, int]], *, depth: int = 2
) -> Iterator[PretrainBatch]:
    """Yield the batches, of rows and step, in order, the next ``depth`` being read meanwhile by one thread."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(reader, *each) for each in islice(batches, depth)]
        while waiting:
            batch = waiting.pop(0).result()
            waiting += [pool.submit(reader, *each) for each in islice(batches, 1)]
            yield batch
