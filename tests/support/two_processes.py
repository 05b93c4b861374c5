"""Two processes as two threads: what they gather and sum is exchanged in memory, without gradients across them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, local
from types import ModuleType
from typing import Any

import pytest
import torch


def both(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> Callable[[Callable[[int], Any]], list[Any]]:
    """Patch what these modules have of ``imitate.distributed``; calls a function with each rank, at the same time."""
    barrier, held, mine = Barrier(2, timeout=20), {}, local()

    def exchanged(tensor: torch.Tensor) -> list[torch.Tensor]:
        held[mine.rank] = tensor.detach()
        barrier.wait()
        found = [held[0], held[1]]
        barrier.wait()
        return found

    def process(rank: int, function: Callable[[int], Any]) -> Any:
        mine.rank = rank
        try:
            return function(rank)
        except BaseException:
            barrier.abort()
            raise

    def run(function: Callable[[int], Any]) -> list[Any]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(process, (0, 1), (function, function)))

    patched: dict[str, Any] = {
        "world_size": lambda: 2,
        "rank": lambda: mine.rank,
        "gather": lambda tensor: torch.cat(exchanged(tensor)),
        "sum_over_processes": lambda tensor: sum(exchanged(tensor)),
    }
    for module in modules:
        for name, function in patched.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, function)
    return run
