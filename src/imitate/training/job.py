"""A run in progress."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from lightning_fabric import Fabric
from torch import Tensor, nn

from imitate.config import Recipe
from imitate.data.sampler import BatchReader, BatchSampler
from imitate.models.imitate import Imitate
from imitate.models.text import save_text_encoder
from imitate.models.text_tower import TextTower
from imitate.names import Tracker
from imitate.training.step import Step
from imitate.training.warm_start import Start
from imitate.training.watching import Means

Validate = Callable[[Imitate], dict[str, float]]
"""Metrics of the model on held-out samples; the first one decides which validation is the best."""


@dataclass
class Job:
    """A run in progress."""

    fabric: Fabric
    recipe: Recipe
    model: Imitate
    order: BatchSampler
    reader: BatchReader
    folder: Path
    validate: Validate | None = None
    held_out: Int[np.ndarray, " _"] = field(
        default_factory=lambda: np.zeros(0, np.int64)
    )  # rows of the validation loss
    facts: dict[str, Any] = field(default_factory=dict)  # of this start, to be written down
    start: Start | None = None  # the weights that the run starts from, where it starts from others than timm's
    log: tuple[Tracker, ...] = ("tensorboard",)  # where the curves go beside metrics.jsonl
    tower: TextTower | None = None  # where the text encoder learns; the batches then hold word pieces
    step: int = 0
    saved: int | None = None  # step of the last checkpoint
    means: Means = field(default_factory=Means)  # of the steps since the last row of metrics
    pretraining: nn.Module = field(default_factory=nn.Module)  # the objective's step, which holds the model
    signal: int = 0  # the one that asked to stop
    broken: Tensor = field(default_factory=lambda: torch.tensor(-1))  # first step with a non-finite loss or gradient

    @property
    def total(self) -> int:
        return self.recipe.training.steps or self.recipe.training.epochs * self.order.steps_per_epoch

    def is_every(self, steps: int | None) -> bool:
        """Whether this step is one of every so many; None: of none."""
        return steps is not None and self.step % steps == 0

    def save(self, folder: Path) -> None:
        """The model with the temperature that was learned, and its text encoder where that has learned."""
        learned = self.pretraining.temperature if isinstance(self.pretraining, Step) else None
        if isinstance(learned, Tensor):
            self.model.config = self.model.config.model_copy(update={"temperature": learned.item()})
        self.model.save(folder)
        if self.tower:
            save_text_encoder(self.tower.encoder(), folder / "text")

    @property
    def validates(self) -> bool:
        """Whether this step ends with a validation."""
        every = self.recipe.training.validate_every or self.order.steps_per_epoch
        return self.step > 0 and (self.is_every(every) or self.step == self.total)
