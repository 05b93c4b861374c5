"""One pre-training step: two views, two branches, four terms. The model's and the loss's meeting place."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from imitate.config import BaselineOptions, ImitateOptions, Recipe
from imitate.data.augment import ViewDraw, draw_views, warp
from imitate.data.sampler import SOURCES
from imitate.distributed import gather, rank, sum_over_processes, world_size
from imitate.losses.contrastive import (
    Targets,
    clinical_prior,
    identical_texts,
    soft_cross_entropy,
    soft_targets,
    soften,
)
from imitate.losses.similarities import Rows, similarities
from imitate.models.aggregation import draw_channels
from imitate.models.imitate import Imitate
from imitate.models.types import PretrainBatch


class StepDraw(NamedTuple):
    """All randomness of one step, drawn beforehand so that it can be recorded and replayed."""

    views: list[ViewDraw]
    channels_text: list[list[Tensor]]  # m1 of each view: channels for image with text
    channels_views: list[list[Tensor]]  # m2 of each view: channels for view with view


class Branch(NamedTuple):
    """One section's embeddings of own samples, and what the losses know of the section over the (global) batch."""

    views: list[Tensor]  # image embeddings of each view, for image with text
    pairs: list[Tensor]  # the same for view with view
    text: Tensor
    prior: "Prior"


class Prior(NamedTuple):
    """Own rows of k(P), and the present samples of the batch."""

    softened: Tensor
    present: Tensor
    targets: Targets


Own = TypeVar("Own", bound=ImitateOptions | BaselineOptions)


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

    def _look(self, images: Tensor, view: ViewDraw, draws: Sequence[list[Tensor]]) -> Sequence[Tensor]:
        """All that the heads read of one view: the pooled feature, and the levels aggregated under each draw.

        Without levels the findings branch reads the pooled feature as well.
        """

        def look(images: Tensor, view: ViewDraw, draws: Sequence[list[Tensor]]) -> tuple[Tensor, ...]:
            warped = warp(images, view, self.model.config).to(parameter_dtype(self.model))
            features = self.model.image(warped)
            return features.pooled, *self.model.aggregate_each(features, draws)

        if self.chunk is None or self.chunk >= len(images):
            return look(images, view, draws)
        again = partial(_twice, self.model.image)
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

    def _gathered(self, constant: Tensor) -> Tensor:
        return gather(constant) if self._processes > 1 else constant

    def _whole(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms, each the sum of the processes' parts, in one collective.

        Its backward counts the gradient once for each process, which a data-parallel wrapper's mean divides out again.
        """
        if self._processes == 1:
            return parts
        return dict(zip(parts, sum_over_processes(torch.stack(list(parts.values()))).unbind(), strict=True))


class Pretraining(Step[ImitateOptions]):
    """L = L_imp + L_find + L_vv_imp + L_vv_find (REFERENCE section 4), as named terms; the loop sums them.

    A sample without a section is excluded from that section's terms.
    """

    def forward(self, batch: PretrainBatch, draw: StepDraw) -> dict[str, Float[Tensor, ""]]:
        findings, impression = self._sections(batch)
        for view, *draws in zip(draw.views, draw.channels_text, draw.channels_views, strict=True):
            pooled, *aggregated = self._look(batch["images"], view, draws if self._compares_views else draws[:1])
            findings.views.append(self.model.project_findings(aggregated[0]))
            impression.views.append(self.model.impression_head(pooled))
            findings.pairs.extend(self.model.project_findings(rows) for rows in aggregated[1:])
        with torch.autocast(batch["images"].device.type, enabled=False):
            return self._whole(self._terms(findings, impression))

    @property
    def _compares_views(self) -> bool:
        return self.options.visual_visual and self.options.views == 2

    def _sections(self, batch: PretrainBatch) -> list[Branch]:
        """Findings and impression: their texts, projected, and the priors of the (global) batch."""
        texts = [batch[name].to(parameter_dtype(self.model)) for name in ("findings", "impression")]
        present = [batch["has_findings"], batch["has_impression"]]
        names = SOURCES[self.model.config.texts]
        projected = [self.model.encode_text(*each) for each in zip(texts, present, names, strict=True)]
        own, texts = self.own_slice(present[0]), full_precision(*texts)
        if self._processes > 1:
            columns = gather(torch.cat([*texts, *(has.unsqueeze(1) for has in present)], dim=1))
            *texts, flags = columns.split([*(text.shape[1] for text in texts), 2], dim=1)
            present = list((flags > 0).unbind(1))
        priors = [self._prior(*section, own) for section in zip(texts, present, strict=True)]
        return [Branch([], [], text, prior) for text, prior in zip(projected, priors, strict=True)]

    def _prior(self, text: Tensor, present: Tensor, own: slice) -> Prior:
        settings = self.options
        softened = soften(clinical_prior(text, own), settings.kernel, kernel_lambda=settings.kernel_lambda)
        both = present[own].unsqueeze(1) & present.unsqueeze(0)
        alike = None if settings.identical == "kernel" else identical_texts(text, own)
        if alike is not None and settings.identical == "one":
            softened = softened.masked_fill(alike, 1.0)
        softened = softened * both  # nothing is known of how a missing text resembles another
        ignored = alike & both if alike is not None and settings.identical == "ignored" else None
        return Prior(softened, present, Targets(settings.prior_weight, settings.normalise_targets, ignored))

    def _terms(self, findings: Branch, impression: Branch) -> dict[str, Tensor]:
        """Own samples' part of each term; what a term wants is built once for both views."""
        branches, own = {"findings": findings, "impression": impression}, self.own_slice(findings.text)
        pairs = findings.pairs if self._compares_views else []
        rows = iter(self._rows(*(t for each in branches.values() for t in (each.text, *each.views)), *pairs))
        terms: dict[str, Tensor] = {}
        compared: dict[str, list[Rows]] = {}
        tau = self.options.temperature_text
        for name, branch in branches.items():
            softened, present, targets = branch.prior
            wanted = soft_targets(softened, tau, present, targets, own=own)
            text, *compared[name] = [next(rows) for _ in (branch.text, *branch.views)]
            losses = [soft_cross_entropy(similarities(view, text, tau), wanted) for view in compared[name]]
            terms[name] = torch.stack(losses).sum()
        if self._compares_views:
            compared["findings"] = list(rows)
            tau = self.options.temperature_views
            textless = ~(findings.prior.present | impression.prior.present)
            for name, branch in branches.items():
                softened, present, targets = branch.prior
                seen = present | textless
                if name == "impression":
                    wanted = soft_targets(softened, tau, seen, targets, own=own)
                else:
                    wanted = soft_targets(None, tau, seen, own=own, dtype=softened.dtype)
                first, second = compared[name]
                terms[f"views_{name}"] = 2 * soft_cross_entropy(similarities(first, second, tau), wanted)
        return terms


def draw_step(model: Imitate, recipe: Recipe, *, step: int, part: slice = slice(None)) -> StepDraw:
    """A step's randomness, from (seed, step) alone; views are drawn for the global batch, ``part`` is this rank's."""
    generator = torch.Generator().manual_seed(recipe.training.seed * 1_000_003 + step)
    count, batch = recipe.objective.views, recipe.training.batch_size
    views = [draw_views(batch, recipe.augment, recipe.model, generator, part) for _ in range(count)]

    def channels() -> list[list[Tensor]]:
        if not model.config.levels:
            return [[] for _ in range(count)]
        sizes = (model.aggregation.channels, model.aggregation.keep)
        drawn = [draw_channels(*sizes, generator, model.config.channel_draw, batch) for _ in range(count)]
        return [[index[part] if index.ndim == 2 else index for index in view] for view in drawn]

    return StepDraw(views, channels(), channels())


def _twice(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For the first and the second computation of one output."""
    return nullcontext(), _untracked(module)


@contextmanager
def _untracked(module: nn.Module) -> Iterator[None]:
    """BatchNorm normalises as before, but the running statistics stay what they are."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, tracked) in zip(norms, before, strict=True):
        norm.momentum, norm.num_batches_tracked = 0.0, None if tracked is None else tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked


def full_precision(*tensors: Tensor) -> list[Tensor]:
    """Those of 16 bits in 32."""
    return [each.float() if each.dtype in (torch.float16, torch.bfloat16) else each for each in tensors]


def parameter_dtype(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


def move(draw: StepDraw, device: torch.device) -> StepDraw:
    """The draw on the model's device, in one copy that is not waited for."""
    channels = draw.channels_text, draw.channels_views
    flat = [value for view in draw.views for value in view]
    flat += [index for each in channels for levels in each for index in levels]
    sent = iter(_in_one_copy(flat, device))
    views = [ViewDraw(*(next(sent) for _ in view)) for view in draw.views]
    text, pairs = ([[next(sent) for _ in levels] for levels in each] for each in channels)
    return StepDraw(views, text, pairs)


def _in_one_copy(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    order = sorted(range(len(tensors)), key=lambda i: -tensors[i].itemsize)  # so that each begins at a multiple of it
    packed = torch.cat([tensors[i].flatten().view(torch.uint8) for i in order])
    packed = (packed.pin_memory() if device.type == "cuda" else packed).to(device, non_blocking=True)
    parts = packed.split([tensors[i].nbytes for i in order])
    found = {i: part.view(tensors[i].dtype).view(tensors[i].shape) for i, part in zip(order, parts, strict=True)}
    return [found[i] for i in range(len(tensors))]
