"""Images and texts as unit vectors of a model's joint space."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn.functional import normalize

from imitate.data.augment import evaluation_view
from imitate.data.prepared import Prepared
from imitate.data.text_cache import embeddings_folder
from imitate.errors import UserError
from imitate.inference.encoder import Subject
from imitate.names import Section

BATCH = 64
Text = Literal["findings", "impression", "report"]
Vectors = Float[Tensor, "rows joint"]


class ImageVectors(NamedTuple):
    """Of each image, what answers to the findings and what answers to the impression."""

    findings: Vectors
    impression: Vectors


def embed_images(subject: Subject, data: Prepared, rows: np.ndarray, device: str) -> ImageVectors:
    """Both branches' embeddings of these images, in the evaluation view, on the device."""
    batches = (np.array(data.images[rows[start : start + BATCH]]) for start in range(0, len(rows), BATCH))
    return embed_pixels(subject, batches, device, total=len(rows))


@torch.inference_mode()
def embed_pixels(
    subject: Subject, batches: Iterable[UInt8[np.ndarray, "_ size size"]], device: str, *, total: int | None = None
) -> ImageVectors:
    """The same of prepared images in batches of BATCH; ``total`` is their number, for the time left."""
    model = _ready(subject, device)
    steps = None if total is None else math.ceil(total / BATCH)
    console = Console(stderr=True)
    parts = []
    for batch in track(
        batches, "embedding images", steps, console=console, transient=True, disable=not console.is_terminal
    ):
        embedding = model.encode_image(evaluation_view(torch.from_numpy(batch).to(device), subject.config))
        branches = (normalize(embedding.findings), normalize(embedding.impression))
        parts.append(branches[::-1] if subject.config.texts == "swapped" else branches)
    if not parts:
        raise UserError("no images: give at least one")
    vectors = ImageVectors(*(torch.cat(branch) for branch in zip(*parts, strict=True)))
    if not all(branch.isfinite().all() for branch in vectors):
        raise UserError(f"{subject.name} gives image embeddings that are not finite: its weights are unusable")
    return vectors


@torch.inference_mode()
def embed_texts(subject: Subject, texts: list[str], device: str) -> Vectors:
    """Encode and project, on the device."""
    assert subject.text is not None
    return project(subject, subject.text.encode(texts), device)


def texts_of(subject: Subject, sections: Sequence[Section]) -> list[Text]:
    """What these sections are read as: both of them, by a model of whole reports, as the whole report."""
    whole = len(sections) == 2 and subject.config.texts == "report"
    return ["report" if whole else section for section in sections]


@torch.inference_mode()
def embed_reports(subject: Subject, data: Prepared, text: Text, rows: np.ndarray, device: str) -> Vectors:
    """This text of these images' reports: from the prepared folder's embeddings where it has them, else encoded.

    A missing text has a zero row.
    """
    assert subject.text is not None
    present = data.has(text)[rows]
    folder = embeddings_folder(data, subject.text.name)
    if (folder / "meta.json").is_file() and (folder / f"{text}.npy").is_file():
        stored = np.load(folder / f"{text}.npy", mmap_mode="r", allow_pickle=False)
        vectors = project(subject, torch.from_numpy(stored[rows[present]].astype(np.float32)), device)
    else:
        vectors = embed_texts(subject, data.text(text, rows[present]).tolist(), device)
    out = vectors.new_zeros(len(rows), vectors.shape[1])
    out[torch.from_numpy(np.flatnonzero(present)).to(device)] = vectors
    return out


def project(subject: Subject, encoded: Float[Tensor, "texts width"], device: str) -> Vectors:
    return torch.cat([normalize(_ready(subject, device).encode_text(part.to(device))) for part in encoded.split(4096)])


def _ready(subject: Subject, device: str) -> Any:
    assert subject.model is not None
    return subject.model.eval().to(device)
