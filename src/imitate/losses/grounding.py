"""Texts and places: how much some place of an image is like a text."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

SHARPNESS = 0.1  # temperature of the softmax over the places of an image


def place_similarities(
    places: Float[Tensor, "images tokens joint"], texts: Float[Tensor, "texts joint"]
) -> Float[Tensor, "images texts"]:
    r"""The similarity of every image and text by its best places, a softmax-weighted mean of cosines.

    .. math:: s_{ij} = \sum_t \mathrm{softmax}_t(c_{ijt} / 0.1)\, c_{ijt}, \quad c_{ijt} = \cos(v_{it}, u_j)

    so that a text attends to the places of an image, as in GLoRIA (Huang et al., ICCV 2021) and FILIP (Yao et al.,
    ICLR 2022), here with one vector a text.
    """
    cosines = F.normalize(places, dim=2) @ F.normalize(texts, dim=1).T
    found: Tensor = (cosines * (cosines / SHARPNESS).softmax(dim=1)).sum(1)
    return found
