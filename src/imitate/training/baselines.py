"""One pre-training step of the baselines, on the views, batches and schedule of IMITATE's (losses/baselines.py)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from imitate.config import ObjectiveConfig
from imitate.data.augment import ViewDraw
from imitate.losses.baselines import CONVIRT_WEIGHT, alignment, info_nce, nt_xent, orthogonality
from imitate.models.imitate import Imitate
from imitate.models.types import PretrainBatch
from imitate.training.pretraining import Pretraining, StepDraw, parameter_dtype


class Seen(NamedTuple):
    """One view over the (global) batch."""

    pooled: Tensor
    embedding: Tensor


class Baseline(Pretraining):
    """One image embedding, of the pooled feature, and one caption; each term is the sum over the views."""

    def __init__(self, model: Imitate, objective: ObjectiveConfig, *, chunk: int | None = None) -> None:
        super().__init__(model, objective, chunk=chunk)
        if objective.name == "simclr":
            model.text_head.requires_grad_(False)

    def forward(self, batch: PretrainBatch, draw: StepDraw) -> dict[str, Float[Tensor, ""]]:
        views = [self._see(batch, view) for view in draw.views]
        present = self._share(batch["has_impression"])
        text = None if self.objective.name == "simclr" else self._read(batch)
        with torch.autocast(batch["images"].device.type, enabled=False):
            if text is None:
                return {"views": nt_xent(views[0].embedding, views[1].embedding, self.objective.temperature_views)}
            terms = [self._terms_of(view, text, present) for view in views]
            return {name: torch.stack([each[name] for each in terms]).sum() for name in terms[0]}

    def _see(self, batch: PretrainBatch, view: ViewDraw) -> Seen:
        (pooled,) = self._look(batch["images"], view, [])
        return Seen(self._share(pooled), self._share(self.model.impression_head(pooled)))

    def _read(self, batch: PretrainBatch) -> Tensor:
        caption = batch["impression"].to(parameter_dtype(self.model))
        return self._share(self.model.encode_text(caption, batch["has_impression"]))

    def _terms_of(self, view: Seen, text: Tensor, present: Tensor) -> dict[str, Tensor]:
        tau = self.objective.temperature_text
        if self.objective.name == "mflag":
            aligned = alignment(view.embedding, text, present)
            return {"alignment": aligned, "orthogonality": orthogonality(view.pooled)}
        weight = CONVIRT_WEIGHT if self.objective.name == "convirt" else 0.5
        return {"caption": info_nce(view.embedding, text, tau, present, weight)}


def training_module(model: Imitate, objective: ObjectiveConfig, *, chunk: int | None = None) -> Pretraining:
    """The step of this objective."""
    return (Pretraining if objective.name == "imitate" else Baseline)(model, objective, chunk=chunk)
