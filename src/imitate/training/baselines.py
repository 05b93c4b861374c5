"""One pre-training step of the baselines, on the views, batches and schedule of IMITATE's (losses/baselines.py)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from imitate.config import BaselineOptions, CaptionOptions, SimclrOptions
from imitate.distributed import sum_over_processes
from imitate.losses.baselines import alignment, info_nce_part, nt_xent_part, orthogonality
from imitate.losses.contrastive import Targets, identical_texts, soft_cross_entropy, soft_targets, text_numbers
from imitate.losses.sigmoid import sigmoid_loss
from imitate.losses.similarities import Rows, similarities
from imitate.models.imitate import Imitate
from imitate.models.types import PretrainBatch
from imitate.training.draws import StepDraw
from imitate.training.step import Own, Step, full_precision, parameter_dtype


class Seen(NamedTuple):
    """One view of own samples."""

    pooled: Tensor
    embedding: Rows


class Captions(NamedTuple):
    """The reports, and those of the (global) batch before their projection, with which of them are present."""

    text: Rows
    raw: Tensor
    present: Tensor


class Baseline(Step[Own]):
    """One image embedding, of the pooled feature, and one caption; each term is the sum over the views."""

    def forward(self, batch: PretrainBatch, draw: StepDraw) -> dict[str, Float[Tensor, ""]]:
        pooled = [self._look(batch["images"], view, [], draw.side)[0] for view in draw.views]
        embedded = [self.model.impression_head(each) for each in pooled]
        caption, present = batch["report"].to(parameter_dtype(self.model)), batch["has_report"]
        text = self.model.encode_text(caption, present)
        with torch.autocast(batch["images"].device.type, enabled=False):
            every, *images = self._rows(text, *embedded)
            captions = Captions(every, *self._gathered(caption, present))
            parts = [self.part(Seen(*each), captions) for each in zip(full_precision(*pooled), images, strict=True)]
            terms = {name: torch.stack([each[name] for each in parts]).sum() for name in parts[0]}
            return self._whole(terms | self.between(images))

    def part(self, view: Seen, captions: Captions) -> dict[str, Tensor]:
        """Own samples' part of each term."""
        raise NotImplementedError

    def between(self, images: list[Rows]) -> dict[str, Tensor]:
        """The same of terms that compare the views with each other."""
        return {}


class Caption(Baseline[CaptionOptions]):
    """CLIP and, with another weight of the image-to-text direction, ConVIRT; with a term between the views, SLIP."""

    def __init__(
        self, model: Imitate, options: CaptionOptions, *, chunk: int | None = None, weight: float = 0.5
    ) -> None:
        super().__init__(model, options, chunk=chunk)
        self._weight = weight

    def part(self, view: Seen, captions: Captions) -> dict[str, Tensor]:
        own, present, tau = self.own_slice(view.embedding.own), captions.present, self.temperature
        if self.options.contrast == "softmax" and self.options.identical == "negative":
            loss = info_nce_part(view.embedding, captions.text, tau, present, self._weight, own)
            return {"caption": loss}
        if self.options.contrast == "sigmoid":
            numbers = None if self.options.identical == "negative" else text_numbers(captions.raw)
            loss = sigmoid_loss(view.embedding, captions.text, tau, self.bias, present, own, numbers=numbers)
            return {"caption": loss}
        alike = identical_texts(captions.raw, own) & (present[own].unsqueeze(1) & present.unsqueeze(0))
        is_right = self.options.identical == "positive"
        targets = Targets(normalised=True, positive=alike) if is_right else Targets(ignored=alike)
        wanted = soft_targets(None, 1.0, present, targets, own=own, dtype=captions.text.own.dtype)
        logits = similarities(view.embedding, captions.text, tau)
        return {"caption": soft_cross_entropy(logits, wanted, (self._weight, 1 - self._weight))}

    def between(self, images: list[Rows]) -> dict[str, Tensor]:
        if not self.options.visual_visual:
            return {}
        first, second = images
        loss = nt_xent_part(first, second, self.options.temperature_views, self.own_slice(first.own))
        return {"views": self.options.visual_visual * loss}


class Flag(Baseline[BaselineOptions]):
    """M-FLAG."""

    def part(self, view: Seen, captions: Captions) -> dict[str, Tensor]:
        present = captions.present
        own = present[self.own_slice(view.pooled)]
        aligned = alignment(view.embedding.own, captions.text.own, own, present.sum())
        if self._processes > 1:
            apart = orthogonality(view.pooled, self._processes, sum_over_processes)
        else:
            apart = orthogonality(view.pooled)
        return {"alignment": aligned, "orthogonality": apart / self._processes}


class Simclr(Baseline[SimclrOptions]):
    """Views alone; the text head is not trained."""

    def forward(self, batch: PretrainBatch, draw: StepDraw) -> dict[str, Float[Tensor, ""]]:
        embedded = [
            self.model.impression_head(self._look(batch["images"], view, [], draw.side)[0]) for view in draw.views
        ]
        with torch.autocast(batch["images"].device.type, enabled=False):
            first, second = self._rows(*embedded)
            tau = self.options.temperature_views
            return self._whole({"views": nt_xent_part(first, second, tau, self.own_slice(first.own))})
