"""Hierarchical aggregation: one query attends over channels of all pyramid levels (docs/method.md)."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from imitate.config import ImitateConfig
from imitate.errors import UserError
from imitate.names import ChannelChoice

ChannelDraw = Sequence[Tensor]
"""Indices of the channels kept, one LongTensor a level: (kept,) for all samples of a batch, or (batch, kept)."""


def draw_channels(
    channels: Sequence[int],
    keep: Sequence[int],
    generator: torch.Generator,
    choice: ChannelChoice = "replacement",
    batch: int = 1,
) -> list[Tensor]:
    """``keep[i]`` of ``channels[i]`` indices, uniform, from a generator on the CPU.

    One draw with ``replacement`` for the whole batch, as published; ``distinct`` channels; or one for each ``sample``.
    """
    pairs = list(zip(channels, keep, strict=True))
    if choice == "distinct":
        return [torch.randperm(c, generator=generator)[:k] for c, k in pairs]
    return [torch.randint(c, (batch, k) if choice == "sample" else (k,), generator=generator) for c, k in pairs]


class HierarchicalAggregation(nn.Module):
    r"""A token is a channel: its map, average-pooled to ``grid`` x ``grid`` and flattened.

    Only the CLS output of the published self-attention is used and its query does not depend on the sample. Per head
    h the attention is therefore exactly

    .. math:: o_h = W_{v,h} \sum_j a_j x_j + b_{v,h}, \quad a = \mathrm{softmax}_j(x_j^\top W_{k,h}^\top q_h/\sqrt d)

    over tokens x_j (drawn channels, zero padding and CLS, each with its positional embedding): no key or value is ever
    projected. The key bias shifts all logits alike and cancels.

    Without a draw (inference) all channels take part. The slots of a level are exchangeable, so each channel carries
    the mean positional embedding of its level's slots, and log(kept / channels) is added to its logit: the level keeps
    its expected fraction of the softmax, and the result is the published draw's expectation up to the curvature of the
    softmax (a ratio of expectations instead of an expectation of ratios).
    """

    def __init__(self, config: ImitateConfig, channels: Sequence[int]) -> None:
        super().__init__()
        self.grid = config.grid
        self.heads = config.heads
        self.levels = [level - 1 for level in config.levels]
        self.channels = [channels[level] for level in self.levels]
        self.keep = [max(1, int(fraction * c)) for fraction, c in zip(config.keep, self.channels, strict=True)]
        self.width = width = config.grid**2  # of the output
        if sum(self.keep) > config.slots:
            raise UserError(
                f"{sum(self.keep)} channels are kept but slots is {config.slots}: raise slots or lower keep"
            )
        start = torch.randn(1, 1, width) * width**-0.5  # drawn in any case, so that no other weight depends on it
        self.cls_token = nn.Parameter(start if config.cls_token == "normal" else torch.zeros_like(start))
        self.positional_embedding = nn.Parameter(torch.zeros(1, config.slots + 1, width))
        self.attention = nn.MultiheadAttention(width, config.heads, batch_first=True)  # holds the parameters
        self.feed_forward = FeedForward(width) if config.feed_forward else nn.Identity()

    def forward(self, levels: Sequence[Tensor], draw: ChannelDraw | None = None) -> Float[Tensor, "batch width"]:
        if draw is not None:
            return self.each(levels, [draw])[0]
        slots = self._slots()
        position = torch.cat([s.mean(0).expand(c, -1) for s, c in zip(slots, self.channels, strict=False)])
        logs = [math.log(k / c) for k, c in zip(self.keep, self.channels, strict=True)]
        shift = position.new_tensor(logs).repeat_interleave(torch.tensor(self.channels, device=position.device))
        tokens = torch.cat([_tokens(pool(levels[level].movedim(1, -1), self.grid)) for level in self.levels], dim=1)
        return self._attend(tokens + position.to(tokens), padding=slots[-1], shift=shift)

    def each(self, levels: Sequence[Tensor], draws: Sequence[ChannelDraw]) -> list[Float[Tensor, "batch width"]]:
        """The output under each draw; every level is read once, and so is its gradient written."""
        slots = self._slots()
        position = torch.cat(slots[:-1])
        kept = []
        for level, indices in zip(self.levels, zip(*draws, strict=True), strict=True):
            picked = _picked(levels[level].movedim(1, -1), torch.cat(indices, dim=-1), self.grid)
            kept.append(_tokens(picked).chunk(len(draws), dim=1))
        tokens = [torch.cat(parts, dim=1) for parts in zip(*kept, strict=True)]
        return [self._attend(each + position.to(each), padding=slots[-1], shift=None) for each in tokens]

    def _slots(self) -> tuple[Tensor, ...]:
        """The positional embedding of each level's slots and, last, of those that are padding."""
        count = self.positional_embedding.shape[1] - 1
        return self.positional_embedding[0, 1:].split([*self.keep, count - sum(self.keep)])

    def _attend(
        self, tokens: Float[Tensor, "batch tokens width"], *, padding: Float[Tensor, "pad width"], shift: Tensor | None
    ) -> Float[Tensor, "batch width"]:
        batch, count, width = tokens.shape
        size = width // self.heads
        attention = self.attention
        query_matrix, key_matrix, value_matrix = attention.in_proj_weight.view(3, self.heads, size, width)
        query_bias, _, value_bias = attention.in_proj_bias.view(3, self.heads, size)
        cls = self.cls_token[0, 0] + self.positional_embedding[0, 0]
        probe = torch.einsum("hdw,hd->hw", key_matrix, query_matrix @ cls + query_bias) * size**-0.5
        constant = torch.cat([padding, cls.unsqueeze(0)])  # the same for every sample
        varying = tokens @ probe.T if shift is None else tokens @ probe.T + shift.to(tokens).view(-1, 1)
        logits = torch.cat([varying, (constant @ probe.T).expand(batch, -1, -1)], dim=1)
        weights = logits.softmax(dim=1)
        mixed = weights[:, :count].transpose(1, 2) @ tokens + weights[:, count:].transpose(1, 2) @ constant
        heads = torch.einsum("hdw,bhw->bhd", value_matrix, mixed) + value_bias
        out: Tensor = self.feed_forward(attention.out_proj(heads.flatten(1)) + cls)
        return out


class FeedForward(nn.Module):
    """What a Transformer block has after its attention (Vaswani et al., 2017): LN(y + W2 gelu(W1 y)), y = LN(x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.LayerNorm(width), nn.LayerNorm(width)
        self.block = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        y = self.first(x)
        out: Tensor = self.last(y + self.block(y))
        return out


def pool(maps: Float[Tensor, "batch high wide channels"], grid: int) -> Float[Tensor, "batch grid grid channels"]:
    """``adaptive_avg_pool2d`` as two products with matrices of ones, exact in every precision, and one division.

    Channels are last, in the memory's own order (channels_last), so that nothing is copied. On a CPU this is several
    times faster than torch's kernel, above all where maps are smaller than the grid.
    """
    high, wide = maps.shape[1:3]
    if (high, wide) == (grid, grid):
        return maps
    # tensors without values, those of torch.export, must not be kept
    windows = _windows.__wrapped__ if torch.compiler.is_exporting() else _windows
    rows, columns, area = windows((high, wide), grid, maps.dtype, maps.device)
    sums = columns @ (rows @ maps.flatten(2)).unflatten(2, maps.shape[2:])
    return sums / area


@lru_cache(maxsize=64)
def _windows(
    size: tuple[int, int], grid: int, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "grid high"], Float[Tensor, "grid wide"], Float[Tensor, "grid grid 1"]]:
    """Which cells of each axis lie at least partly in each of ``grid`` equal parts, and the area of each window.

    Built once for each size: never as tensors of inference mode, which no backward pass could use.
    """
    with torch.inference_mode(False):
        part = torch.arange(grid, device=device).unsqueeze(1)
        rows, columns = (
            (cell >= part * len(cell) // grid) & (cell * grid < (part + 1) * len(cell))
            for cell in (torch.arange(each, device=device) for each in size)
        )
        area = (rows.sum(1, keepdim=True) * columns.sum(1)).unsqueeze(-1)
        return rows.to(dtype), columns.to(dtype), area.to(dtype)


def _picked(
    maps: Float[Tensor, "batch high wide channels"], index: Tensor, grid: int
) -> Float[Tensor, "batch grid grid picked"]:
    """Pooled channels; picked from the smaller of both, the maps or what they are pooled to: so is their gradient."""
    return _pick(pool(maps, grid), index) if maps.shape[1] > grid else pool(_pick(maps, index), grid)


def _pick(maps: Float[Tensor, "batch high wide channels"], index: Tensor) -> Tensor:
    return maps[..., index] if index.ndim == 1 else maps.take_along_dim(index[:, None, None], dim=-1)


def _tokens(pooled: Float[Tensor, "batch grid grid channels"]) -> Float[Tensor, "batch channels width"]:
    return pooled.flatten(1, 2).transpose(1, 2)
