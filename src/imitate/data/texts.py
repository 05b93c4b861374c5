"""Text embeddings of a prepared folder, computed once: the text encoder is frozen and text is never augmented."""

import json
import logging
from pathlib import Path

import numpy as np

from imitate.data.prepared import SECTIONS, Prepared
from imitate.types import TextEncoder, UserError

log = logging.getLogger(__name__)


def corpus(data: Prepared, *, split: str = "train") -> list[str]:
    """Every section of the split as one text; what an encoder that needs fitting is fitted on."""
    rows = data.table[data.table["split"] == split]
    texts = [text for section in SECTIONS for text in rows[section].dropna()]
    if not texts:
        raise UserError(f"{data.root} has no report text in split {split!r}: the source brought none")
    return texts


def text_embeddings(data: Prepared, encoder: TextEncoder) -> dict[str, np.ndarray]:
    """Section -> float16 (N, W) memory map, zero rows where it is missing; written to text/<encoder>/ at first use."""
    folder = data.root / "text" / encoder.name
    expected = {"encoder": encoder.name, "width": encoder.width, "data": data.meta["fingerprint"]}
    if not _complete(folder, expected):
        log.info("encoding the reports with %s", encoder.name)
        _write(folder, data, encoder)
        part = folder / "meta.json.part"
        part.write_text(json.dumps(expected), encoding="utf-8")
        part.replace(folder / "meta.json")
    return {s: np.load(folder / f"{s}.npy", mmap_mode="r", allow_pickle=False) for s in SECTIONS}


def _complete(folder: Path, expected: dict[str, object]) -> bool:
    meta = folder / "meta.json"
    return meta.is_file() and json.loads(meta.read_text(encoding="utf-8")) == expected


def _write(folder: Path, data: Prepared, encoder: TextEncoder) -> None:
    """Each distinct text is encoded once."""
    columns = [data.table[section] for section in SECTIONS]
    distinct = sorted({text for column in columns for text in column.dropna()})
    position = {text: i for i, text in enumerate(distinct)}
    rows = encoder.encode(distinct).numpy() if distinct else np.zeros((0, encoder.width), np.float32)
    limit = np.finfo(np.float16).max
    rows = np.concatenate([rows.clip(-limit, limit), np.zeros((1, encoder.width))]).astype(np.float16)
    folder.mkdir(parents=True, exist_ok=True)
    for section, column in zip(SECTIONS, columns, strict=True):
        index = [position[text] if isinstance(text, str) else -1 for text in column]
        np.save(folder / f"{section}.npy", rows[np.asarray(index, dtype=np.int64)], allow_pickle=False)
