"""One pre-training step: two views, two branches, four terms. The model's and the loss's meeting place."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from imitate.config import BaselineOptions, ImitateOptions, Recipe
from imitate.data.augment import ViewDraw, draw_views, warp
from imitate.distributed import gather
from imitate.losses.contrastive import PUBLISHED, Targets, cicl, clinical_prior, identical_texts, soften
from imitate.models.aggregation import draw_channels
from imitate.models.imitate import Imitate
from imitate.models.types import PretrainBatch


class StepDraw(NamedTuple):
    """All randomness of one step, drawn beforehand so that it can be recorded and replayed."""

    views: list[ViewDraw]
    channels_text: list[list[Tensor]]  # m1 of each view: channels for image with text
    channels_views: list[list[Tensor]]  # m2 of each view: channels for view with view


class Branch(NamedTuple):
    """One section's embeddings over the (global) batch."""

    views: list[Tensor]  # image embeddings of each view, for image with text
    pairs: list[Tensor]  # the same for view with view
    text: Tensor
    softened: Tensor  # k(P)
    present: Tensor
    targets: Targets


Own = TypeVar("Own", bound=ImitateOptions | BaselineOptions)


class Step(nn.Module, Generic[Own]):
    """What the built-in objectives share: the backbone's pass over one view, and the global batch.

    Every backbone and head pass covers one view, or one section, at a time, so that BatchNorm statistics are those of
    the published step. A sample without any text has the view-with-view terms of both sections. Under several
    processes the loss is that of the global batch unless ``negatives`` is ``rank``.

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

        def look(images: Tensor, *view: Tensor) -> tuple[Tensor, ...]:
            features = self.model.image(
                warp(images, ViewDraw(*view), self.model.config).to(parameter_dtype(self.model))
            )
            return features.pooled, *self.model.aggregate_each(features, draws)

        if self.chunk is None or self.chunk >= len(images):
            return look(images, *view)
        parts = math.ceil(len(images) / self.chunk)
        chunks = zip(*(rows.tensor_split(parts) for rows in (images, *view)), strict=True)
        again = partial(_twice, self.model.image)
        seen = [checkpoint(look, *chunk, use_reentrant=False, context_fn=again) for chunk in chunks]
        return [torch.cat(rows) for rows in zip(*seen, strict=True)]

    def _share(self, rows: Tensor) -> Tensor:
        rows = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
        return gather(rows) if self.options.negatives == "global" else rows


class Pretraining(Step[ImitateOptions]):
    """L = L_imp + L_find + L_vv_imp + L_vv_find (REFERENCE section 4), as named terms; the loop sums them.

    A sample without a section is excluded from that section's terms.
    """

    def forward(self, batch: PretrainBatch, draw: StepDraw) -> dict[str, Float[Tensor, ""]]:
        findings = self._section(batch["findings"], batch["has_findings"])
        impression = self._section(batch["impression"], batch["has_impression"])
        for view, *draws in zip(draw.views, draw.channels_text, draw.channels_views, strict=True):
            pooled, *aggregated = self._look(batch["images"], view, draws if self._compares_views else draws[:1])
            findings.views.append(self._share(self.model.project_findings(aggregated[0])))
            impression.views.append(self._share(self.model.impression_head(pooled)))
            findings.pairs.extend(self._share(self.model.project_findings(rows)) for rows in aggregated[1:])
        impression.pairs.extend(impression.views)
        with torch.autocast(batch["images"].device.type, enabled=False):
            return self._terms(findings, impression)

    @property
    def _compares_views(self) -> bool:
        return self.options.visual_visual and self.options.views == 2

    def _section(self, text: Tensor, present: Tensor) -> Branch:
        text = text.to(parameter_dtype(self.model))
        projected = self._share(self.model.encode_text(text, present))
        text, present = self._share(text), self._share(present)
        settings = self.options
        softened = soften(clinical_prior(text), settings.kernel, kernel_lambda=settings.kernel_lambda)
        both = present.unsqueeze(1) & present.unsqueeze(0)
        if settings.identical == "one":
            softened = softened.masked_fill(identical_texts(text), 1.0)
        softened = softened * both  # nothing is known of how a missing text resembles another
        ignored = identical_texts(text) & both if settings.identical == "ignored" else None
        targets = Targets(settings.prior_weight, settings.normalise_targets, ignored)
        return Branch([], [], projected, softened, present, targets)

    def _terms(self, findings: Branch, impression: Branch) -> dict[str, Tensor]:
        terms = {}
        for name, branch in (("findings", findings), ("impression", impression)):
            tau = self.options.temperature_text
            fixed = (branch.softened, tau, branch.present, branch.targets)
            losses = [cicl(view, branch.text, *fixed) for view in branch.views]
            terms[name] = torch.stack(losses).sum()
        if self._compares_views:
            tau = self.options.temperature_views
            textless = ~(findings.present | impression.present)
            for name, branch, prior in (("findings", findings, None), ("impression", impression, impression.softened)):
                targets = PUBLISHED if prior is None else branch.targets
                seen = branch.present | textless
                terms[f"views_{name}"] = 2 * cicl(branch.pairs[0], branch.pairs[1], prior, tau, seen, targets)
        return terms


def draw_step(model: Imitate, recipe: Recipe, *, step: int, part: slice = slice(None)) -> StepDraw:
    """A step's randomness, from (seed, step) alone; views are drawn for the global batch, ``part`` is this rank's."""
    generator = torch.Generator().manual_seed(recipe.training.seed * 1_000_003 + step)
    count, batch = recipe.objective.views, recipe.training.batch_size
    views = [
        ViewDraw(*(value[part] for value in draw_views(batch, recipe.augment, recipe.model, generator)))
        for _ in range(count)
    ]

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


def parameter_dtype(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


def move(draw: StepDraw, device: torch.device) -> StepDraw:
    """The draw on the model's device, copied without waiting for it."""

    def sent(tensors: Sequence[Tensor]) -> list[Tensor]:
        pinned = (tensor.pin_memory() if device.type == "cuda" else tensor for tensor in tensors)
        return [tensor.to(device, non_blocking=True) for tensor in pinned]

    views = [ViewDraw(*sent(view)) for view in draw.views]
    return StepDraw(
        views, [sent(level) for level in draw.channels_text], [sent(level) for level in draw.channels_views]
    )
