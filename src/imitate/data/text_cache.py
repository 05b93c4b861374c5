"""Text embeddings, computed once where the text encoder is frozen, as text is never augmented; else word pieces.

A cache is a folder with a folder for each text encoder, named by the digest of its weights and tokenizer. A block in it
is two files, the digests of up to 65,536 texts and their embeddings (float16) or word pieces (int32), so that a text is
found again whatever data it comes from, and an interrupted run continues at the first block that is absent.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from jaxtyping import Int, Shaped
from rich.console import Console
from rich.progress import track

from imitate.data.corpus import Corpus
from imitate.data.sentences import split_sentences
from imitate.errors import UserError
from imitate.models.lengths import number_cut, warn_of_cut
from imitate.models.text import placed
from imitate.models.types import TextEncoder
from imitate.names import REPORT, SECTIONS, SENTENCES

log = logging.getLogger(__name__)
TEXTS = (*SECTIONS, REPORT)
BLOCK = 2**16  # texts that are computed, and kept, together
AT_ONCE = 2**12  # texts that the encoder is given in one call
KEY = "S32"  # half a SHA-256, in hexadecimal


def corpus(data: Corpus, *, split: str = "train") -> list[str]:
    """Every section of the split as one text; what an encoder that needs fitting is fitted on."""
    rows = np.flatnonzero(data.table["split"].to_numpy() == split)
    texts = [text for section in SECTIONS for text in data.text(section, rows).dropna()]
    if not texts:
        raise UserError(f"{data.root} has no report text in split {split!r}: the source has none")
    return texts


def text_embeddings(
    data: Corpus, cache: "TextCache", texts: Iterable[str] = TEXTS, *, device: str = "cpu"
) -> dict[str, "TextRows"]:
    """Section or ``report`` -> the embeddings of all images' texts, zero rows where it is missing."""
    fill(data, cache, texts, device=device)
    return text_rows(data, cache, texts)


def fill(
    data: Corpus, cache: "TextCache", texts: Iterable[str], *, part: int = 0, parts: int = 1, device: str = "cpu"
) -> None:
    """``cache.fill`` with these texts of all images; of several processes each computes its ``part``."""
    columns = [_sentences(data)[0] if name == SENTENCES else data.text(name) for name in dict.fromkeys(texts)]
    cache.fill((text for column in columns for text in column.dropna()), part=part, parts=parts, device=device)


def text_rows(data: Corpus, cache: "TextCache", texts: Iterable[str] = TEXTS) -> dict[str, "TextRows"]:
    """Section or ``report`` -> the embeddings of all images' texts, which ``fill`` was given."""
    return {name: cache.rows(data.text(name)) for name in dict.fromkeys(texts)}


def sentence_rows(data: Corpus, cache: "TextCache", *, draw: int = 1) -> "SentenceRows":
    """The embeddings of all reports' sentences, which ``fill`` was given, ``draw`` of each report at a time."""
    sentences, counts = _sentences(data)
    return SentenceRows(cache.rows(sentences), counts, draw)


def _sentences(data: Corpus) -> tuple[pd.Series, Int[np.ndarray, " rows"]]:
    """The sentences of all reports, one after the other, and how many each has."""
    found = [split_sentences(text) if isinstance(text, str) else [] for text in data.text(REPORT)]
    flat = pd.Series([sentence for each in found for sentence in each], dtype="str")
    return flat, np.array([len(each) for each in found], np.int64)


class TextCache:
    """The embeddings of one encoder: read from folders, computed where they are missing, and kept in one of them.

    Nothing is written where no folder keeps them; they are then held in memory.
    """

    def __init__(self, encoder: TextEncoder, keep: Path | None = None, *, also: Sequence[Path] = ()) -> None:
        """``keep`` is read and written, ``also`` are only read."""
        self.encoder = encoder
        self._keep = None if keep is None else keep / encoder.identity
        self._folders = [folder / encoder.identity for folder in also if folder != keep]
        self._blocks: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # name: the texts' keys, their embeddings
        self.read()

    def read(self) -> None:
        """Find the blocks that have been written since; those of other processes, say."""
        for folder in [*self._folders, *([self._keep] if self._keep else [])]:
            for path in sorted(folder.glob("*.npy")) if folder.is_dir() else ():
                keys = path.with_suffix(".keys")
                if path.stem not in self._blocks and keys.is_file():
                    found = np.frombuffer(keys.read_bytes(), KEY)
                    self._blocks[path.stem] = found, np.load(path, mmap_mode="r", allow_pickle=False)
        every = np.concatenate([keys for keys, _ in self._blocks.values()] or [np.zeros(0, KEY)])
        self._order = np.argsort(every, kind="stable")
        self._keys = every[self._order]
        self._starts = np.cumsum([0, *(len(keys) for keys, _ in self._blocks.values())])

    def fill(self, texts: Iterable[str], *, part: int = 0, parts: int = 1, device: str = "cpu") -> None:
        """Compute what is missing of these texts; of several processes each ``part`` takes every ``parts``-th block.

        All parts must be given the same texts, and ``read`` when all have finished. The encoder is on the device while
        it computes.
        """
        by_key = {_key(text): text for text in texts}
        distinct = np.array(sorted(by_key), KEY)
        known = self._find(distinct) >= 0
        plan = [slice(start, start + BLOCK) for start in range(0, len(distinct), BLOCK)]
        todo = [distinct[block][~known[block]] for block in plan[part::parts]]
        todo = [keys for keys in todo if len(keys)]
        if todo:
            with placed(self.encoder, device):
                self._compute(todo, by_key)
            self.read()

    def _compute(self, todo: list[np.ndarray], by_key: dict[bytes, str]) -> None:
        """These blocks, each kept as soon as it is whole."""
        log.info("encoding the reports with %s: %d distinct texts", self.encoder.name, sum(map(len, todo)))
        pieces = [(keys, keys[start : start + AT_ONCE]) for keys in todo for start in range(0, len(keys), AT_ONCE)]
        computed: list[np.ndarray] = []
        cut = 0
        console = Console(stderr=True)
        for keys, piece in track(
            pieces, "encoding reports", console=console, transient=True, disable=not console.is_terminal
        ):
            texts = [by_key[key] for key in piece.tolist()]
            cut += number_cut(texts, self.encoder)
            computed.append(self._encode(texts))
            if sum(map(len, computed)) == len(keys):
                self._add(keys, np.concatenate(computed))
                computed = []
        warn_of_cut(log, self.encoder, cut, sum(map(len, todo)))

    def rows(self, texts: pd.Series) -> "TextRows":
        """The embeddings of texts that ``fill`` was given, zero rows where a text is null."""
        present = texts.notna().to_numpy()
        keys = np.array([_key(text) for text in texts[present]], KEY)
        positions = np.full(len(texts), -1, np.int64)
        positions[present] = self._find(keys)
        if (positions[present] < 0).any():
            raise KeyError("a text has no embedding: fill the cache first")
        return TextRows(positions, [vectors for _, vectors in self._blocks.values()], self._starts, self.encoder.width)

    def embed(self, texts: Sequence[str]) -> Shaped[np.ndarray, "texts width"]:
        """Of texts that ``fill`` was given, as they are stored, embeddings in float16."""
        return self.rows(pd.Series(texts, dtype="str"))[:]

    def _find(self, keys: np.ndarray) -> Int[np.ndarray, " texts"]:
        """Where each text stands, counted through all blocks; -1 where it is missing."""
        if not len(self._keys):
            return np.full(len(keys), -1, np.int64)
        at = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._order[at], -1)

    def _encode(self, texts: list[str]) -> np.ndarray:
        """Embeddings in float16; the numbers of word pieces as they are."""
        encoded, limit = self.encoder.encode(texts).numpy(), np.finfo(np.float16).max
        if not np.isfinite(encoded).all():
            raise UserError(f"{self.encoder.name} gives text embeddings that are not finite: its weights are unusable")
        return encoded if encoded.dtype == np.int32 else encoded.clip(-limit, limit).astype(np.float16)

    def _add(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        """The embeddings last, at once: where they are, the block is whole."""
        name = hashlib.sha256(keys.tobytes()).hexdigest()[:16]
        if self._keep is None:
            self._blocks[name] = keys, vectors
            return
        try:
            self._keep.mkdir(parents=True, exist_ok=True)
            _write(self._keep / f"{name}.keys", lambda file: file.write(keys.tobytes()))
            _write(self._keep / f"{name}.npy", lambda file: np.save(file, vectors, allow_pickle=False))
        except PermissionError as error:
            raise UserError(f"cannot write {self._keep.parent}: choose another --cache") from error


class TextRows:
    """An embedding for each image, which stays on disk until it is indexed: ``rows[indices]``."""

    def __init__(
        self, positions: Int[np.ndarray, " rows"], blocks: Sequence[np.ndarray], starts: np.ndarray, width: int
    ) -> None:
        self._positions, self._blocks, self._starts = positions, blocks, starts
        self.shape = (len(positions), width)
        self.dtype = blocks[0].dtype if blocks else np.dtype(np.float16)

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, rows: np.ndarray | slice) -> Shaped[np.ndarray, "rows width"]:
        """As they are stored, embeddings in float16; zero rows where there is no text."""
        positions = self._positions[rows]
        found = np.zeros((len(positions), self.shape[1]), self.dtype)
        block = np.searchsorted(self._starts, positions, side="right") - 1
        for number in np.unique(block[positions >= 0]):
            here = (block == number) & (positions >= 0)
            found[here] = self._blocks[number][positions[here] - self._starts[number]]
        return found


class SentenceRows:
    """The embeddings of some of each report's sentences, drawn anew at each step."""

    def __init__(self, sentences: TextRows, counts: Int[np.ndarray, " rows"], draw: int) -> None:
        """``counts`` of sentences that follow each other."""
        self._sentences, self._counts, self._draw = sentences, counts, draw
        self.has = counts > 0
        self._starts = np.cumsum(counts) - counts
        self.shape = (len(counts), sentences.shape[1])

    def drawn(self, rows: np.ndarray, seed: tuple[int, int]) -> Shaped[np.ndarray, "rows width"]:
        """The mean of ``draw`` different sentences of each row, or of all where it has fewer; zero where it has none.
        Of word pieces, those of the sentences one after the other.

        It depends on the seeds and the row alone, not on the rows beside it.
        """
        pieces = self._sentences.dtype == np.int32
        found = np.zeros((len(rows), self.shape[1]), np.int32 if pieces else np.float32)
        for place, row in enumerate(rows.tolist()):
            if count := int(self._counts[row]):
                generator = np.random.default_rng([*seed, row])
                chosen = generator.choice(count, min(self._draw, count), replace=False)
                drawn = self._sentences[self._starts[row] + np.sort(chosen)]
                found[place] = _joined(drawn) if pieces else drawn.astype(np.float32).mean(0)
        return found


def _joined(pieces: Int[np.ndarray, "texts width"]) -> Int[np.ndarray, " width"]:
    """The word pieces of several texts one after the other, as many as there is room for, then zeros."""
    kept = pieces[pieces > 0][: pieces.shape[1]]
    return np.pad(kept, (0, pieces.shape[1] - len(kept)))


def _write(path: Path, content: Callable[[BinaryIO], object]) -> None:
    """Whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        content(file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32].encode()
