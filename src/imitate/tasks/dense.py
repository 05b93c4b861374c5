"""What segmentation and detection share: an encoder's pyramid to train on, and whole images as its input."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from imitate.config import Preprocessing
from imitate.data.augment import normalise
from imitate.data.chosen import only
from imitate.data.corpus import Corpus
from imitate.errors import Lacking, UserError
from imitate.inference.encoder import Encoder
from imitate.models.image import ImageEncoder
from imitate.models.pyramid import Adaptation, Pyramid
from imitate.models.types import Images
from imitate.tasks.base import Budget, Predictions
from imitate.tasks.fitting import pixels
from imitate.tasks.options import Dense

log = logging.getLogger(__name__)
Gray = Float[Tensor, "batch size size"]


class WholeImages(NamedTuple):
    """Corpus images squashed to a network's input, without the crop of other tasks: the border counts too."""

    data: Corpus
    config: Preprocessing
    size: int
    device: str

    def gray(self, rows: np.ndarray) -> Gray:
        """Gray values in [0, 1]."""
        return _squash(pixels(self.data, rows, self.device).to(torch.float32) / 255, self.size)

    def images(self, rows: np.ndarray) -> Images:
        return normalise(self.gray(rows), self.config)

    def masks(self, rows: np.ndarray) -> Gray:
        """The fraction of each pixel that is masked."""
        return _squash(self.stored(rows).to(torch.float32), self.size)

    def stored(self, rows: np.ndarray) -> UInt8[Tensor, "batch size size"]:
        """The masks as the folder has them."""
        assert self.data.masks is not None
        return torch.from_numpy(np.array(self.data.masks[rows])).to(self.device)


def _squash(values: Tensor, size: int) -> Gray:
    if values.shape[-1] == size:
        return values
    squashed = functional.interpolate(values.unsqueeze(1), (size, size), mode="bilinear", antialias=True)
    return squashed.squeeze(1).clamp(0, 1)


def targeted(data: Corpus, labels: Sequence[str]) -> Corpus:
    """With the boxes and masks of these classes alone, where any are named, and without images that nobody annotated.

    UserError: one of the classes is marked nowhere.
    """
    return looked_at(only(data, labels) if labels else data)


def looked_at(data: Corpus) -> Corpus:
    """Without images on which nobody looked for objects: that they have no box says nothing."""
    known = data.table.get("annotated")
    if known is None or not (unseen := known.eq(False).fillna(False).to_numpy(dtype=bool)).any():
        return data
    log.info("%d of %d images were not annotated and are excluded", unseen.sum(), len(data))
    return replace(data, table=data.table.assign(split=data.table["split"].astype(str).mask(unseen, "not annotated")))


def whole_images(encoder: Encoder, data: Corpus, budget: Budget, settings: Dense) -> WholeImages:
    return WholeImages(
        data, encoder.preprocessing, settings.image_size or encoder.preprocessing.image_size, budget.device
    )


def pyramid(encoder: Encoder, budget: Budget, settings: Dense) -> Pyramid:
    """Of a copy, so that the encoder stays as it is; in mode ``paper`` a frozen encoder's BatchNorm drifts."""
    if not isinstance(encoder.image, ImageEncoder):
        raise Lacking(f"{encoder.name} has no feature maps to segment or detect with: give a network, e.g. random")
    adaptation: Adaptation = "trained"
    if settings.freeze:
        adaptation = "drifting" if budget.mode == "paper" else "frozen"
    levels = Pyramid(copy.deepcopy(encoder.image), adaptation)
    if size := settings.image_size:
        try:
            levels(torch.zeros((1, encoder.image.image_channels, size, size), device=next(levels.parameters()).device))
        except (AssertionError, RuntimeError, ValueError) as error:  # of a network that is built for one size
            raise UserError(
                f"{encoder.image.name} does not accept images of {size} px ({error}): unset image_size"
            ) from error
    return levels


def identity(data: Corpus, rows: np.ndarray, budget: Budget) -> Predictions:
    """The fields that all dense predictions have."""
    table = data.table.iloc[rows]
    return {
        "patient": table["patient"].to_numpy(dtype=str),
        "image_id": table["image_id"].to_numpy(dtype=str),
        "paper": np.full(len(rows), budget.mode == "paper"),
    }
