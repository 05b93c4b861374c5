"""Projection heads into the joint space, with normalisation over the rows that are present."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from imitate.distributed import gather, sum_over_processes, world_size
from imitate.names import SECTIONS


class PresentBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d whose training statistics are those of the present rows only, and which accepts a single row.

    With ``synchronised`` they are the statistics over all processes, on any back-end, in one collective. Parameter and
    buffer names are BatchNorm1d's. A batch without a present row leaves the running statistics alone.
    """

    synchronised = False
    section_mean: Tensor
    section_var: Tensor

    def keep_sections(self) -> None:
        """Running statistics of each section's texts, beside those of all."""
        self.register_buffer("section_mean", torch.zeros(len(SECTIONS), self.num_features))
        self.register_buffer("section_var", torch.ones(len(SECTIONS), self.num_features))

    def forward(
        self,
        x: Float[Tensor, "batch width"],
        present: Bool[Tensor, " batch"] | None = None,
        section: str | None = None,
    ) -> Float[Tensor, "batch width"]:
        """``section`` is what the rows are texts of; it matters where ``keep_sections`` was called."""
        row = SECTIONS.index(section) if section in SECTIONS and "section_mean" in self._buffers else None
        if not self.training and row is not None:
            kept = self.section_mean[row], self.section_var[row]
            return F.batch_norm(x, *kept, self.weight, self.bias, eps=self.eps)
        if not self.training:
            evaluated: Tensor = super().forward(x)
            return evaluated
        x = x if x.dtype == torch.float64 else x.float()
        weight = None if present is None else present.to(x.dtype).unsqueeze(1)
        if self.synchronised and world_size() > 1:
            normal, mean, variance, total = _Synchronised.apply(x, weight, self.eps)
            self._track(mean, variance, total, row)
        else:
            count, mean, squares = _moments(x, weight)
            variance = squares / _least_one(count)
            self._track(mean.detach(), variance.detach(), count, row)
            normal = (x - mean) * torch.rsqrt(variance + self.eps)
        return normal if self.weight is None else normal * self.weight + self.bias

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor | int, row: int | None) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        momentum: Any = self.momentum
        if isinstance(count, Tensor):
            momentum = (self.momentum * (count > 0)).to(self.running_mean.dtype)
        unbiased = variance * count / _least_one(count - 1)
        kept = [(self.running_mean, self.running_var)]
        kept += [] if row is None else [(self.section_mean[row], self.section_var[row])]
        for running_mean, running_var in kept:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
        self.num_batches_tracked += 1


def _moments(x: Tensor, weight: Tensor | None) -> tuple[Tensor | int, Tensor, Tensor]:
    """Of the rows of weight 1: their count, mean and sum of squares about it."""
    if weight is None:
        mean = x.sum(0) / len(x)
        return len(x), mean, (x - mean).square().sum(0)
    count = weight.sum()
    mean = (x * weight).sum(0) / _least_one(count)
    return count, mean, (x - mean).square().mul(weight).sum(0)


def _least_one(count: Any) -> Any:
    return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)


class _Synchronised(Function):
    """Normalises by the statistics of all processes; one collective forward, one backward.

    Each process's count, mean and sum of squares about its mean are gathered and combined (Chan et al., 1979). That is
    as accurate as a second pass over all rows, and unlike sums of x and of x squared it subtracts no large numbers.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, epsilon: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        count, mean, squares = _moments(x, weight)
        counted = count.view(1) if isinstance(count, Tensor) else mean.new_full((1,), count)
        every = gather(torch.cat([counted, mean, squares]).unsqueeze(0))
        counts, means, about = every.split([1, len(mean), len(mean)], dim=1)
        total = counts.sum()
        least = total.clamp(min=1)
        mean = (means * counts).sum(0) / least
        variance = (about + (means - mean).square() * counts).sum(0) / least
        scale = torch.rsqrt(variance + epsilon)
        normal = (x - mean) * scale
        ctx.save_for_backward(normal, weight, scale, least)
        ctx.mark_non_differentiable(mean, variance, total)
        return normal, mean, variance, total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, None, None]:
        normal, weight, scale, count = ctx.saved_tensors
        sums = torch.stack([gradient.sum(0), (gradient * normal).sum(0)])
        plain, scaled = sum_over_processes(sums) / count
        shared = plain + normal * scaled
        return (gradient - (shared if weight is None else weight * shared)) * scale, None, None


class Projection(nn.Sequential):
    """Linear, BatchNorm, ReLU, Linear, BatchNorm without affine."""

    def __init__(self, width: int, hidden: int, joint: int) -> None:
        super().__init__(
            nn.Linear(width, hidden),
            PresentBatchNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, joint),
            PresentBatchNorm(joint, affine=False),
        )

    def forward(
        self,
        x: Float[Tensor, "batch width"],
        present: Bool[Tensor, " batch"] | None = None,
        section: str | None = None,
    ) -> Float[Tensor, "batch joint"]:
        hidden = self[2](self[1](self[0](x), present, section))
        projected: Tensor = self[4](self[3](hidden), present, section)
        return projected

    @torch.no_grad()
    def affine(self) -> list[tuple[Tensor, Tensor]]:
        """The two affine maps of eval mode, with a ReLU between them: weight (out, in) and bias (out,) of each.

        The running statistics are those of all texts.
        """
        found = []
        for layer, norm in ((self[0], self[1]), (self[3], self[4])):
            assert isinstance(layer, nn.Linear) and isinstance(norm, PresentBatchNorm)
            assert norm.running_mean is not None and norm.running_var is not None
            scale = (norm.running_var.double() + norm.eps).rsqrt()
            shift = -norm.running_mean.double() * scale
            if norm.affine:
                scale, shift = scale * norm.weight.double(), shift * norm.weight.double() + norm.bias.double()
            weight, bias = layer.weight.double() * scale[:, None], layer.bias.double() * scale + shift
            found.append((weight.float(), bias.float()))
        return found
