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

from imitate.config import LEARNED, BaselineOptions, ContrastOptions, ImitateOptions
from imitate.config.texts import term_names
from imitate.data.augment import ViewDraw, warp
from imitate.distributed import gather, rank, sum_over_processes, world_size
from imitate.losses.contrastive import (
    PUBLISHED,
    SoftTargets,
    Targets,
    centre,
    clinical_prior,
    identical_texts,
    soft_cross_entropy,
    soft_targets,
    soften,
)
from imitate.losses.sigmoid import sigmoid_loss
from imitate.losses.similarities import Rows, similarities
from imitate.models.imitate import Imitate
from imitate.models.types import PretrainBatch
from imitate.names import Section
from imitate.training.draws import StepDraw


class Text(NamedTuple):
    """One text of own samples, and what the losses know of it over the (global) batch."""

    projected: Tensor
    present: Tensor
    softened: Tensor | None  # own rows of k(P)
    targets: Targets


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
        return self.log_temperature.exp().clamp(*LEARNED) if self._learns_temperature else self.options.temperature

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


class Pretraining(Step[ImitateOptions]):
    """L = L_imp + L_find + L_vv_imp + L_vv_find (REFERENCE section 4), as named terms; the loop sums them.

    With other ``texts`` there is a term for each of them, and its weight. A sample without a text is excluded from the
    terms of that text.
    """

    def __init__(self, model: Imitate, options: ImitateOptions, *, chunk: int | None = None) -> None:
        super().__init__(model, options, chunk=chunk)
        self.levels = model.config.text_levels
        self.branches = model.config.branches
        for branch, head in (("findings", "findings_head"), ("impression", "impression_head")):
            if branch not in self.branches and model.config.levels:
                model.get_submodule(head).requires_grad_(False)

    def forward(self, batch: PretrainBatch, draw: StepDraw) -> dict[str, Float[Tensor, ""]]:
        texts = self._texts(batch)
        views: dict[Section, list[Tensor]] = {branch: [] for branch in self.branches}
        pairs: list[Tensor] = []  # of the findings branch under other draws of channels
        for view, *draws in zip(draw.views, draw.channels_text, draw.channels_views, strict=True):
            draws = draws if self._compares_views else draws[:1]
            concluded, *described = self._look(batch["images"], view, draws, draw.side)
            if "findings" in views:
                views["findings"].append(self.model.project_findings(described[0]))
            if "impression" in views:
                views["impression"].append(self.model.impression_head(concluded))
            pairs.extend(self.model.project_findings(rows) for rows in described[1:])
        with torch.autocast(batch["images"].device.type, enabled=False):
            return self._whole(self._terms(texts, views, pairs))

    @property
    def _compares_views(self) -> bool:
        return self.options.visual_visual > 0 and self.options.views == 2

    def _texts(self, batch: PretrainBatch) -> dict[str, Text]:
        """The texts, projected, and the priors of the (global) batch."""
        names = list(dict.fromkeys(level.text for level in self.levels))
        given: dict[str, Tensor] = dict(batch)  # type: ignore[arg-type]
        present = [given[f"has_{name}"] for name in names]
        projected = [
            self.model.encode_text(given[name].to(parameter_dtype(self.model)), here, name)
            for name, here in zip(names, present, strict=True)
        ]
        own = self.own_slice(present[0])
        raw = [given.get(f"prior_{name}", given[name]).to(parameter_dtype(self.model)) for name in names]
        raw = full_precision(*raw) if self._compares_texts else []
        if self._processes > 1:
            columns = gather(torch.cat([*raw, *(has.unsqueeze(1).float() for has in present)], dim=1))
            *raw, flags = columns.split([*(text.shape[1] for text in raw), len(names)], dim=1)
            present = list((flags > 0).unbind(1))
        found: dict[str, Text] = {}
        for number, (name, text) in enumerate(zip(names, projected, strict=True)):
            known = self._prior(raw[number], present[number], own) if raw else (None, PUBLISHED)
            found[name] = Text(text, present[number], *known)
        return found

    @property
    def _compares_texts(self) -> bool:
        return self.options.kernel != "none" or self.options.identical != "kernel"

    def _prior(self, text: Tensor, present: Tensor, own: slice) -> tuple[Tensor, Targets]:
        """Own rows of k(P), and how targets are made of them."""
        settings = self.options
        alike = None if settings.identical == "kernel" else identical_texts(text, own)
        text = centre(text, present) if settings.prior_centred else text
        softened = soften(clinical_prior(text, own), settings.kernel, kernel_lambda=settings.kernel_lambda)
        both = present[own].unsqueeze(1) & present.unsqueeze(0)
        if alike is not None and settings.identical == "one":
            softened = softened.masked_fill(alike, 1.0)
        softened = softened * both  # nothing is known of how a missing text resembles another
        ignored = alike & both if alike is not None and settings.identical == "ignored" else None
        positive = alike & both if alike is not None and settings.identical == "positive" else None
        normalised = settings.normalise_targets or positive is not None
        return softened, Targets(settings.prior_weight, normalised, ignored, positive, settings.prior_mass)

    def _terms(
        self, texts: dict[str, Text], views: dict[Section, list[Tensor]], pairs: list[Tensor]
    ) -> dict[str, Tensor]:
        """Own samples' part of each term; what a term wants is built once for both views."""
        own = self.own_slice(next(iter(texts.values())).projected)
        projected = [text.projected for text in texts.values()]
        rows = iter(self._rows(*projected, *(each for branch in views.values() for each in branch), *pairs))
        read = {name: next(rows) for name in texts}
        seen = {branch: [next(rows) for _ in each] for branch, each in views.items()}
        terms: dict[str, Tensor] = {}
        for name, level in zip(term_names(self.levels), self.levels, strict=True):
            losses = self._with_text(seen[level.branch], read[level.text], texts[level.text], own)
            terms[name] = level.weight * torch.stack(losses).sum()
        if self._compares_views:
            if pairs:
                seen["findings"] = list(rows)
            tau = self.options.temperature_views
            for branch, (first, second) in seen.items():
                wanted = self._of_views(branch, texts, own, first.own.dtype)
                loss = soft_cross_entropy(similarities(first, second, tau), wanted)
                terms[f"views_{branch}"] = self.options.visual_visual * loss
        return terms

    def _with_text(self, views: list[Rows], read: Rows, text: Text, own: slice) -> list[Tensor]:
        """The loss of each view with one text."""
        tau, positive = self.temperature, text.targets.positive
        if self.options.contrast == "sigmoid":
            alike = None if positive is None else partial(columns, positive)
            return [sigmoid_loss(view, read, tau, self.bias, text.present, own, positive=alike) for view in views]
        dtype = read.own.dtype
        wanted = soft_targets(text.softened, self.options.temperature, text.present, text.targets, own=own, dtype=dtype)
        return [soft_cross_entropy(similarities(view, read, tau), wanted) for view in views]

    def _of_views(self, branch: Section, texts: dict[str, Text], own: slice, dtype: torch.dtype) -> SoftTargets:
        """What the views of a branch should find: the impression's by the prior of its first text, the findings' alone.

        A sample takes part that has a text of the branch, or none at all.
        """
        learned = [texts[level.text] for level in self.levels if level.branch == branch]
        some = torch.stack([text.present for text in texts.values()]).any(0)
        present = torch.stack([text.present for text in learned]).any(0) | ~some
        softened, targets = (learned[0].softened, learned[0].targets) if branch == "impression" else (None, PUBLISHED)
        return soft_targets(softened, self.options.temperature_views, present, targets, own=own, dtype=dtype)


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


def columns(matrix: Tensor, here: slice) -> Tensor:
    return matrix[:, here]


def full_precision(*tensors: Tensor) -> list[Tensor]:
    """Those of 16 bits in 32."""
    return [each.float() if each.dtype in (torch.float16, torch.bfloat16) else each for each in tensors]


def parameter_dtype(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype
