"""Images and reports of a prepared folder as unit vectors of an encoder's joint space."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import track

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.base import BaseEncoder, Vectors
from imitate.names import Section

BATCH = 64
Text = Literal["findings", "impression", "report"]


def embed_images(encoder: BaseEncoder, data: Corpus, rows: np.ndarray, device: str) -> dict[str, np.ndarray]:
    """Unit vectors of these images, by section or as ``image``; computed on the device."""
    batches = (np.array(data.images[rows[start : start + BATCH]]) for start in range(0, len(rows), BATCH))
    return embed_pixels(encoder, batches, device, total=len(rows))


def embed_batch(encoder: BaseEncoder, batch: UInt8[np.ndarray, "_ size size"], device: str) -> dict[str, np.ndarray]:
    """The same of one batch of prepared images. UserError: a vector is not finite."""
    vectors = encoder.to(device).vectors_of_images(batch)
    for each in vectors.values():
        require_finite(each, encoder, "image embeddings")
    return vectors


def require_finite(found: np.ndarray, encoder: BaseEncoder, what: str) -> None:
    """UserError: ``found`` is not finite; compared, ranked or drawn it would look like a low value."""
    if not np.isfinite(found).all():
        raise UserError(f"{encoder.name} gives {what} that are not finite: its weights are unusable")


def embed_pixels(
    encoder: BaseEncoder, batches: Iterable[UInt8[np.ndarray, "_ size size"]], device: str, *, total: int | None = None
) -> dict[str, np.ndarray]:
    """The same of prepared images in batches of BATCH; ``total`` is their number, for the time left."""
    steps = None if total is None else math.ceil(total / BATCH)
    console = Console(stderr=True)
    parts = [
        embed_batch(encoder, batch, device)
        for batch in track(
            batches, "embedding images", steps, console=console, transient=True, disable=not console.is_terminal
        )
    ]
    if not parts:
        raise UserError("no images: give at least one")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def embed_texts(encoder: BaseEncoder, texts: list[str], device: str) -> Vectors:
    """Unit vectors; the caller knows that the encoder has text. UserError: a vector is not finite."""
    vectors = encoder.to(device).vectors_of_texts(texts)
    require_finite(vectors, encoder, "text embeddings")
    return vectors


def texts_of(encoder: BaseEncoder, sections: Sequence[Section]) -> list[Text]:
    """What these sections are read as: both of them, by a model of whole reports, as the whole report."""
    whole = len(sections) == 2 and encoder.whole_reports
    return ["report" if whole else section for section in sections]


def embed_reports(encoder: BaseEncoder, data: Corpus, text: Text, rows: np.ndarray, device: str) -> Vectors:
    """This text of these images' reports; a missing text has a zero row."""
    present = data.has(text)[rows]
    vectors = encoder.to(device).vectors_of_reports(data.text(text, rows[present]).tolist(), text)
    require_finite(vectors, encoder, "text embeddings")
    out = np.zeros((len(rows), vectors.shape[1]), vectors.dtype)
    out[present] = vectors
    return out
