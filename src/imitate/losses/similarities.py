"""The matrices of a contrastive loss, of which each process has the rows of its own samples."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


class Rows(NamedTuple):
    """One embedding: of this process's samples, and of all processes' in their order.

    In one process both are the same tensor. Rows that were gathered are unit vectors.
    """

    own: Float[Tensor, "own width"]
    every: Float[Tensor, "batch width"]

    @property
    def alone(self) -> bool:
        return self.own is self.every


def similarities(
    x: Rows, y: Rows, temperature: Tensor | float
) -> tuple[Float[Tensor, "own batch"], Float[Tensor, "own batch"]]:
    """Cosines over the temperature, of own x with every y, and of own y with every x."""
    if x.alone:
        logits = F.normalize(x.own, dim=1) @ F.normalize(y.own, dim=1).T / temperature
        return logits, logits.T
    return x.own @ y.every.T / temperature, y.own @ x.every.T / temperature
