"""Where in an image the similarity to a text comes from: HiResCAM over C3 and C4 (docs/heatmaps.md)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

from imitate.errors import UserError
from imitate.inference.base import of_branch
from imitate.inference.encoder import Encoder, Named
from imitate.models.image import ImageEncoder
from imitate.models.places import SpatialAggregation
from imitate.models.types import Images
from imitate.names import Branch, HeatMap

LEVELS = (2, 3)  # C3 and C4, as indices of the encoder's stages
SMOOTHING = 1 / 28  # standard deviation of the last blur, as a fraction of the side: half a cell of C3 at 224 pixels


def similarity(seen: Named, text: Float[Tensor, "batch joint"], branch: Branch) -> Float[Tensor, " batch"]:
    """The cosine of each image's branch with its text; ``both`` is the mean of the two."""
    return torch.stack([F.cosine_similarity(image, text) for image in of_branch(seen, branch)]).mean(0)


def map_of(
    encoder: Any, pixels: UInt8[np.ndarray, "size size"], text: Float[np.ndarray, "1 joint"], branch: Branch
) -> Float[np.ndarray, "side side"]:
    """``heatmap`` of one prepared image, on the encoder's device."""
    view = encoder.prepare(torch.from_numpy(pixels[None]).to(encoder.device))
    found: np.ndarray = heatmap(encoder, view, torch.from_numpy(text).to(encoder.device), branch)[0].cpu().numpy()
    return found


def heatmap(
    encoder: Encoder,
    images: Images,
    text: Float[Tensor, "batch joint"],
    branch: Branch = "both",
    kind: HeatMap = "default",
) -> Float[Tensor, "batch side side"]:
    """Where an image is like a text, over its pixels. Where negative, a place speaks against.

    ``gradient`` is the mean over C3 and C4 of their ``contributions``, the default. Of a model with attention over
    places, the default is ``places``, the mean over its levels of ``of_places``, and ``attention`` that of the weights,
    whatever the text. UserError: the model has no such map.
    """
    aggregation = getattr(getattr(encoder, "model", None), "aggregation", None)
    spatial = isinstance(aggregation, SpatialAggregation)
    if not spatial and kind in ("places", "attention"):
        raise UserError(f"map {kind}: {encoder.name} has no attention over positions: use gradient")
    if kind == "gradient" or not spatial:
        maps = contributions(encoder, images, text, branch)
    else:
        maps = (attention if kind == "attention" else of_places)(encoder, images, text, branch)
    return over_pixels(maps, images.shape[-1])


def of_places(
    encoder: Any, images: Images, text: Float[Tensor, "batch joint"], branch: Branch
) -> list[Float[Tensor, "batch grid grid"]]:
    r"""What each place adds to the similarity s of image and text, of each level of a spatial aggregation.

    Where texts were compared with places in training (``grounding``) it is the cosine of the text and the place.
    Otherwise it is the token's part in what attention reads, its weights held fixed:

    .. math:: M_t = T \sum_k \frac{\partial s}{\partial x_{t,k}} x_{t,k}
    """
    model = encoder.model
    aggregation = model.aggregation
    with torch.no_grad():
        tokens = aggregation.tokens(model.image(images).levels)
        weights = aggregation.weights(tokens)
        if aggregation.place_head is not None:
            found = F.cosine_similarity(aggregation.place_head(tokens), text.unsqueeze(1), dim=2)
            return list(aggregation.on_grid(found).unbind(1))
    with torch.enable_grad():
        tokens = tokens.detach().requires_grad_()
        both = aggregation.read(tokens, weights)
        seen = {"findings": model.project_findings(both.findings), "impression": model.impression_head(both.impression)}
        sections = encoder.sections(seen["findings"], seen["impression"])
        total = similarity(sections, text.detach(), branch).sum()
        (gradient,) = torch.autograd.grad(total, tokens)
    found = (gradient * tokens.detach()).sum(-1) * tokens.shape[1]
    return list(aggregation.on_grid(found).unbind(1))


@torch.no_grad()
def attention(
    encoder: Any, images: Images, text: Float[Tensor, "batch joint"], branch: Branch
) -> list[Float[Tensor, "batch grid grid"]]:
    """The weights with which the branch reads the places of each level; the text has no part in them."""
    aggregation = encoder.model.aggregation
    weights = aggregation.maps(encoder.model.image(images).levels)
    seen = encoder.sections(weights[:, 0], weights[:, 1])
    return list(torch.stack(of_branch(seen, branch)).mean(0).unbind(1))


def contributions(
    encoder: Encoder,
    images: Images,
    text: Float[Tensor, "batch joint"],
    branch: Branch,
    levels: Sequence[int] = LEVELS,
) -> list[Float[Tensor, "batch high wide"]]:
    r"""What each cell of a level adds to the similarity s of image and text, in units of s per area of the image.

    .. math:: M_l = H_l W_l \sum_k \frac{\partial s}{\partial C_{l,k}} \odot C_{l,k}

    The encoder's gradients and mode are left as they are; it must be in eval mode.
    """
    assert not encoder.image.training, "in training mode the images of a batch change each other's maps"
    with torch.enable_grad(), Outputs(encoder.image, levels) as stages:
        seen, features = encoder.look(images.detach().requires_grad_())
        total = similarity(seen, text.detach(), branch).sum()
        gradients = torch.autograd.grad(total, stages.outputs, allow_unused=True)
    if all(gradient is None for gradient in gradients):
        raise UserError(f"no map: the branch {branch} of {encoder.name} reads neither level 3 nor level 4")
    found = []
    for level, output, gradient in zip(levels, stages.outputs, gradients, strict=True):
        gradient = torch.zeros_like(output) if gradient is None else gradient
        cells = _per_cell(gradient * output.detach(), like=features.levels[level])
        found.append(cells * cells[0].numel())
    return found


def over_pixels(maps: Sequence[Float[Tensor, "batch _ _"]], side: int) -> Float[Tensor, "batch side side"]:
    """The mean of maps of any resolution, upsampled and blurred."""
    mean = torch.stack([F.interpolate(each[:, None], (side, side), mode="bilinear") for each in maps]).mean(0)
    sigma = side * SMOOTHING
    return gaussian_blur(mean, [2 * math.ceil(3 * sigma) + 1] * 2, [sigma] * 2).squeeze(1)


def over_square(maps: Float[Tensor, "batch side side"], size: int) -> Float[Tensor, "batch size size"]:
    """Maps of the central part that the encoder sees, over the whole prepared square.

    A place outside has the value of the nearest one inside, as in the upsampling of a map.
    """
    part = central(maps.shape[-1], size)
    around = (part.start, size - part.stop) * 2
    return F.pad(maps[:, None], around, mode="replicate").squeeze(1)


def central(side: int, size: int) -> slice:
    """Of each axis of a prepared square of ``size``: what an encoder of ``side`` sees."""
    start = (size - side) // 2
    return slice(start, start + side)


class Outputs:
    """What the encoder's stages give while the context is open; for any network, also where the levels are copies."""

    def __init__(self, encoder: ImageEncoder, levels: Sequence[int]) -> None:
        self._modules = [encoder.stages[level] for level in levels]

    def __enter__(self) -> "Outputs":
        self.outputs: list[Tensor] = []
        self._hooks = [module.register_forward_hook(self._keep) for module in self._modules]
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keep(self, module: object, inputs: object, output: Tensor) -> None:
        self.outputs.append(output)


def _per_cell(products: Tensor, *, like: Float[Tensor, "batch channels high wide"]) -> Float[Tensor, "batch high wide"]:
    """The sum over channels, whether these come first, last or in tokens after some that are no places."""
    batch, channels, high, wide = like.shape
    if products.shape == like.shape:
        return products.sum(1)
    assert products.shape[-1] == channels
    return products.sum(-1).flatten(1)[:, -high * wide :].view(batch, high, wide)
