"""Checkpoints from elsewhere: the published code's, torchvision's and timm's state dicts."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table_simple
from torch import Tensor

from imitate.config import ImitateConfig
from imitate.errors import UserError
from imitate.models.image import ImageEncoder
from imitate.models.imitate import Imitate

RENAMED = {
    "encoder.": "image.network.",
    "cls_token": "aggregation.cls_token",
    "positional_embedding": "aggregation.positional_embedding",
    "multi_attent.": "aggregation.attention.",
    "read_proj.": "findings_head.",
    "diag_proj.": "impression_head.",
    "text_proj.": "text_head.",
}
"""Published name -> ours. ``lm_model.*`` is the frozen text encoder, which is loaded from its own source."""

WRAPPERS = ("module.", "model.", "backbone.", "encoder.", "image.network.", "image_encoder.", "visual.")
COUNTERS = "num_batches_tracked"


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or torch file, without running any code that the file may hold."""
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # on a foreign file the unpickler may raise anything
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"{path} is not a checkpoint of plain tensors: {first}") from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no tensors")
    return tensors


def import_published(path: Path) -> Imitate:
    """The published code's model; an encoder-only file (ResNet-50 names) gives that encoder under fresh heads."""
    state = {name.removeprefix("module."): tensor for name, tensor in read_state(path).items()}
    if "cls_token" not in state:
        model = Imitate(ImitateConfig())
        load_encoder(model.image, state, where=str(path))
        return model.eval()
    ours = {}
    for name, tensor in state.items():
        for published, own in RENAMED.items():
            if name.startswith(published):
                ours[own + name.removeprefix(published)] = tensor
    model = Imitate(ImitateConfig(text_width=ours["text_head.0.weight"].shape[1]))
    try:
        missing, unexpected = model.load_state_dict(ours, strict=False)
    except RuntimeError as error:
        raise UserError(
            f"{path}: shapes differ from the published ones: {' '.join(str(error).split())[:300]}"
        ) from error
    missing = [name for name in missing if not name.endswith(COUNTERS)]
    if missing or unexpected:
        raise UserError(f"{path}: missing {missing[:5]}, unexpected {unexpected[:5]}: not the published model")
    return model.eval()


class Filled(NamedTuple):
    """What became of a file's tensors: those that were not used, and those that were interpolated, by name."""

    unused: list[str]
    interpolated: list[str]


def load_encoder(
    encoder: ImageEncoder,
    state: Mapping[str, Tensor],
    *,
    where: str,
    hint: str = "name the network with --like timm:NAME",
) -> Filled:
    """Fill a timm network from a state dict under any of the usual prefixes; heads that it lacks are ignored.

    Position embeddings and tables are interpolated to its size. UserError: a tensor is missing or of another shape.
    """
    network = encoder.network
    expected = {name: each for name, each in network.state_dict().items() if not name.endswith(COUNTERS)}
    best: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    candidates = [{name: name for name in state}]
    while candidates:
        candidate = candidates.pop()
        brought = {
            name: _brought(network, name, state[candidate[name]], wanted)
            for name, wanted in expected.items()
            if name in candidate
        }
        fits = {name: tensor for name, tensor in brought.items() if tensor is not None}
        if len(fits) > len(best) or not names:
            best, names = fits, candidate
        for wrapper in WRAPPERS:
            inner = {name.removeprefix(wrapper): whole for name, whole in candidate.items() if name.startswith(wrapper)}
            if inner:
                candidates.append(inner)
    if missing := [name for name in expected if name not in best]:
        first = missing[0]
        if first in names:
            has, wanted = (list(each.shape) for each in (state[names[first]], expected[first]))
            first += f", which has the shape {has} there, not {wanted}"
        raise UserError(
            f"{where} does not fit {encoder.name}: {len(missing)} of {len(expected)} tensors are missing or of "
            f"another shape, e.g. {first}; {hint}"
        )
    counters = {name: state[whole] for name, whole in names.items() if name.endswith(COUNTERS)}
    network.load_state_dict({**counters, **best}, strict=False)
    used = {names[name] for name in [*best, *counters]}
    return Filled(
        [name for name in state if name not in used],
        [name for name, tensor in best.items() if tensor.shape != state[names[name]].shape],
    )


def _brought(network: Any, name: str, tensor: Tensor, wanted: Tensor) -> Tensor | None:
    """The tensor in the shape that is wanted: what belongs to places is interpolated. None: it is of another kind."""
    if tensor.shape == wanted.shape:
        return tensor
    if tensor.ndim != wanted.ndim or tensor.shape[-1] != wanted.shape[-1]:
        return None
    if name == "pos_embed" and tensor.ndim == 3 and hasattr(network, "patch_embed"):
        grid = network.patch_embed.grid_size
        prefix = wanted.shape[1] - grid[0] * grid[1]  # the CLS token and the like
        if math.isqrt(tensor.shape[1] - prefix) ** 2 != tensor.shape[1] - prefix:
            return None
        return resample_abs_pos_embed(tensor, grid, num_prefix_tokens=prefix)
    if name.endswith("relative_position_bias_table"):
        window = network.get_submodule(name.rpartition(".")[0]).window_size
        return resize_rel_pos_bias_table_simple(tensor, new_window_size=window, new_bias_shape=wanted.shape)
    return None
