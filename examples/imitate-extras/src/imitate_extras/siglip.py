"""An objective: the sigmoid loss of SigLIP (Zhai et al., ICCV 2023, equation 1) over pairs of image and report."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imitate.config import BaselineOptions
from imitate.models.imitate import Imitate
from imitate.training.baselines import Baseline, Seen
from imitate.training.objectives import Objective


class SiglipOptions(BaselineOptions):
    """Options of the objective; each is a flag, such as --objective.start-scale 10."""

    model: ClassVar[dict[str, Any]] = BaselineOptions.model
    name: str = "siglip"
    start_scale: float = 10.0
    start_bias: float = -10.0


class Siglip(Baseline):
    """The scale and the bias of the logits are trained with the model."""

    def __init__(self, model: Imitate, options: SiglipOptions, *, chunk: int | None = None) -> None:
        super().__init__(model, options, chunk=chunk)
        self.log_scale = nn.Parameter(torch.tensor(math.log(options.start_scale)))
        self.bias = nn.Parameter(torch.tensor(options.start_bias))

    def _terms_of(self, view: Seen, text: Tensor, present: Tensor) -> dict[str, Tensor]:
        image, text = F.normalize(view.embedding[present]), F.normalize(text[present])
        logits = self.log_scale.exp() * image @ text.T + self.bias
        signs = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1
        return {"pairs": -F.logsigmoid(signs * logits).sum() / max(len(logits), 1)}


OBJECTIVE = Objective(SiglipOptions, frozenset({"images", "report"}), Siglip)
