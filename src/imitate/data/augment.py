"""From prepared uint8 images to what an encoder reads: the one evaluation view, and random training views."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from imitate.config import AugmentConfig, ImitateConfig, Preprocessing
from imitate.data.evaluation import centre, normalised
from imitate.models.types import Images

LEAST_CONTRAST = 1 / 512  # half a gray value: an image of less is constant, and is not stretched


class ViewDraw(NamedTuple):
    """One view of each sample, fixed: where each pixel of the view lies in the prepared image, and its contrast."""

    homography: Float[Tensor, "batch 3 3"]  # centred view pixels -> centred image pixels
    autocontrast: Bool[Tensor, " batch"]


def normalise(gray: Float[Tensor, "batch height width"], config: Preprocessing) -> Images:
    """Gray values in [0, 1] to the encoder's range and its normalised channels."""
    mean, std = (_channels(values, gray.dtype, gray.device) for values in (config.mean, config.std))
    found: Tensor = normalised(gray, config, mean, std)
    return found


@lru_cache(maxsize=64)
def _channels(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Filled on the device, since a copy there would wait for it; never as a tensor of inference mode."""
    with torch.inference_mode(False):
        filled = [torch.full((), value, dtype=dtype, device=device) for value in values]
        return torch.stack(filled).view(1, -1, 1, 1)


def evaluation_view(images: UInt8[Tensor, "batch size size"], config: Preprocessing) -> Images:
    """The centre crop of ``config.image_size``, normalised: deterministic."""
    return normalise(centre(images, config).to(torch.float32) / 255, config)


def draw_views(
    batch: int,
    augment: AugmentConfig,
    config: ImitateConfig,
    generator: torch.Generator,
    part: slice = slice(None),
) -> ViewDraw:
    """Random crop, flips, rotation, zoom and perspective of ``batch`` samples as one homography each (on the CPU).

    All are drawn, so that a sample's view does not depend on the processes; those of ``part`` are returned.

    The order is that of the published recipe: crop, flips, rotation, perspective, autocontrast. Unlike there, what a
    rotation brings in from beyond the crop are the image's own pixels, not black corners.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator)[part] * (high - low) + low

    slack = (config.prepared_size - config.image_size) / 2
    # Whole pixels, as a crop moves by; torch.rand stays below 1, so floor gives 0 .. 2 slack
    shift = torch.floor(uniform(0, 2 * slack + 1, 2)) - slack
    flip_x = 1 - 2.0 * (uniform(0, 1) < augment.horizontal_flip)
    flip_y = 1 - 2.0 * (uniform(0, 1) < augment.vertical_flip)
    angle = uniform(-augment.rotation, augment.rotation) * (math.pi / 180)
    zoom = uniform(1 - augment.scale, 1 + augment.scale)
    corners = uniform(0, augment.perspective, 4, 2) * (uniform(0, 1, 1, 1) < augment.perspective_probability)
    cosine, sine, zero, one = angle.cos() * zoom, angle.sin() * zoom, torch.zeros_like(angle), torch.ones_like(angle)
    affine = torch.stack(
        [flip_x * cosine, -flip_x * sine, shift[:, 0], flip_y * sine, flip_y * cosine, shift[:, 1], zero, zero, one],
        dim=1,
    ).view(-1, 3, 3)
    return ViewDraw(affine @ _perspective(corners, config.image_size), uniform(0, 1) < augment.autocontrast)


def _perspective(corners: Float[Tensor, "batch 4 2"], size: int) -> Float[Tensor, "batch 3 3"]:
    """The homography that maps a view's pixels back, its corners moved inwards by these fractions of half a side."""
    half = size / 2
    signs = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    original = (signs * half).expand(len(corners), 4, 2)
    moved = original - signs * half * corners
    # Eight equations a sample: h maps moved (x, y) to original (u, v), h[2, 2] = 1
    (x, y), (u, v) = moved.unbind(2), original.unbind(2)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    top = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=2)
    bottom = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=2)
    solution = torch.linalg.solve(torch.cat([top, bottom], dim=1).double(), torch.cat([u, v], dim=1).double())
    return torch.cat([solution, torch.ones(len(corners), 1, dtype=torch.float64)], dim=1).view(-1, 3, 3).float()


def warp(
    images: UInt8[Tensor, "batch size size"], draw: ViewDraw, config: ImitateConfig, side: int | None = None
) -> Images:
    """Draw the views: one bilinear sampling of the batch, autocontrast, normalisation; on the images' device.

    With ``side`` a view is brought to that side, each pixel the mean of those that it covers.
    """
    size, extent = config.image_size, images.shape[-1]
    with torch.autocast(images.device.type, enabled=False):  # which would round coordinates to several pixels
        mapped = _pixels(size, images.device) @ draw.homography.to(images.device).transpose(1, 2)
    grid = (mapped[..., :2] / mapped[..., 2:] * (2 / extent)).view(-1, size, size, 2)
    gray = F.grid_sample(images.unsqueeze(1).float() / 255, grid, align_corners=False).squeeze(1)
    low, high = gray.amin((1, 2), keepdim=True), gray.amax((1, 2), keepdim=True)
    stretched = (gray - low) / (high - low).clamp(min=1e-6)
    chosen = draw.autocontrast.to(images.device).view(-1, 1, 1) & (high - low > LEAST_CONTRAST)
    gray = torch.where(chosen, stretched, gray)
    if side is not None and side != size:
        gray = F.interpolate(gray.unsqueeze(1), (side, side), mode="area").squeeze(1)
    return normalise(gray, config)


@lru_cache(maxsize=16)
def _pixels(size: int, device: torch.device) -> Float[Tensor, "1 pixels 3"]:
    """A view's pixels (x, y, 1) about its centre; never as a tensor of inference mode."""
    with torch.inference_mode(False):
        line = torch.arange(size, device=device, dtype=torch.float32) + (0.5 - size / 2)
        y, x = torch.meshgrid(line, line, indexing="ij")
        return torch.stack([x, y, torch.ones_like(x)], dim=-1).view(1, size * size, 3)
