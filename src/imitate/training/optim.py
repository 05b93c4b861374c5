"""Optimizer and schedule: AdamW, warm-up, one cosine over the true number of steps."""

import logging
import math
from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from imitate.config import TrainingConfig
from imitate.models.image import ImageEncoder
from imitate.models.text_tower import TextTower

log = logging.getLogger(__name__)
AVERAGE = "average"  # in the optimizer's state, so that checkpoints have it


def build_optimizer(module: nn.Module, training: TrainingConfig) -> torch.optim.AdamW:
    if training.freeze == "image":
        for encoder in _encoders(module).values():
            encoder.freeze()
    backbone, text = backbone_rates(module, training), text_rates(module, training)
    own = (backbone if training.backbone_learning_rate else {}) | text
    groups = parameter_groups(
        module,
        weight_decay=training.weight_decay,
        everything=training.decay_everything,
        rates=backbone | text,
        apart=own,
    )
    fused = next(module.parameters()).is_cuda
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.999), fused=fused)
    if training.ema_decay is not None:
        _average(optimizer, training.ema_decay)
    return optimizer


def parameter_groups(
    module: nn.Module,
    *,
    weight_decay: float,
    everything: bool,
    rates: dict[str, float] | None = None,
    apart: Container[str] = (),
) -> list[dict[str, Any]]:
    """Weight decay on matrices and kernels; with ``everything`` (as published) on norms, biases, embeddings too.

    Embeddings and tables that timm spares in its networks are spared. ``rates`` are factors of the learning rate, by
    the parameter's name; a group has its factor as ``scale``, and the first group's is 1 where there is one. Those
    ``apart`` share no group with the others even where their factor is the same: at another learning rate it is not.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    spared = {
        f"{prefix}.network.{name}".removeprefix(".")
        for prefix, encoder in _encoders(module).items()
        for name in encoder.spared
    }

    def decays(name: str, parameter: Tensor) -> bool:
        embeds = name in spared or name.endswith(("_embedding", "cls_token", "queries"))
        return parameter.ndim > 0 and (everything or (parameter.ndim > 1 and not embeds))

    groups: dict[tuple[bool, float, bool], list[Tensor]] = {}
    for decayed in (True, False):
        for name, parameter in named:
            if decays(name, parameter) == decayed:
                groups.setdefault((name in apart, (rates or {}).get(name, 1.0), decayed), []).append(parameter)
    ordered = sorted(groups.items(), key=lambda group: group[0][:2] != (False, 1))
    return [
        {"params": found, "weight_decay": weight_decay if decayed else 0.0, "scale": scale}
        for (_, scale, decayed), found in ordered
    ]


def backbone_rates(module: nn.Module, training: TrainingConfig) -> dict[str, float]:
    """Factors of the learning rate: the backbone's own rate, times ``layer_decay`` for each block above a weight's."""
    whole = (training.backbone_learning_rate or training.learning_rate) / training.learning_rate
    if training.backbone_learning_rate is None and training.layer_decay == 1:
        return {}
    return {name: whole * training.layer_decay**above for name, above in blocks_above(module).items()}


def blocks_above(module: nn.Module) -> dict[str, int]:
    """For each weight of the image encoders within, how many of timm's blocks lie between it and the heads."""
    return {
        f"{prefix}.network.{name}".removeprefix("."): above
        for prefix, encoder in _encoders(module).items()
        for name, above in encoder.blocks_above().items()
    }


def text_rates(module: nn.Module, training: TrainingConfig) -> dict[str, float]:
    """Factors of the learning rate of the text encoder, where it learns at a rate of its own."""
    if training.text_learning_rate is None:
        return {}
    towers = [name for name, each in module.named_modules() if isinstance(each, TextTower)]
    return {
        name: training.text_learning_rate / training.learning_rate
        for name, _ in module.named_parameters()
        if any(name.startswith(f"{tower}.".removeprefix(".")) for tower in towers)
    }


def restore(optimizer: Any, state: dict[str, Any], training: TrainingConfig) -> None:
    """Take the state of a checkpoint, but not what this run's recipe may have changed: weight decay, factors of the
    learning rate, and averages that no step would move any more."""
    kept = [{key: group[key] for key in ("weight_decay", "scale") if key in group} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, kept, strict=True):
        group.update(own)
    if training.ema_decay is None:
        for each in optimizer.state.values():
            each.pop(AVERAGE, None)


def set_rates(optimizer: Any, step: int, *, total: int, training: TrainingConfig) -> None:
    """This step's learning rate, in each group times its factor."""
    rate = learning_rate(step, total=total, training=training)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def learning_rate(step: int, *, total: int, training: TrainingConfig) -> float:
    """The rate of this step (from 0): linear warm-up, then the cosine that would be at ``final_learning_rate`` in the
    step after the last, as torch's over ``total`` steps."""
    peak, final = training.learning_rate, training.final_learning_rate
    warmup = training.warmup_steps or round(training.warmup_fraction * total)
    if step == 0 and warmup >= total:
        log.warning(
            "training.warmup_steps=%d of a run of %d steps: the learning rate never reaches its peak; set "
            "training.warmup_fraction instead", warmup, total,
        )  # fmt: skip
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2


def _encoders(module: nn.Module) -> dict[str, ImageEncoder]:
    return {name: each for name, each in module.named_modules() if isinstance(each, ImageEncoder)}


def _average(optimizer: torch.optim.Optimizer, decay: float) -> None:
    """After each step, move an exponential average of each weight towards it."""

    @torch.no_grad()
    def follow(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    average = optimizer.state[weight].setdefault(AVERAGE, weight.detach().clone())
                    average.lerp_(weight, 1 - decay)

    optimizer.register_step_post_hook(follow)


@contextmanager
def averaged(optimizer: Any) -> Iterator[None]:
    """The weights are their averages for the duration, where the optimizer keeps these. Buffers stay: BatchNorm's
    running statistics are averages already."""
    _exchange(optimizer)
    try:
        yield
    finally:
        _exchange(optimizer)


@torch.no_grad()
def _exchange(optimizer: Any) -> None:
    for weight, state in optimizer.state.items():
        if AVERAGE in state:
            kept = weight.clone()
            weight.copy_(state[AVERAGE])
            state[AVERAGE].copy_(kept)
