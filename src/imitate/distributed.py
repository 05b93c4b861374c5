"""Collectives that pass gradients, and do nothing in a single process."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn import functional as differentiable


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
    if not tensor.requires_grad:
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)
    return torch.cat(differentiable.all_gather(tensor.contiguous()))


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Sum over processes, differentiable."""
    return tensor if world_size() == 1 else differentiable.all_reduce(tensor)
