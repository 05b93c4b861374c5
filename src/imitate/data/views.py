"""From prepared uint8 images to what an encoder reads: the one evaluation view, and random training views."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from imitate.config import ImitateConfig
from imitate.types import Images


def normalise(gray: Float[Tensor, "batch height width"], config: ImitateConfig) -> Images:
    """Gray values in [0, 1] to three normalised channels."""
    mean, std = (gray.new_tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
    return (gray.unsqueeze(1) - mean) / std


def evaluation_view(images: UInt8[Tensor, "batch size size"], config: ImitateConfig) -> Images:
    """The centre crop of ``config.image_size``, normalised: deterministic."""
    margin = (images.shape[-1] - config.image_size) // 2
    crop = images[:, margin : margin + config.image_size, margin : margin + config.image_size]
    return normalise(crop.to(torch.float32) / 255, config)
