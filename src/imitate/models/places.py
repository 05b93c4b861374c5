"""Aggregations over places: what a level shows at each place of a grid, or on the whole (docs/method.md)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from imitate.config import ImitateConfig
from imitate.models.aggregation import pool
from imitate.names import SECTIONS

START = 0.02  # standard deviation of the embeddings of places and levels, as in ViT


class Aggregated(NamedTuple):
    """What the heads of the two branches read, and each place in the joint space, where texts are compared with it."""

    findings: Float[Tensor, "batch width"]
    impression: Float[Tensor, "batch width"]
    places: Float[Tensor, "batch tokens joint"] | None = None


class SpatialAggregation(nn.Module):
    r"""A token is a place of a level; each branch has one query that attends to the tokens of all levels.

    Level l is average-pooled to ``grid`` x ``grid`` cells, whose features are normalised and projected to one width:

    .. math:: x_{l,ij} = W_l\,\mathrm{LN}_l(C_{l,ij}) + r_i + c_j + e_l

    with learned embeddings of row, column and level. Per head h of branch b

    .. math::
        o_h = W_{v,h} \sum_t a_t x_t + b_{v,h}, \quad
        a = \mathrm{softmax}_t(x_t^\top W_{k,h}^\top q_{b,h}/\sqrt d)

    so that no key or value is projected token by token; the heads' outputs are projected together and normalised.

    With ``config.grounding`` each token also has a vector in the joint space, :math:`W_g x_t`, to be compared with a
    text (losses/grounding.py).
    """

    def __init__(self, config: ImitateConfig, channels: Sequence[int]) -> None:
        super().__init__()
        self.grid, self.heads, self.width = config.grid, config.heads, config.token_width
        self.levels = [level - 1 for level in config.levels]
        self.norms = nn.ModuleList(nn.LayerNorm(channels[level]) for level in self.levels)
        self.projections = nn.ModuleList(nn.Linear(channels[level], self.width, bias=False) for level in self.levels)
        self.row_embedding = nn.Parameter(torch.randn(self.grid, 1, self.width) * START)
        self.column_embedding = nn.Parameter(torch.randn(1, self.grid, self.width) * START)
        self.level_embedding = nn.Parameter(torch.randn(len(self.levels), 1, 1, self.width) * START)
        self.queries = nn.Parameter(torch.randn(len(SECTIONS), self.width) * self.width**-0.5)
        self.attention = nn.MultiheadAttention(self.width, self.heads, batch_first=True)  # holds the parameters
        self.norm = nn.LayerNorm(self.width)
        self.place_head = nn.Linear(self.width, config.joint_width, bias=False) if config.grounding else None

    def forward(self, levels: Sequence[Tensor]) -> Aggregated:
        """Of the maps of all levels, those of ``config.levels``."""
        tokens = self.tokens(levels)
        both = self.read(tokens, self.weights(tokens))
        return both if self.place_head is None else both._replace(places=self.place_head(tokens))

    def read(
        self, tokens: Float[Tensor, "batch tokens width"], weights: Float[Tensor, "batch tokens branches heads"]
    ) -> Aggregated:
        """The branches' features under these weights of attention."""
        size = self.width // self.heads
        value_matrix = self.attention.in_proj_weight[2 * self.width :].view(self.heads, size, self.width)
        value_bias = self.attention.in_proj_bias[2 * self.width :].view(self.heads, size)
        mixed = torch.einsum("btqh,btw->bqhw", weights, tokens)
        heads = torch.einsum("hdw,bqhw->bqhd", value_matrix.to(mixed), mixed) + value_bias
        out = self.norm(self.attention.out_proj(heads.flatten(2)))
        return Aggregated(*out.unbind(1))

    def maps(self, levels: Sequence[Tensor]) -> Float[Tensor, "batch branches levels grid grid"]:
        """The attention of each branch, the mean of its heads: over all levels and places it sums to one."""
        return self.on_grid(self.weights(self.tokens(levels)).mean(-1).movedim(1, 2))

    def on_grid(self, values: Float[Tensor, "*batch tokens"]) -> Float[Tensor, "*batch levels grid grid"]:
        """Of each token, at its level and place."""
        return values.unflatten(-1, (len(self.levels), self.grid, self.grid))

    def tokens(self, levels: Sequence[Tensor]) -> Float[Tensor, "batch tokens width"]:
        place = self.row_embedding + self.column_embedding + self.level_embedding
        found = [
            projection(norm(pool(levels[level].movedim(1, -1), self.grid)))
            for level, norm, projection in zip(self.levels, self.norms, self.projections, strict=True)
        ]
        return (torch.stack(found, dim=1) + place.to(found[0])).flatten(1, 3)

    def weights(self, tokens: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens branches heads"]:
        size = self.width // self.heads
        query_matrix, key_matrix, _ = self.attention.in_proj_weight.view(3, self.heads, size, self.width)
        query_bias = self.attention.in_proj_bias[: self.width].view(self.heads, size)
        query = torch.einsum("hdw,qw->qhd", query_matrix, self.queries) + query_bias
        probe = torch.einsum("hdw,qhd->qhw", key_matrix, query) * size**-0.5
        return (tokens @ probe.flatten(0, 1).T.to(tokens)).softmax(dim=1).unflatten(2, probe.shape[:2])


class PooledAggregation(nn.Module):
    r"""The sum of the global means of all levels, each normalised and projected; each branch has its own projections.

    .. math:: \sum_l W_{b,l}\,\mathrm{LN}_l(\bar C_l)
    """

    def __init__(self, config: ImitateConfig, channels: Sequence[int]) -> None:
        super().__init__()
        self.width = config.token_width
        self.levels = [level - 1 for level in config.levels]
        self.norms = nn.ModuleList(nn.LayerNorm(channels[level]) for level in self.levels)
        both = len(SECTIONS) * self.width
        self.projections = nn.ModuleList(nn.Linear(channels[level], both, bias=False) for level in self.levels)

    def forward(self, levels: Sequence[Tensor]) -> Aggregated:
        """Of the maps of all levels, those of ``config.levels``."""
        parts = [
            projection(norm(levels[level].movedim(1, -1).flatten(1, 2).mean(1)))  # gradients keep channels last
            for level, norm, projection in zip(self.levels, self.norms, self.projections, strict=True)
        ]
        return Aggregated(*torch.stack(parts).sum(0).chunk(len(SECTIONS), dim=1))
