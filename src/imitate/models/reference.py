"""Checkpoints from elsewhere: the published code's (REFERENCE section 7), torchvision's and timm's state dicts."""

from pathlib import Path

import torch
from safetensors.torch import load_file
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


def load_encoder(encoder: ImageEncoder, state: dict[str, Tensor], *, where: str) -> None:
    """Fill a timm network from a state dict under any of the usual prefixes; heads that it lacks are ignored."""
    expected = encoder.network.state_dict()
    best: dict[str, Tensor] = {}
    candidates = [state]
    while candidates:
        candidate = candidates.pop()
        fits = {name: t for name, t in candidate.items() if name in expected and t.shape == expected[name].shape}
        best = max(best, fits, key=len)
        for wrapper in WRAPPERS:
            inner = {n.removeprefix(wrapper): t for n, t in candidate.items() if n.startswith(wrapper)}
            if inner:
                candidates.append(inner)
    missing = [name for name in expected if name not in best and not name.endswith(COUNTERS)]
    if missing:
        raise UserError(
            f"{where} does not fill a {encoder.name}: {len(missing)} of {len(expected)} tensors are missing or of "
            f"another shape, e.g. {missing[0]}; name the network with --like timm:NAME"
        )
    encoder.network.load_state_dict(best, strict=False)
