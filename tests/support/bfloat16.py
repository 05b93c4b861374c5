"""Autocast on the CPU as it is on a GPU."""

from typing import Any

import pytest
import torch


def autocast_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for bfloat16 where there is a GPU gets it; who asks for none gets none."""
    original = torch.autocast

    def everywhere(kind: str, dtype: torch.dtype | None = None, enabled: bool = True, **rest: Any) -> torch.autocast:
        return original(kind, dtype=dtype, enabled=enabled or dtype is not None, **rest)

    monkeypatch.setattr(torch, "autocast", everywhere)


def is_rounded(values: torch.Tensor) -> bool:
    """Whether bfloat16 holds all of them."""
    return bool((values.to(torch.bfloat16).to(values.dtype) == values).all())
