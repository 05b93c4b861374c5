"""The pooled features of a frozen encoder on the evaluation view, computed once."""

import hashlib
import os
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
    """``encoder.image(images).pooled`` in float32 on the CPU; read from the budget's cache folder where it is there.

    The cache knows an encoder by its weights and structure, so that another checkpoint never finds these features.
    """
    if budget.cache is None:
        return _encode(encoder, data, rows, budget.device)
    path = budget.cache / "features" / f"{_key(encoder, data, rows, budget.device)}.npy"
    if path.is_file():
        return torch.from_numpy(np.load(path, allow_pickle=False))
    features = _encode(encoder, data, rows, budget.device)
    _save(path, features.numpy())
    return features


def _encode(encoder: Encoder, data: Corpus, rows: np.ndarray, device: str) -> Tensor:
    features = torch.empty(0, 0)
    image = encoder.image.to(device)
    with frozen(image), torch.no_grad(), autocast(device):
        for i, chosen in enumerate(progress(batches(rows, BATCH), "encoding")):
            pooled = encoder.features(pixels(data, chosen, device)).pooled
            if not i:
                features = torch.empty(len(rows), pooled.shape[1])
            if not pooled.isfinite().all():
                raise UserError(f"{encoder.name} gives features that are not finite: take an earlier checkpoint")
            features[i * BATCH : i * BATCH + len(chosen)] = pooled
    return features


def _key(encoder: Encoder, data: Corpus, rows: np.ndarray, device: str) -> str:
    digest = hashlib.sha256(f"{data.meta['fingerprint']} {encoder.identity} {torch.device(device).type}".encode())
    digest.update(rows.astype(np.int64).tobytes())
    return digest.hexdigest()[:32]


def _save(path: Path, features: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # two evaluations may share the folder
    with partial.open("wb") as file:
        np.save(file, features, allow_pickle=False)
    partial.replace(path)
