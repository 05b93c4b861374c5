"""Optimizer and schedule: AdamW, warm-up, one cosine over the true number of steps."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from imitate.config import TrainingConfig


def build_optimizer(module: nn.Module, training: TrainingConfig) -> torch.optim.AdamW:
    groups = parameter_groups(module, weight_decay=training.weight_decay, everything=training.decay_everything)
    fused = next(module.parameters()).is_cuda
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.999), fused=fused)


def parameter_groups(module: nn.Module, *, weight_decay: float, everything: bool) -> list[dict[str, Any]]:
    """Weight decay on matrices and kernels; with ``everything`` (as published) on norms, biases, embeddings too."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]

    def decays(name: str, parameter: Tensor) -> bool:
        return everything or (parameter.ndim > 1 and not name.endswith(("positional_embedding", "cls_token")))

    groups = [
        {"params": [p for n, p in named if decays(n, p)], "weight_decay": weight_decay},
        {"params": [p for n, p in named if not decays(n, p)], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def learning_rate(step: int, *, total: int, training: TrainingConfig) -> float:
    """The rate of this step (from 0): linear warm-up, then cosine to ``final_learning_rate`` at the last step."""
    peak, final, warmup = training.learning_rate, training.final_learning_rate, training.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2
