"""Images and reports of a prepared folder as unit vectors of an encoder's joint space."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import track

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import Encoder, Vectors
from imitate.names import Section

BATCH = 64
Text = Literal["findings", "impression", "report"]


def embed_images(encoder: Encoder, data: Corpus, rows: np.ndarray, device: str) -> dict[str, Vectors]:
    """``encoder.embed_images`` of these images, on the device."""
    batches = (np.array(data.images[rows[start : start + BATCH]]) for start in range(0, len(rows), BATCH))
    return embed_pixels(encoder, batches, device, total=len(rows))


@torch.inference_mode()
def embed_batch(encoder: Encoder, batch: UInt8[np.ndarray, "_ size size"], device: str) -> dict[str, Vectors]:
    """The same of one batch of prepared images, by an encoder that is on the device already."""
    vectors = encoder.embed_images(torch.from_numpy(batch).to(device))
    if not all(each.isfinite().all() for each in vectors.values()):
        raise UserError(f"{encoder.name} gives image embeddings that are not finite: its weights are unusable")
    return vectors


def embed_pixels(
    encoder: Encoder, batches: Iterable[UInt8[np.ndarray, "_ size size"]], device: str, *, total: int | None = None
) -> dict[str, Vectors]:
    """The same of prepared images in batches of BATCH; ``total`` is their number, for the time left."""
    encoder.to(device)
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
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@torch.inference_mode()
def embed_texts(encoder: Encoder, texts: list[str], device: str) -> Vectors:
    """``encoder.embed_texts``, on the device; the caller knows that it has text."""
    vectors = encoder.to(device).embed_texts(texts)
    assert vectors is not None
    return vectors


def texts_of(encoder: Encoder, sections: Sequence[Section]) -> list[Text]:
    """What these sections are read as: both of them, by a model of whole reports, as the whole report."""
    whole = len(sections) == 2 and encoder.whole_reports
    return ["report" if whole else section for section in sections]


@torch.inference_mode()
def embed_reports(encoder: Encoder, data: Corpus, text: Text, rows: np.ndarray, device: str) -> Vectors:
    """This text of these images' reports; a missing text has a zero row."""
    present = data.has(text)[rows]
    vectors = encoder.to(device).embed_reports(data.text(text, rows[present]).tolist(), text)
    assert vectors is not None
    out = vectors.new_zeros(len(rows), vectors.shape[1])
    out[torch.from_numpy(np.flatnonzero(present)).to(device)] = vectors
    return out
