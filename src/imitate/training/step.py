"""The step that the built-in objectives are made from."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from imitate.config import LEARNED, BaselineOptions, ContrastOptions
from imitate.data.augment import ViewDraw, warp
from imitate.distributed import gather, rank, sum_over_processes, world_size
from imitate.losses.similarities import Rows
from imitate.models.imitate import Imitate
from imitate.models.recomputing import twice

Own = TypeVar("Own", bound=ContrastOptions | BaselineOptions)


class Step(nn.Module, Generic[Own]):
    """What the built-in objectives share: the backbone's pass over one view, and the global batch.

    Every backbone and head pass covers one view, or one section, at a time, so that BatchNorm statistics are those of
    the published step. A sample without any text has the view-with-view terms of both sections. Under several
    processes the loss is that of the global batch unless ``negatives`` is ``rank``: each computes the rows and columns
    of its own samples, and the parts are summed.

    With ``chunk`` the backbone sees at most so many samples at once, and what it keeps for backward is one chunk's:
    only what the heads read is kept of the others, and they are computed again when their gradient is known (gradient
    caching, Gao et al., 2021, as checkpoints of one graph). The gradient is that of the whole batch, except that the
    backbone's BatchNorm has the statistics of a chunk, as it has those of a process's share; the heads' is unchanged.
    """

    def __init__(self, model: Imitate, options: Own, *, chunk: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.options = options
        self.chunk = chunk
        if isinstance(options, ContrastOptions):
            if options.learn_temperature:
                self.log_temperature = nn.Parameter(torch.tensor(options.temperature_text).log())
            if options.contrast == "sigmoid":
                self.bias = nn.Parameter(torch.tensor(float(options.bias)))

    @property
    def temperature(self) -> Tensor | float:
        """Between image and text."""
        return self.log_temperature.exp() if self._learns_temperature else self.options.temperature

    @torch.no_grad()
    def after_step(self) -> None:
        """Keep a learned temperature in bounds: clamped in the loss, it would have no gradient at a bound."""
        if self._learns_temperature:
            self.log_temperature.clamp_(*(math.log(bound) for bound in LEARNED))

    @property
    def _learns_temperature(self) -> bool:
        return "log_temperature" in self._parameters

    def _look(
        self, images: Tensor, view: ViewDraw, draws: Sequence[list[Tensor]], side: int | None
    ) -> Sequence[Tensor]:
        """What the heads read of one view: that of the impression, and that of the findings under each draw."""

        def look(images: Tensor, view: ViewDraw, draws: Sequence[list[Tensor]]) -> tuple[Tensor, ...]:
            warped = warp(images, view, self.model.config, side).to(parameter_dtype(self.model))
            return tuple(self.model.aggregate(self.model.image(warped), draws))

        if self.chunk is None or self.chunk >= len(images):
            return look(images, view, draws)
        again = partial(twice, self.model.image)
        seen = []
        for rows in torch.arange(len(images)).tensor_split(math.ceil(len(images) / self.chunk)):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            own = [[index[part] if index.ndim == 2 else index for index in draw] for draw in draws]
            chunk = images[part], ViewDraw(*(value[part] for value in view)), own
            seen.append(checkpoint(look, *chunk, use_reentrant=False, context_fn=again))
        return [torch.cat(each) for each in zip(*seen, strict=True)]

    @property
    def _processes(self) -> int:
        """How many share one loss."""
        return world_size() if self.options.negatives == "global" else 1

    def own_slice(self, rows: Tensor) -> slice:
        """Where own samples stand in the batch."""
        first = rank() * len(rows) if self._processes > 1 else 0
        return slice(first, first + len(rows))

    def _rows(self, *embeddings: Tensor) -> list[Rows]:
        """Own and all samples' rows of each embedding; with several processes they are normalised, then gathered at
        once."""
        full = full_precision(*embeddings)
        if self._processes == 1:
            return [Rows(each, each) for each in full]
        unit = torch.stack([F.normalize(each, dim=1) for each in full], dim=1)
        return [Rows(*rows) for rows in zip(unit.unbind(1), gather(unit).unbind(1), strict=True)]

    def _gathered(self, raw: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """The texts before their projection, where the objective compares them, and which are present."""
        compares = getattr(self.options, "identical", "negative") != "negative"
        if self._processes == 1 or not compares:
            return raw, gather(present) if self._processes > 1 else present
        columns = gather(torch.cat([*full_precision(raw), present.unsqueeze(1).float()], dim=1))
        return columns[:, :-1], columns[:, -1] > 0

    def _whole(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms, each the sum of the processes' parts, in one collective.

        Its backward counts the gradient once for each process, which a data-parallel wrapper's mean divides out again.
        """
        if self._processes == 1:
            return parts
        return dict(zip(parts, sum_over_processes(torch.stack(list(parts.values()))).unbind(), strict=True))


def full_precision(*tensors: Tensor) -> list[Tensor]:
    """Those of 16 bits in 32."""
    return [each.float() if each.dtype in (torch.float16, torch.bfloat16) else each for each in tensors]


def parameter_dtype(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype
