"""The pooled features of a frozen encoder on the evaluation view, computed once."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import Encoder
from imitate.tasks.base import Budget
from imitate.tasks.fitting import autocast, batches, frozen, pixels, progress

BATCH = 128


def pooled_features(encoder: Encoder, data: Corpus, rows: np.ndarray, budget: Budget) -> Float[Tensor, "rows width"]:
    """``encoder.image(images).pooled`` in float32 on the CPU; what the budget's cache folder has is read from there.

    The cache knows an encoder by its weights and structure, so that another checkpoint never finds these features, and
    an image by its folder and name, so that every fraction and fold of a folder shares them.
    """
    if budget.cache is None:
        return _encode(encoder, data, rows, budget.device)
    folder = budget.cache / "features" / _key(encoder, data, budget.device)
    names = data.table["image_id"].to_numpy()[rows].astype(np.str_)
    found = _read(folder, names)
    if missing := [i for i, name in enumerate(names) if name not in found]:
        new = _encode(encoder, data, rows[missing], budget.device).numpy()
        _save(folder, names[missing], new)
        found |= dict(zip(names[missing], new, strict=True))
    return torch.from_numpy(np.stack([found[name] for name in names]))


def _read(folder: Path, names: np.ndarray) -> dict[str, np.ndarray]:
    """Those of the images that are there."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*.names.npy")):
        stored = np.load(path, allow_pickle=False)
        wanted = np.flatnonzero(np.isin(stored, names))
        features = np.load(path.with_name(path.name.replace(".names", "")), mmap_mode="r", allow_pickle=False)
        found |= dict(zip(stored[wanted], features[wanted], strict=True))
    return found


def _encode(encoder: Encoder, data: Corpus, rows: np.ndarray, device: str) -> Tensor:
    features = torch.empty(0, 0)
    image = encoder.image.to(device)
    with frozen(image), torch.no_grad(), autocast(device):
        for i, chosen in enumerate(progress(batches(rows, BATCH), "encoding")):
            pooled = encoder.features(pixels(data, chosen, device)).pooled
            if not i:
                features = torch.empty(len(rows), pooled.shape[1])
            if not pooled.isfinite().all():
                raise UserError(f"{encoder.name} gives features that are not finite: use an earlier checkpoint")
            features[i * BATCH : i * BATCH + len(chosen)] = pooled
    return features


def _key(encoder: Encoder, data: Corpus, device: str) -> str:
    whole = re.sub("^fold[0-9]+-", "", data.fingerprint)  # the images are the same
    return hashlib.sha256(f"{whole} {encoder.identity} {torch.device(device).type}".encode()).hexdigest()[:32]


def _save(folder: Path, names: np.ndarray, features: np.ndarray) -> None:
    """The features first: names without them would be taken for whole."""
    folder.mkdir(parents=True, exist_ok=True)
    piece = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    for ending, array in ((".npy", features), (".names.npy", names)):
        path = folder / f"{piece}{ending}"
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # two evaluations may share the folder
        with partial.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        partial.replace(path)
