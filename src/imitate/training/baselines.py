"""One pre-training step of the baselines, on the views, batches and schedule of IMITATE's (losses/baselines.py)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from imitate.config import BaselineOptions, CaptionOptions, SimclrOptions
from imitate.distributed import sum_over_processes
from imitate.losses.baselines import alignment, info_nce_part, nt_xent_part, orthogonality
from imitate.losses.similarities import Rows
from imitate.models.imitate import Imitate
from imitate.models.types import PretrainBatch
from imitate.training.pretraining import Step, StepDraw, full_precision, parameter_dtype


class Seen(NamedTuple):
    """One view of own samples."""

    pooled: Tensor
    embedding: Rows


class Captions(NamedTuple):
    """The reports, and which of the (global) batch are present."""

    text: Rows
    present: Tensor


class Baseline(Step[BaselineOptions]):
    """One image embedding, of the pooled feature, and one caption; each term is the sum over the views."""

    def forward(self, batch: PretrainBatch, draw: StepDraw) -> dict[str, Float[Tensor, ""]]:
        pooled = [self._look(batch["images"], view, [])[0] for view in draw.views]
        embedded = [self.model.impression_head(each) for each in pooled]
        caption = batch["impression"].to(parameter_dtype(self.model))
        text = self.model.encode_text(caption, batch["has_impression"])
        with torch.autocast(batch["images"].device.type, enabled=False):
            every, *images = self._rows(text, *embedded)
            captions = Captions(every, self._gathered(batch["has_impression"]))
            parts = [self.part(Seen(*each), captions) for each in zip(full_precision(*pooled), images, strict=True)]
            return self._whole({name: torch.stack([each[name] for each in parts]).sum() for name in parts[0]})

    def part(self, view: Seen, captions: Captions) -> dict[str, Tensor]:
        """Own samples' part of each term."""
        raise NotImplementedError


class Caption(Baseline):
    """CLIP and, with another weight of the image-to-text direction, ConVIRT."""

    def __init__(
        self, model: Imitate, options: CaptionOptions, *, chunk: int | None = None, weight: float = 0.5
    ) -> None:
        super().__init__(model, options, chunk=chunk)
        self._temperature, self._weight = options.temperature_text, weight

    def part(self, view: Seen, captions: Captions) -> dict[str, Tensor]:
        own = self.own_slice(view.embedding.own)
        loss = info_nce_part(view.embedding, captions.text, self._temperature, captions.present, self._weight, own)
        return {"caption": loss}


class Flag(Baseline):
    """M-FLAG."""

    def part(self, view: Seen, captions: Captions) -> dict[str, Tensor]:
        present = captions.present
        own = present[self.own_slice(view.pooled)]
        aligned = alignment(view.embedding.own, captions.text.own, own, present.sum())
        apart = orthogonality(view.pooled, self._processes, sum_over_processes)
        return {"alignment": aligned, "orthogonality": apart / self._processes}


class Simclr(Baseline):
    """Views alone; the text head is not trained."""

    def __init__(self, model: Imitate, options: SimclrOptions, *, chunk: int | None = None) -> None:
        super().__init__(model, options, chunk=chunk)
        self._temperature = options.temperature_views

    def forward(self, batch: PretrainBatch, draw: StepDraw) -> dict[str, Float[Tensor, ""]]:
        embedded = [self.model.impression_head(self._look(batch["images"], view, [])[0]) for view in draw.views]
        with torch.autocast(batch["images"].device.type, enabled=False):
            first, second = self._rows(*embedded)
            return self._whole({"views": nt_xent_part(first, second, self._temperature, self.own_slice(first.own))})
