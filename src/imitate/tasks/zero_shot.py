"""Zero-shot classification: a radiograph against what a report would say with and without each finding."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.embeddings import embed_images, embed_texts
from imitate.inference.encoder import Encoder, Vectors, of_branch
from imitate.inference.prompts import BUILT_IN, Prompts, plain, read_prompts
from imitate.statistics import metrics
from imitate.tasks.base import Budget, Predictions, Task
from imitate.tasks.options import ZeroShotOptions

log = logging.getLogger(__name__)


class ZeroShot(ZeroShotOptions, Task):
    """The score of a class is cos(image, its positive prompts) - cos(image, its negative ones).

    The prompts of one side are an ensemble: the mean of their unit vectors. Where the classes exclude each other, the
    accuracy of the highest score comes with it. ``oracle-max-f1`` chooses its threshold on the test images themselves.
    A class of which the split knows no label takes no part.
    """

    name: ClassVar[str] = "zero-shot"
    title: ClassVar[str] = "Zero-shot classification"
    needs: ClassVar[frozenset[str]] = frozenset({"labels", "text"})
    trains: ClassVar[bool] = False
    headline: ClassVar[str] = "auroc"
    beside: ClassVar[tuple[str, ...]] = ("average-precision", "accuracy")
    curves: ClassVar[bool] = True
    names: ClassVar[Mapping[str, str]] = {"oracle-max-f1": "F1 at the best threshold (oracle)"}

    def predict(self, encoder: Encoder, data: Corpus, budget: Budget) -> Predictions:
        data = self.selected(data)
        rows = data.rows(self.split)
        labels = dict(zip(data.classes, data.labels[rows].T, strict=True))
        prompts = {
            label: each
            for label, each in class_prompts(data, self.prompts).items()
            if not np.isnan(labels[label]).all()
        }
        if not prompts:
            raise UserError(f"{data.root} knows no label in split {self.split!r}: choose another split")
        images = embed_images(encoder, data, rows, budget.device)
        directions = torch.stack(
            [
                _ensemble(encoder, each.positive, budget) - _ensemble(encoder, each.negative, budget)
                for each in prompts.values()
            ]
        )
        score = torch.stack([branch @ directions.T for branch in of_branch(images, self.branch)]).mean(0)
        table = data.table.iloc[rows]
        return {
            "target": np.stack([labels[label] for label in prompts], axis=1),
            "score": score.cpu().numpy(),
            "classes": np.array(list(prompts)),
            **{key: table[key].to_numpy().astype(np.str_) for key in ("image_id", "patient")},
        }

    def measure(self, predictions: Predictions, rows: np.ndarray | None = None) -> dict[str, float]:
        counts = metrics.one_sample(rows, len(predictions["target"]))
        return {name: float(figure[0]) for name, figure in self.resample(predictions, counts).items()}

    def resample(self, predictions: Predictions, counts: np.ndarray) -> dict[str, np.ndarray]:
        target, score = predictions["target"], predictions["score"]
        figures: dict[str, np.ndarray] = {}
        for name, metric in METRICS.items():
            figures |= metrics.per_class(
                name, metric, target, score, predictions["classes"].tolist(), counts, least=self.macro_least
            )
        if metrics.exclusive(target):
            figures["accuracy"] = metrics.accuracy(target, score, counts)
        return figures

    def chance(self, predictions: Predictions) -> dict[str, float]:
        """Of a constant score."""
        return self.measure({**predictions, "score": np.zeros_like(predictions["score"])})


METRICS = {"auroc": metrics.auroc, "average-precision": metrics.average_precision, "oracle-max-f1": metrics.max_f1}


def class_prompts(data: Corpus, path: Path | None) -> dict[str, Prompts]:
    """The prompts of those classes of the data that have any; a class without is left out with a warning.

    UserError where none has, or a file holds no valid prompts.
    """
    found: dict[str, Prompts] = {}
    own = data.meta["traits"].get("prompts") if "traits" in data.meta else data.meta.get("source")
    for file in [path] if path else [BUILT_IN / f"{own}.yaml", BUILT_IN / "findings.yaml"]:
        if path or file.is_file():
            found = {**read_prompts(file), **found}
    chosen = {label: found[plain(label)] for label in data.classes if plain(label) in found}
    missing = [label for label in data.classes if label not in chosen]
    where = path or "the built-in prompts"
    if not chosen:
        raise UserError(f"{where}: no prompts for any of {', '.join(missing)}: give a YAML file as --prompts FILE")
    if missing:
        log.warning("%s: no prompts for %s: left out", where, ", ".join(missing))
    return chosen


def _ensemble(encoder: Encoder, texts: tuple[str, ...], budget: Budget) -> Tensor:
    """The unit vector in the middle of the texts' unit vectors."""
    vectors: Vectors = embed_texts(encoder, list(texts), budget.device)
    return normalize(vectors.mean(0), dim=0)
