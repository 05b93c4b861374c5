"""Collectives that pass gradients, and do nothing in a single process."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


def gather(tensor: Tensor) -> Tensor:
    """Concatenate the processes' rows, rank by rank.

    Backward sums the gradients of all processes; with a data-parallel wrapper that averages over processes, a loss
    computed on the gathered batch by every process then has exactly the single-process gradient.
    """
    if world_size() == 1:
        return tensor
    gathered: Tensor = _Gather.apply(tensor)
    return gathered


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Sum over processes, differentiable."""
    if world_size() == 1:
        return tensor
    summed: Tensor = _Sum.apply(tensor)
    return summed


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        mine = torch.empty_like(gradient, memory_format=torch.contiguous_format)  # a block from each process
        dist.all_to_all_single(mine, gradient.contiguous())
        return mine.unflatten(0, (world_size(), -1)).sum(0)


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)
