"""Random views for classification, each image with its own draw, as batched operations on the device."""

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, pad

from imitate.config import Preprocessing
from imitate.data.augment import normalise
from imitate.models.types import Images

STRENGTH = 0.4  # brightness and contrast are factors in 1 +- STRENGTH
BLUR = (0.1, 2.0)  # range of the standard deviation in pixels
AREA = (0.08, 1.0)  # fraction of the image that a resized part has
STRETCH = math.log(4 / 3)  # of its width over its height, either way
RADIUS = 6  # pixels of the blur's kernel on either side


def cropped_view(images: UInt8[Tensor, "batch size size"], config: Preprocessing, generator: torch.Generator) -> Images:
    """A random crop of ``config.image_size``, normalised."""
    return normalise(_crop(images, config.image_size, generator), config)


def jittered_view(
    images: UInt8[Tensor, "batch size size"], config: Preprocessing, generator: torch.Generator
) -> Images:
    """A random crop, then brightness and contrast (p .8)."""
    return normalise(_jitter(_crop(images, config.image_size, generator), generator), config)


def distorted_view(
    images: UInt8[Tensor, "batch size size"], config: Preprocessing, generator: torch.Generator
) -> Images:
    """A random crop, then brightness and contrast (p .8), blur (p .5) and a horizontal flip (p .5).

    The peers' recipe for CheXpert; its saturation, hue and gray conversion change nothing in a gray image.
    """
    gray = _jitter(_crop(images, config.image_size, generator), generator)
    gray = torch.where(_draw(gray, generator) < 0.5, _blur(gray, generator), gray)
    return normalise(torch.where(_draw(gray, generator) < 0.5, gray.flip(2), gray), config)


def resized_view(images: UInt8[Tensor, "batch size size"], config: Preprocessing, generator: torch.Generator) -> Images:
    """A random part of the image, resized to ``config.image_size``, and a horizontal flip (p .5)."""
    area, stretch = _draw(images, generator, *AREA), _draw(images, generator, -STRETCH, STRETCH).exp()
    tall, wide = ((area * each).sqrt().clamp(max=1)[:, 0, 0] for each in (1 / stretch, stretch))
    down, right = ((2 * _draw(images, generator)[:, 0, 0] - 1) * (1 - side) for side in (tall, wide))
    wide = torch.where(_draw(images, generator)[:, 0, 0] < 0.5, -wide, wide)
    none = torch.zeros_like(wide)
    theta = torch.stack([wide, none, right, none, tall, down], dim=1).view(-1, 2, 3)
    grid = affine_grid(theta, [len(images), 1, config.image_size, config.image_size], align_corners=False)
    gray = grid_sample(images[:, None].float() / 255, grid, padding_mode="border", align_corners=False)
    return normalise(gray[:, 0], config)


def _draw(images: Tensor, generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform, one value an image."""
    return low + (high - low) * torch.rand(len(images), 1, 1, generator=generator, device=images.device)


def _crop(images: Tensor, size: int, generator: torch.Generator) -> Float[Tensor, "batch crop crop"]:
    margin = images.shape[-1] - size
    within = torch.arange(size, device=images.device)
    down, right = ((_draw(images, generator) * (margin + 1)).long().clamp(max=margin) for _ in range(2))
    rows, columns = down + within[None, :, None], right + within[None, None, :]
    return images[torch.arange(len(images), device=images.device)[:, None, None], rows, columns].float() / 255


def _jitter(gray: Tensor, generator: torch.Generator) -> Tensor:
    brightness, contrast = (_draw(gray, generator, 1 - STRENGTH, 1 + STRENGTH) for _ in range(2))
    changed = (gray * brightness).clamp(0, 1)
    mean = changed.mean((1, 2), keepdim=True)
    changed = (mean + contrast * (changed - mean)).clamp(0, 1)
    return torch.where(_draw(gray, generator) < 0.8, changed, gray)


def _blur(gray: Tensor, generator: torch.Generator) -> Tensor:
    offsets = torch.arange(-RADIUS, RADIUS + 1, device=gray.device)
    kernel = torch.exp(-0.5 * (offsets / _draw(gray, generator, *BLUR)) ** 2)
    kernel = (kernel / kernel.sum(-1, keepdim=True)).unsqueeze(1)  # (batch, 1, 1, taps), one group an image
    padded = pad(gray.unsqueeze(0), [RADIUS] * 4, mode="reflect")
    across = conv2d(padded, kernel, groups=len(gray))
    return conv2d(across, kernel.transpose(2, 3), groups=len(gray))[0]
