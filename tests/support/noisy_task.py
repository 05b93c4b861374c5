"""A task whose metrics are known, and a loader that makes any name an encoder."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from folders import write_shards

from imitate.config import Preprocessing
from imitate.data.corpus import Corpus
from imitate.inference.encoder import Encoder
from imitate.models.image import ImageEncoder
from imitate.statistics import metrics
from imitate.tasks import TASKS
from imitate.tasks.base import Budget, Predictions, Task

predicted: list[int] = []  # the seeds of the fits, in their order


class Noisy(Task):
    """The target and noise; the model's name says how much, the seed draws it."""

    name: ClassVar[str] = "linear-classification"
    title: ClassVar[str] = "Noise"
    headline: ClassVar[str] = "auroc"
    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    classes: tuple[str, ...] = ("Edema", "Mass")
    split: str = "test"
    steps: int = 0

    def predict(self, encoder: Encoder, data: Corpus, budget: Budget) -> Predictions:
        rows = data.rows(self.split)
        predicted.append(budget.seed)
        noise = np.random.default_rng(budget.seed).normal(0, float(encoder.name), (len(rows), 2))
        table = data.table.iloc[rows]
        return {
            "target": data.labels[rows],
            "score": data.labels[rows] + noise,
            "classes": np.array(self.classes),
            "image_id": table["image_id"].to_numpy().astype(np.str_),
            "patient": table["patient"].to_numpy().astype(np.str_),
        }

    def measure(self, predictions: Predictions, rows: np.ndarray | None = None) -> dict[str, float]:
        counts = metrics.one_sample(rows, len(predictions["patient"]))
        target, score = predictions["target"], predictions["score"]
        found = metrics.per_class("auroc", metrics.auroc, target, score, self.classes, counts)
        return {name: float(values[0]) for name, values in found.items()}

    def chance(self, predictions: Predictions) -> dict[str, float]:
        return {"auroc": 0.5}


def write_data(path: Path, *, n: int = 120, classes: tuple[str, ...] = ("Edema", "Mass"), draw: int = 0) -> Path:
    """20 images that train, the others test; two images a patient."""
    labels = np.random.default_rng(draw).integers(0, 2, (n, len(classes))).astype(np.float32)
    table = pd.DataFrame({"image_id": [f"i{i}" for i in range(n)], "patient": [f"p{i // 2}" for i in range(n)]})
    table["split"] = np.where(np.arange(n) < 20, "train", "test")
    table = table.assign(labels=list(labels), study=table["patient"])
    meta: dict[str, Any] = {"source": "table", "fingerprint": f"abc{draw or ''}", "classes": list(classes)}
    return write_shards(path, table, np.zeros((n, 8, 8), dtype=np.uint8), **meta)


def install(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Noisy in place of linear-classification; what the loader was called with, and what its encoders are to be."""
    encoder = ImageEncoder("resnet10t")
    seen: dict[str, Any] = {"size": 8, "seeds": [], "weights": ""}
    predicted.clear()

    def load_encoder(model: str, *, like: str | None, data: Corpus, seed: int, cache: Path | None) -> Encoder:
        seen["seeds"].append(seed)
        found = Encoder(model, encoder, Preprocessing(prepared_size=seen["size"], image_size=8))
        vars(found)["identity"] = f"weights of {model}{seen['weights']}"
        return found

    monkeypatch.setattr("imitate.tasks.measuring.load_encoder", load_encoder)
    fake = ModuleType("imitate.tasks.noisy")
    fake.Noisy = Noisy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "imitate.tasks.noisy", fake)
    monkeypatch.setitem(TASKS, "linear-classification", "noisy.Noisy")
    return seen
