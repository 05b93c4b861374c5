"""From an image to the tensor that a network reads, for a training loop of one's own."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from imitate.config import Preprocessing
from imitate.data.augment import evaluation_view
from imitate.inference.radiograph import Source, radiograph
from imitate.inference.tones import preparing


class Transform(NamedTuple):
    """Reads and prepares one image exactly as ``Predictor.classify`` does. It can be pickled, for worker processes."""

    preprocessing: Preprocessing

    def __call__(self, image: Source) -> Float[Tensor, "channels height width"]:
        """A normalised float32 tensor on the CPU. UserError: the image cannot be used; the message states why."""
        pixels = radiograph(image, **preparing(self.preprocessing)).pixels
        return evaluation_view(torch.from_numpy(pixels[None].copy()), self.preprocessing)[0]
