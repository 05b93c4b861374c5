"""One pre-training step: two views, two branches, four terms. The model's and the loss's meeting place."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from imitate.config import ImitateOptions
from imitate.config.texts import term_names
from imitate.distributed import gather
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
    text_numbers,
)
from imitate.losses.grounding import place_similarities
from imitate.losses.sigmoid import sigmoid_loss
from imitate.losses.similarities import Rows, similarities
from imitate.models.imitate import Imitate
from imitate.models.types import PretrainBatch
from imitate.names import Section
from imitate.training.draws import StepDraw
from imitate.training.step import Step, full_precision, parameter_dtype

NO_PRIOR = (None, PUBLISHED)


class Text(NamedTuple):
    """One text of own samples, and what the losses know of it over the (global) batch."""

    projected: Tensor
    present: Tensor
    softened: Tensor | None  # own rows of k(P)
    targets: Targets
    numbers: Tensor | None  # which samples have the same text, where the sigmoid loss asks


class Pretraining(Step[ImitateOptions]):
    """L = L_imp + L_find + L_vv_imp + L_vv_find (docs/method.md), as named terms; the loop sums them.

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
        places: list[Tensor] = []
        for view, *draws in zip(draw.views, draw.channels_text, draw.channels_views, strict=True):
            twice = self.options.compares_views and self.options.views_weights["findings"]
            draws = draws if twice else draws[:1]
            concluded, *described = self._look(batch["images"], view, draws, draw.side)
            if self.options.grounding:
                places.append(described.pop())
            if "findings" in views:
                views["findings"].append(self.model.project_findings(described[0]))
            if "impression" in views:
                views["impression"].append(self.model.impression_head(concluded))
            pairs.extend(self.model.project_findings(rows) for rows in described[1:])
        with torch.autocast(batch["images"].device.type, enabled=False):
            return self._whole(self._terms(texts, views, pairs) | self._grounded(places, texts))

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
        # Of a text encoder that learns too, what the targets are made of is a constant
        raw = [given.get(f"prior_{name}", given[name]).detach().to(parameter_dtype(self.model)) for name in names]
        raw = full_precision(*raw) if self._compares_texts else []
        if self._processes > 1:
            columns = gather(torch.cat([*raw, *(has.unsqueeze(1).float() for has in present)], dim=1))
            *raw, flags = columns.split([*(text.shape[1] for text in raw), len(names)], dim=1)
            present = list((flags > 0).unbind(1))
        found: dict[str, Text] = {}
        for number, (name, text) in enumerate(zip(names, projected, strict=True)):
            known = self._prior(raw[number], present[number], own) if raw and self._builds_matrices else NO_PRIOR
            alike = self.options.contrast == "sigmoid" and self.options.identical == "positive"
            found[name] = Text(text, present[number], *known, text_numbers(raw[number]) if alike else None)
        return found

    @property
    def _compares_texts(self) -> bool:
        return self.options.kernel != "none" or self.options.identical != "kernel"

    @property
    def _builds_matrices(self) -> bool:
        """Whether a softmax over the batch reads targets."""
        return self.options.contrast == "softmax" or self.options.compares_views

    def _prior(self, text: Tensor, present: Tensor, own: slice) -> tuple[Tensor | None, Targets]:
        """Own rows of k(P), and how targets are made of them."""
        settings = self.options
        alike = None if settings.identical == "kernel" else identical_texts(text, own)
        # Nothing is known of how a missing text resembles another
        both = present[own].unsqueeze(1) & present.unsqueeze(0)
        softened = None
        if settings.kernel != "none":
            text = centre(text, present) if settings.prior_centred else text
            softened = soften(clinical_prior(text, own), settings.kernel, kernel_lambda=settings.kernel_lambda) * both
        if alike is not None and settings.identical == "one":
            softened = torch.zeros_like(both, dtype=text.dtype) if softened is None else softened
            softened = softened.masked_fill(alike & both, 1.0)
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
        if self.options.compares_views:
            if pairs:
                seen["findings"] = list(rows)
            tau = self.options.temperature_views
            for branch, (first, second) in seen.items():
                if weight := self.options.views_weights[branch]:
                    wanted = self._of_views(branch, texts, own, first.own.dtype)
                    terms[f"views_{branch}"] = weight * soft_cross_entropy(similarities(first, second, tau), wanted)
        return terms

    def _with_text(self, views: list[Rows], read: Rows, text: Text, own: slice) -> list[Tensor]:
        """The loss of each view with one text."""
        tau = self.temperature
        if self.options.contrast == "sigmoid":
            return [sigmoid_loss(view, read, tau, self.bias, text.present, own, numbers=text.numbers) for view in views]
        dtype = read.own.dtype
        wanted = soft_targets(text.softened, self.options.temperature, text.present, text.targets, own=own, dtype=dtype)
        return [soft_cross_entropy(similarities(view, read, tau), wanted) for view in views]

    def _grounded(self, places: list[Tensor], texts: dict[str, Text]) -> dict[str, Tensor]:
        """Each text of the findings branch with the places of own samples; a process contrasts within its own."""
        if not places:
            return {}
        losses = []
        for level in self.levels:
            if level.branch == "findings":
                text = texts[level.text]
                own = text.present[self.own_slice(text.projected)]
                target = soft_targets(None, 1.0, own, dtype=full_precision(text.projected)[0].dtype)
                for each in places:
                    logits = place_similarities(*full_precision(each, text.projected)) / self.temperature
                    losses.append(level.weight * soft_cross_entropy((logits, logits.T), target) / self._processes)
        return {"grounding": self.options.grounding * torch.stack(losses).sum()}

    def _of_views(self, branch: Section, texts: dict[str, Text], own: slice, dtype: torch.dtype) -> SoftTargets:
        """What the views of a branch should find: the impression's by the prior of its first text, the findings' alone.

        A sample takes part that has a text of the branch, or none at all.
        """
        learned = [texts[level.text] for level in self.levels if level.branch == branch]
        some = torch.stack([text.present for text in texts.values()]).any(0)
        present = torch.stack([text.present for text in learned]).any(0) | ~some
        softened, targets = (learned[0].softened, learned[0].targets) if branch == "impression" else (None, PUBLISHED)
        return soft_targets(softened, self.options.temperature_views, present, targets, own=own, dtype=dtype)
