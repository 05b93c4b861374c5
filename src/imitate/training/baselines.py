"""One pre-training step of the baselines, on the views, batches and schedule of IMITATE's (losses/baselines.py)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from imitate.config import BaselineOptions, CaptionOptions, SimclrOptions
from imitate.data.augment import ViewDraw
from imitate.losses.baselines import alignment, info_nce, nt_xent, orthogonality
from imitate.models.imitate import Imitate
from imitate.models.types import PretrainBatch
from imitate.training.pretraining import Step, StepDraw, parameter_dtype


class Seen(NamedTuple):
    """One view over the (global) batch."""

    pooled: Tensor
    embedding: Tensor


class Baseline(Step[BaselineOptions]):
    """One image embedding, of the pooled feature, and one caption; each term is the sum over the views."""

    def forward(self, batch: PretrainBatch, draw: StepDraw) -> dict[str, Float[Tensor, ""]]:
        views = [self._see(batch, view) for view in draw.views]
        present = self._share(batch["has_impression"])
        caption = batch["impression"].to(parameter_dtype(self.model))
        text = self._share(self.model.encode_text(caption, batch["has_impression"]))
        with torch.autocast(batch["images"].device.type, enabled=False):
            terms = [self._terms_of(view, text, present) for view in views]
            return {name: torch.stack([each[name] for each in terms]).sum() for name in terms[0]}

    def _see(self, batch: PretrainBatch, view: ViewDraw) -> Seen:
        (pooled,) = self._look(batch["images"], view, [])
        return Seen(self._share(pooled), self._share(self.model.impression_head(pooled)))

    def _terms_of(self, view: Seen, text: Tensor, present: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError


class Caption(Baseline):
    """CLIP and, with another weight of the image-to-text direction, ConVIRT."""

    def __init__(
        self, model: Imitate, options: CaptionOptions, *, chunk: int | None = None, weight: float = 0.5
    ) -> None:
        super().__init__(model, options, chunk=chunk)
        self._temperature, self._weight = options.temperature_text, weight

    def _terms_of(self, view: Seen, text: Tensor, present: Tensor) -> dict[str, Tensor]:
        return {"caption": info_nce(view.embedding, text, self._temperature, present, self._weight)}


class Flag(Baseline):
    """M-FLAG."""

    def _terms_of(self, view: Seen, text: Tensor, present: Tensor) -> dict[str, Tensor]:
        aligned = alignment(view.embedding, text, present)
        return {"alignment": aligned, "orthogonality": orthogonality(view.pooled)}


class Simclr(Baseline):
    """Views alone; the text head is not trained."""

    def __init__(self, model: Imitate, options: SimclrOptions, *, chunk: int | None = None) -> None:
        super().__init__(model, options, chunk=chunk)
        self._temperature = options.temperature_views

    def forward(self, batch: PretrainBatch, draw: StepDraw) -> dict[str, Float[Tensor, ""]]:
        first, second = (self._see(batch, view).embedding for view in draw.views)
        with torch.autocast(batch["images"].device.type, enabled=False):
            return {"views": nt_xent(first, second, self._temperature)}
