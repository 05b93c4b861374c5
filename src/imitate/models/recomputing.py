"""Gradient checkpointing that leaves the running statistics of BatchNorm as one pass would."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(module: nn.Module) -> None:
    """From now on only the module's input is kept for the backward pass, which computes the rest again."""
    module.forward = partial(_again, module, module.forward)


def _again(module: nn.Module, forward: Any, *given: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*given, **options)
    return checkpoint(forward, *given, use_reentrant=False, context_fn=partial(twice, module), **options)


def twice(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For the first and the second computation of one output."""
    return nullcontext(), untracked(module)


@contextmanager
def untracked(module: nn.Module) -> Iterator[None]:
    """BatchNorm normalises as before, but the running statistics stay what they are."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, tracked) in zip(norms, before, strict=True):
        norm.momentum, norm.num_batches_tracked = 0.0, None if tracked is None else tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked
