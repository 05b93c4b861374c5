"""An objective: the sigmoid loss of SigLIP (Zhai et al., ICCV 2023, equation 1) over pairs of image and report."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imitate.config import BaselineOptions
from imitate.models.imitate import Imitate
from imitate.training.baselines import Baseline, Captions, Seen
from imitate.training.objectives import Objective


class SiglipOptions(BaselineOptions):
    """Options of the objective; each is a flag, such as --objective.start-scale 10."""

    name: str = "siglip"
    start_scale: float = 10.0
    start_bias: float = -10.0


class Siglip(Baseline):
    """The scale and the bias of the logits are trained with the model."""

    def __init__(self, model: Imitate, options: SiglipOptions, *, chunk: int | None = None) -> None:
        super().__init__(model, options, chunk=chunk)
        self.log_scale = nn.Parameter(torch.tensor(math.log(options.start_scale)))
        self.bias = nn.Parameter(torch.tensor(options.start_bias))

    def part(self, view: Seen, captions: Captions) -> dict[str, Tensor]:
        images, texts, present = F.normalize(view.embedding.own), F.normalize(captions.text.every), captions.present
        own = self.own_slice(images)
        signs = 2 * torch.eye(len(texts), device=images.device)[own] - 1
        losses = -F.logsigmoid(signs * (self.log_scale.exp() * images @ texts.T + self.bias))
        return {"pairs": (losses * (present[own].unsqueeze(1) & present)).sum() / present.sum().clamp(min=1)}


OBJECTIVE = Objective(SiglipOptions, frozenset({"images", "report"}), Siglip)
