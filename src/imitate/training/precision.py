"""How numbers are held in memory. Mixed precision is Fabric's, but what goes into the module is not rounded."""

from typing import Any

import torch
from lightning_fabric.plugins import MixedPrecision, Precision
from torch import nn
from torch.optim import Optimizer

from imitate.names import Precision as Name


class Mixed(MixedPrecision):
    """Fabric's plug-in rounds every float argument of ``forward`` before the module sees it.

    At 224 px, bfloat16 moves the coordinates of a view by up to five pixels, and autocast switched off inside the
    module cannot repair that. Here autocast alone decides what is computed at less precision.
    """

    def convert_input(self, data: Any) -> Any:
        return data

    def unscale_gradients(self, optimizer: Optimizer) -> None:
        """Also for a fused optimizer, which then neither scales nor steps where there was an overflow."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)


BFLOAT16 = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16")  # the last: ARM


def possible(name: Name, device: str) -> tuple[Name, list[str]]:
    """What is used instead where the device cannot do it, or only slowly, and what to report to the user."""
    remarks = []
    if name == "16-mixed" and device == "cpu":
        remarks.append("precision 16-mixed is for GPUs: on this CPU, bf16-mixed is used instead")
        name = "bf16-mixed"
    if name == "bf16-mixed" and device == "cpu" and not multiplies_bfloat16():
        remarks.append("this CPU has no bfloat16 instructions, so bf16-mixed would be slow: 32-true is used instead")
        name = "32-true"
    return name, remarks


def precision_plugin(name: Name, device: str) -> Precision:
    """``device`` is the type: cpu, cuda, mps."""
    return Precision() if name == "32-true" else Mixed(name, device)


def multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for it. Emulated, training is slower than in float32."""
    known = _capabilities()
    return not known or any(known.get(name) for name in BFLOAT16)


def memory_format(module: nn.Module, device: str) -> torch.memory_format:
    """channels_last, in which convolutions are fastest.

    In this order, on a CPU without AVX-512, torch 2.14 (oneDNN) writes beyond its buffers in the backward pass of a 1x1
    convolution with a stride and fewer than 8 input channels.
    """
    narrow = any(
        isinstance(each, nn.Conv2d) and each.kernel_size == (1, 1) and each.stride != (1, 1) and each.in_channels < 8
        for each in module.modules()
    )
    unsafe = narrow and device == "cpu" and not _capabilities().get("avx512_f")
    return torch.contiguous_format if unsafe else torch.channels_last


def _capabilities() -> dict[str, Any]:
    """What the CPU has; empty where torch does not say."""
    return dict(getattr(torch.cpu, "get_capabilities", dict)())
