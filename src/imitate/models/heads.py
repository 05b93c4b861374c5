"""Projection heads into the joint space, with normalisation over the rows that are present."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from imitate.distributed import sum_over_processes


class PresentBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d whose training statistics are those of the present rows only, and which accepts a single row.

    With ``synchronised`` they are the statistics over all processes, on any back-end. Parameter and buffer names are
    BatchNorm1d's. A batch without a present row leaves the running statistics alone.
    """

    synchronised = False

    def forward(
        self, x: Float[Tensor, "batch width"], present: Bool[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch width"]:
        if not self.training:
            evaluated: Tensor = super().forward(x)
            return evaluated
        x = x if x.dtype == torch.float64 else x.float()
        weight = x.new_ones(len(x), 1) if present is None else present.to(x.dtype).unsqueeze(1)
        total = sum_over_processes if self.synchronised else _alone
        count = total(weight.sum())
        mean = total((x * weight).sum(0)) / count.clamp(min=1)
        variance = total((x - mean).square().mul(weight).sum(0)) / count.clamp(min=1)
        self._track(mean.detach(), variance.detach(), count.detach())
        normal = (x - mean) * torch.rsqrt(variance + self.eps)
        return normal if self.weight is None else normal * self.weight + self.bias

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        momentum = self.momentum * (count > 0)
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum.to(self.running_mean.dtype))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum.to(self.running_var.dtype))
        self.num_batches_tracked += 1


def _alone(tensor: Tensor) -> Tensor:
    return tensor


class Projection(nn.Sequential):
    """Linear, BatchNorm, ReLU, Linear, BatchNorm without affine (REFERENCE section 1, heads)."""

    def __init__(self, width: int, hidden: int, joint: int) -> None:
        super().__init__(
            nn.Linear(width, hidden),
            PresentBatchNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, joint),
            PresentBatchNorm(joint, affine=False),
        )

    def forward(
        self, x: Float[Tensor, "batch width"], present: Bool[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch joint"]:
        hidden = self[2](self[1](self[0](x), present))
        projected: Tensor = self[4](self[3](hidden), present)
        return projected
