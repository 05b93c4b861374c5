"""Supervised classification: fine-tuning of the whole encoder."""

import copy
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from imitate.data.augment import evaluation_view
from imitate.errors import Lacking
from imitate.inference.encoder import Encoder
from imitate.models.types import Images
from imitate.statistics import metrics
from imitate.tasks.augmentation import jittered_view, resized_view
from imitate.tasks.base import Budget
from imitate.tasks.classification import Classification, Logits, Problem, loss
from imitate.tasks.fitting import batches, fit, pixels, seeded
from imitate.tasks.options import FinetuneOptions


class FinetuneClassification(FinetuneOptions, Classification):
    """All weights of a copy of the encoder, deeper layers faster than shallow ones.

    The epoch counts that has the least validation loss, or with ``monitor`` the best macro AUROC on validation.
    """

    name: ClassVar[str] = "finetune-classification"
    title: ClassVar[str] = "Fine-tuned classification"
    version: ClassVar[int] = 2  # blocks of the encoder, not its tensors, have learning rates of their own

    def logits(self, encoder: Encoder, problem: Problem, budget: Budget) -> Logits:
        data, rows = problem.data, problem.rows
        if not list(encoder.image.parameters()):
            raise Lacking(f"{encoder.name} has no weights to fine-tune: give a network, or use a linear probe")
        target = problem.target.to(budget.device)
        with seeded(budget.seed):
            network = copy.deepcopy(encoder.image)
            model = Classifier(network, network.width, target.shape[1], std=self.head_std).to(budget.device)
        model.requires_grad_(True)
        view = resized_view if self.augmentation == "resized" else jittered_view

        def read(part: np.ndarray) -> Tensor:
            views = (
                evaluation_view(pixels(data, chosen, budget.device), encoder.preprocessing)
                for chosen in batches(part, self.batch_size)
            )
            return torch.cat([model(images) for images in views])

        def step(chosen: np.ndarray, generator: torch.Generator) -> Tensor:
            images = view(pixels(data, chosen, budget.device), encoder.preprocessing, generator)
            return loss(model(images), target[chosen], problem.exclusive)

        def validate() -> float | tuple[float, float]:
            found, known = read(rows.validation), target[rows.validation]
            by_loss = float(loss(found, known, problem.exclusive))
            return by_loss if self.monitor == "loss" else (-_macro_auroc(found, known), by_loss)

        fit(
            model, settings=self, budget=budget, rows=rows.train, step=step, validate=validate,
            encoder_rate=self.encoder_rate, clip=self.clip_gradient, period=self.period,
        )  # fmt: skip
        with torch.no_grad():  # in float32: bfloat16 has eight bits, which tie scores
            return Logits(read(rows.validation), read(rows.test))


def _macro_auroc(logits: Tensor, target: Tensor) -> float:
    """Over the classes that the validation images hold with both labels; NaN where there is none."""
    known, scores = target.cpu().numpy(), logits.float().cpu().numpy()
    each = [float(metrics.auroc(known[:, i], scores[:, i])[0]) for i in range(known.shape[1])]
    defined = [value for value in each if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


class Classifier(nn.Module):
    """Pooled features, normalised a sample, to logits; the head starts near zero, from weights of ``std``."""

    def __init__(self, encoder: nn.Module, width: int, classes: int, *, std: float = 0.02) -> None:
        super().__init__()
        self.encoder = encoder
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.head.weight, std=std)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Images) -> Float[Tensor, "batch classes"]:
        return self.head(self.norm(self.encoder(images).pooled))
