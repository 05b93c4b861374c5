"""Prepared images whose classes are bright squares, and an encoder that sees them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from imitate.config import ImitateConfig
from imitate.data.corpus import Corpus
from imitate.inference.encoder import Encoder
from imitate.models.image import ImageEncoder
from imitate.models.types import ImageFeatures

CONFIG = ImitateConfig(prepared_size=40, image_size=32)
SPLITS = {"train": 120, "val": 40, "test": 60}
NAMES = ("Edema", "Mass", "Hernia")


class Blocks(nn.Module):
    """The mean gray of each cell of a 4 x 4 grid."""

    width = 16

    def forward(self, images: Tensor) -> ImageFeatures:
        return ImageFeatures([], adaptive_avg_pool2d(images[:, :1], 4).flatten(1))


BLOCKS = Encoder("blocks", Blocks(), CONFIG)


def prepared(labels: np.ndarray, *, contrast: float = 200, source: str = "table", size: int = 40) -> Corpus:
    """Noise, with a bright square of its own for each class that an image has; NaN shows as no square."""
    images = np.random.default_rng(0).normal(20, 4, (len(labels), size, size))
    cell, margin = size // 5, size // 10
    for i in range(labels.shape[1]):
        place = slice(margin + i * cell, margin + (i + 1) * cell)
        images[:, place, place] += contrast * np.nan_to_num(labels[:, i, None, None])
    table = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(len(labels))],
            "patient": [f"p{i // 2}" for i in range(len(labels))],
            "split": np.repeat(list(SPLITS), list(SPLITS.values()))[: len(labels)],
            "labels": list(labels.astype(np.float32)),
        }
    )
    meta: dict[str, Any] = {"classes": list(NAMES[: labels.shape[1]]), "fingerprint": "f" * 64, "source": source}
    return Corpus(Path("folder"), meta, table, images.clip(0, 255).astype(np.uint8), None)


def independent(classes: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2, (sum(SPLITS.values()), classes)).astype(float)


def one_of_three() -> np.ndarray:
    return np.eye(3)[np.random.default_rng(2).integers(0, 3, sum(SPLITS.values()))]


def resnet() -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Encoder("tiny", ImageEncoder("test_resnet"), CONFIG)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())
