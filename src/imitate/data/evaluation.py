"""The evaluation view: what an encoder reads of a prepared image. The same arithmetic for arrays and for tensors."""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from imitate.config import Preprocessing


def evaluation_array(
    images: UInt8[np.ndarray, "batch size size"], config: Preprocessing
) -> Float[np.ndarray, "batch channels side side"]:
    """The centre crop of ``config.image_size``, normalised: what ``augment.evaluation_view`` makes, without torch."""
    mean, std = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (config.mean, config.std))
    found: np.ndarray = normalised(centre(images, config).astype(np.float32) / np.float32(255), config, mean, std)
    return found


def centre(images: Any, config: Preprocessing) -> Any:
    """Of each image of a batch, the part that the encoder sees."""
    margin = (images.shape[-1] - config.image_size) // 2
    return images[:, margin : margin + config.image_size, margin : margin + config.image_size]


def normalised(gray: Any, config: Preprocessing, mean: Any, std: Any) -> Any:
    """Gray values in [0, 1] to the encoder's range and its channels; ``mean`` and ``std`` are (1, channels, 1, 1)."""
    black, white = config.range
    scaled = gray if (black, white) == (0, 1) else gray * (white - black) + black
    return (scaled[:, None] - mean) / std
