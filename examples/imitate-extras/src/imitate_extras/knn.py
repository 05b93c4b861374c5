"""A task: the fraction of the nearest training images that have a class, as its score."""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch.nn.functional import normalize

from imitate.data.corpus import Corpus
from imitate.inference.encoder import Encoder
from imitate.inference.nearest import nearest
from imitate.statistics import metrics
from imitate.tasks.base import Budget, Predictions, Task
from imitate.tasks.features import pooled_features


class NearestNeighbours(Task):
    """AUROC of the fraction of positive images among the nearest ones by cosine, for each class and on average."""

    name: ClassVar[str] = "knn"
    title: ClassVar[str] = "Nearest neighbours"
    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    headline: ClassVar[str] = "auroc"

    split: str = "test"
    neighbours: int = Field(20, ge=1)

    def predict(self, encoder: Encoder, data: Corpus, budget: Budget) -> Predictions:
        """Nothing is trained: the fraction of training patients in ``budget`` is not used."""
        data = self.selected(data)
        train, test = data.rows("train"), data.rows(self.split)
        known, asked = (normalize(pooled_features(encoder, data, rows, budget)) for rows in (train, test))
        found = nearest(asked, known, min(self.neighbours, len(train)))
        score = torch.from_numpy(np.nan_to_num(data.labels[train]))[found].mean(1).numpy()
        table = data.table.iloc[test]
        about = {key: table[key].to_numpy().astype(np.str_) for key in ("image_id", "patient")}
        return {"target": data.labels[test], "score": score, "classes": np.array(data.classes), **about}

    def measure(self, predictions: Predictions, rows: np.ndarray | None = None) -> dict[str, float]:
        counts = metrics.one_sample(rows, len(predictions["target"]))
        target, score, classes = (predictions[key] for key in ("target", "score", "classes"))
        found = metrics.per_class("auroc", metrics.auroc, target, score, classes.tolist(), counts)
        return {name: float(value[0]) for name, value in found.items()}
