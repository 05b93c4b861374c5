"""Weights that a run can start from: of ours, of a published encoder, of an encoder alone, of timm."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imitate.config import LEARNED, ImitateConfig, Recipe
from imitate.errors import UserError
from imitate.models import hub, peers
from imitate.models.image import ImageEncoder, statistics_of
from imitate.models.imitate import Imitate
from imitate.models.reference import read_state
from imitate.models.text import load_text_encoder, text_beside
from imitate.models.types import TextEncoder
from imitate.training.checkpoint import load_checkpoint

TIMM = "timm:"
STATISTICS = ("mean", "std", "range")


@dataclass(frozen=True)
class Weights:
    """``image`` are tensors under timm's names, ``statistics`` those of the gray values that they were trained on."""

    title: str
    image: Mapping[str, Tensor]
    statistics: Mapping[str, Any]
    network: nn.Module | None = None  # that the image tensors are of, where it is known
    model: Imitate | None = None  # where it is one of ours
    encoders: Mapping[str, TextEncoder] = field(default_factory=dict)  # its ``text`` and ``prior``
    objective: Mapping[str, Tensor] = field(default_factory=dict)  # the objective's own
    ignored: tuple[str, ...] = ()  # what no recipe has a place for
    commit: str | None = None  # of a repository of the hub


def open_weights(recipe: Recipe) -> Weights:
    """What the recipe's ``init`` names. UserError: there are no such weights.

    Of a published encoder it is the image side, since nothing of ours reads its joint space.
    """
    name = recipe.init or ""
    if name.startswith(TIMM):
        encoder = ImageEncoder(name.removeprefix(TIMM), pretrained=True, size=recipe.model.image_size)
        tensors = encoder.network.state_dict()
        return Weights(f"timm's weights of {encoder.name}", tensors, statistics_of(encoder.name), encoder.network)
    path = hub.local_folder(name)
    commit = path.name if name.startswith(hub.HUB) else None  # as the cache calls its folders
    if hub.is_ours(path):
        return _ours(path, commit)
    if (path / "starts.jsonl").is_file():  # else its checkpoint would be taken for a bare file
        raise UserError(f"init: the run {name} has no model yet: let it reach its first validation")
    if found := peers.load_peer(path, plain=False):
        return _of_peer(*found, commit)
    files = peers.weights_of(path)
    if not files:
        raise UserError(f"init: {name} has no weights: give a run, an exported model, a published encoder or a file")
    # of a bare file nobody knows the statistics: those of timm's weights are the likeliest
    return Weights(
        f"the file {files[0].name}", read_state(files[0]), statistics_of(recipe.model.backbone), commit=commit
    )


def _ours(path: Path, commit: str | None) -> Weights:
    """A run, a model within one, or an exported model."""
    model = Imitate.from_pretrained(hub.model_within(path))
    config, network = model.config, model.image.network
    places = (path, hub.run_of(path) or path)
    priors = [each / "prior" for each in places if (each / "prior" / "text.json").is_file()]
    encoders = {"text": text_beside(path), "prior": load_text_encoder(priors[0]) if priors else None}
    return Weights(
        title=f"a model of {config.objective or 'ours'} on {config.backbone}",
        image=network.state_dict(),
        statistics={name: getattr(config, name) for name in STATISTICS},
        network=network,
        model=model,
        encoders={name: encoder for name, encoder in encoders.items() if encoder is not None},
        objective=_of_objective(path, config),
        commit=commit,
    )


def _of_objective(path: Path, config: ImitateConfig) -> dict[str, Tensor]:
    """What a run's checkpoint has beside the model; a learned temperature is that of the model, maybe an average.

    Where an older model does not record whether it was learned, the checkpoint says it; without one it is taken.
    """
    state: dict[str, Any] | None = None
    with suppress(UserError):  # of a damaged one: the model is whole
        state = load_checkpoint(path)
    own: dict[str, Tensor] = dict((state or {}).get("objective", {}))
    exact = own.get("log_temperature")
    learned = config.temperature_learned
    if learned is None:
        learned = exact is not None or state is None
    if learned and (exact is None or abs(exact.exp().clamp(*LEARNED).item() - config.temperature) > 1e-6):
        own["log_temperature"] = torch.tensor(config.temperature).log()
    return own


def _of_peer(family: peers.Family, peer: peers.Peer, commit: str | None) -> Weights:
    network, tensors, own = peer.image.network, dict(peer.image.network.state_dict()), peer.preprocessing
    statistics = {name: getattr(own, name) for name in STATISTICS}
    if own.channels == 1:  # our three channels are equal
        first = next(name for name, tensor in tensors.items() if tensor.ndim == 4)
        tensors[first] = tensors[first].repeat(1, 3, 1, 1) / 3
        statistics |= {name: statistics[name] * 3 for name in ("mean", "std")}
    parts = {"its projection": peer.head, "its text encoder": peer.text, "its decoder": peer.decoder}
    ignored = tuple(name for name, part in parts.items() if part is not None)
    return Weights(family.title, tensors, statistics, network, ignored=ignored, commit=commit)
