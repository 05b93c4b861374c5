"""SigLIP's loss: every pair of an image and a text is a decision of its own (Zhai et al., ICCV 2023, equation 1)."""

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from imitate.losses.similarities import Rows

COLUMNS = 1024  # of the matrix of pairs, that are in memory at once


def sigmoid_loss(
    x: Rows,
    y: Rows,
    temperature: Tensor | float,
    bias: Tensor | float,
    present: Bool[Tensor, " batch"],
    own: slice = slice(0, None),
    *,
    numbers: Integer[Tensor, " batch"] | None = None,
    columns: int = COLUMNS,
) -> Float[Tensor, ""]:
    r"""What own rows contribute to :math:`-\frac1N \sum_{i,j} \log\sigma(z_{ij} (x_i y_j / \tau + b))`, cosines.

    z is 1 on a sample's own pair, and on those of samples with its number in ``numbers``; -1 on the others. N is the
    number of present samples, and pairs with another are excluded. No matrix is larger than own rows by
    ``columns``: each block is computed again for the backward pass.
    """
    rows, every = (F.normalize(x.own, dim=1), F.normalize(y.every, dim=1)) if x.alone else (x.own, y.every)
    itself = torch.arange(len(every), device=every.device)[own]

    def block(rows: Tensor, part: Tensor, here: slice) -> Tensor:
        logits = rows @ part.T / temperature + bias
        number = torch.arange(here.start, here.start + len(part), device=every.device)
        right = itself.unsqueeze(1) == number.unsqueeze(0)
        if numbers is not None:
            right = right | (numbers[own].unsqueeze(1) == numbers[here].unsqueeze(0))
        losses = F.softplus(torch.where(right, -logits, logits))
        return (losses * (present[own].unsqueeze(1) & present[here].unsqueeze(0))).sum()

    total = rows.new_zeros(())
    for start in range(0, len(every), columns):
        here = slice(start, min(start + columns, len(every)))
        total = total + checkpoint(block, rows, every[here], here, use_reentrant=False)
    return total / present.sum().clamp(min=1)
