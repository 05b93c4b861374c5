"""Text embeddings of a prepared folder, computed once: the text encoder is frozen and text is never augmented."""

import json
import logging
import os
from pathlib import Path

import numpy as np

from imitate.data.corpus import Corpus
from imitate.data.stacked import Stacked
from imitate.errors import UserError
from imitate.models.types import TextEncoder
from imitate.names import REPORT, SECTIONS

log = logging.getLogger(__name__)
TEXTS = (*SECTIONS, REPORT)


def corpus(data: Corpus, *, split: str = "train") -> list[str]:
    """Every section of the split as one text; what an encoder that needs fitting is fitted on."""
    rows = np.flatnonzero(data.table["split"].to_numpy() == split)
    texts = [text for section in SECTIONS for text in data.text(section, rows).dropna()]
    if not texts:
        raise UserError(f"{data.root} has no report text in split {split!r}: the source brought none")
    return texts


def text_embeddings(data: Corpus, encoder: TextEncoder) -> dict[str, np.ndarray | Stacked]:
    """Section or ``report`` -> float16 (N, W) on disk, zero rows where it is missing.

    Written to text/<encoder>/ of each folder at first use; two runs that do so at once do not disturb one another.
    """
    if data.parts:
        ends = np.cumsum([len(part) for part in data.parts], dtype=np.int64)
        parts = [text_embeddings(part, encoder) for part in data.parts]
        return {
            text: Stacked([part[text] for part in parts].__getitem__, ends, shape=(encoder.width,), dtype=np.float16)
            for text in TEXTS
        }
    folder = embeddings_folder(data, encoder.name)
    expected = {"encoder": encoder.name, "width": encoder.width, "data": data.meta["fingerprint"]}
    if not _complete(folder, expected):
        log.info("encoding the reports with %s", encoder.name)
        _write(folder, data, encoder)
        part = folder / f"meta.json.{os.getpid()}"
        part.write_text(json.dumps(expected), encoding="utf-8")
        part.replace(folder / "meta.json")
    return {text: np.load(folder / f"{text}.npy", mmap_mode="r", allow_pickle=False) for text in TEXTS}


def embeddings_folder(data: Corpus, encoder: str) -> Path:
    """Where the embeddings of these rows lie; other selections of one folder have a place each."""
    return data.root / "text" / (f"{encoder}-{data.variant}" if data.variant else encoder)


def _complete(folder: Path, expected: dict[str, object]) -> bool:
    meta = folder / "meta.json"
    if not all((folder / f"{text}.npy").is_file() for text in TEXTS):
        return False
    return meta.is_file() and json.loads(meta.read_text(encoding="utf-8")) == expected


def _write(folder: Path, data: Corpus, encoder: TextEncoder) -> None:
    """Each distinct text is encoded once."""
    columns = [data.text(name) for name in TEXTS]
    distinct = sorted({text for column in columns for text in column.dropna()})
    position = {text: i for i, text in enumerate(distinct)}
    rows = encoder.encode(distinct).numpy() if distinct else np.zeros((0, encoder.width), np.float32)
    limit = np.finfo(np.float16).max
    rows = np.concatenate([rows.clip(-limit, limit), np.zeros((1, encoder.width))]).astype(np.float16)
    folder.mkdir(parents=True, exist_ok=True)
    for name, column in zip(TEXTS, columns, strict=True):
        index = [position[text] if isinstance(text, str) else -1 for text in column]
        part = folder / f"{name}.{os.getpid()}.npy"
        np.save(part, rows[np.asarray(index, dtype=np.int64)], allow_pickle=False)
        part.replace(folder / f"{name}.npy")
