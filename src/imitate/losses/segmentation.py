"""The segmentation loss of the frozen-encoder protocol: focal and logarithmic Dice."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

FOCAL_WEIGHT = 10.0
GAMMA = 2.0
SMOOTH = 1.0

Map = Float[Tensor, "batch height width"]


def focal(logits: Map, target: Map, *, gamma: float = GAMMA) -> Float[Tensor, ""]:
    """Mean over pixels of (1 - p_t)^gamma times cross-entropy (Lin et al. 2017, eq. 4, unbalanced).

    A soft target t in [0, 1] has 1 - p_t = sigmoid(-(2t - 1) logit).
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missed = functional.logsigmoid(-(2 * target - 1) * logits)
    return ((gamma * missed).exp() * entropy).mean()


def soft_dice(logits: Map, target: Map, *, smooth: float = SMOOTH) -> Float[Tensor, ""]:
    """(2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth) over all pixels of the batch together."""
    probability = logits.sigmoid()
    return (2 * (probability * target).sum() + smooth) / (probability.sum() + target.sum() + smooth)


def segmentation_loss(logits: Map, target: Map) -> Float[Tensor, ""]:
    """10 focal - ln(soft Dice)."""
    return FOCAL_WEIGHT * focal(logits, target) - soft_dice(logits, target).log()


def cross_entropy(logits: Map, target: Map) -> Float[Tensor, ""]:
    """Mean over pixels, of two classes."""
    return functional.binary_cross_entropy_with_logits(logits, target)
