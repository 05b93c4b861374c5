"""A run that starts from other weights: what of them it takes, and what it says of that."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from imitate.config import ImitateConfig, Recipe
from imitate.config.files import read_json
from imitate.errors import UserError
from imitate.models.image import ImageEncoder
from imitate.models.imitate import Imitate
from imitate.models.reference import load_encoder
from imitate.models.types import TextEncoder
from imitate.training.step import Step
from imitate.training.weights import STATISTICS, Weights

log = logging.getLogger(__name__)
RECORD = "init.json"  # of a run folder
SHOWN = 4  # reasons in the line for people
ALIKE = ("num_heads", "groups", "stride")  # of a module: what no tensor's shape says
MEANING = {"channels": ("levels", "heads", "keep"), "spatial": ("levels", "heads"), "pooled": ("levels",)}
"""The same of an aggregation: settings with which equal tensors compute something else."""
PASSING = ("Identity", "Drop", "Pool")  # in names of modules whose kind does not matter


@dataclass
class Start:
    """What became of the weights that a run starts from."""

    init: str
    title: str
    commit: str | None
    taken: dict[str, Any]  # settings of the recipe's model that are the source's
    text: str | None  # the text encoder, where it is the source's
    loaded: dict[str, int] = field(default_factory=dict)  # part: how many tensors
    fresh: dict[str, str] = field(default_factory=dict)  # part or tensor: why
    unused: list[str] = field(default_factory=list)
    interpolated: list[str] = field(default_factory=list)
    objective: dict[str, Tensor] = field(default_factory=dict)  # to be taken; not part of the record

    def report(self, folder: Path) -> None:
        """One line for people, and the whole record in the run folder."""
        said = ["loaded " + ", ".join(f"{part} ({count} tensors)" for part, count in self.loaded.items())]
        if self.text:
            said.append(f"text encoder {self.text}")
        if self.interpolated:
            said.append(f"interpolated {', '.join(self.interpolated[:SHOWN])}")
        if self.fresh:
            reasons = [f"{name} ({why})" for name, why in self.fresh.items()]
            said.append(f"fresh {_shortened(reasons)}")
        if self.unused:
            said.append(f"unused {_shortened(self.unused)}")
        log.info("starting from %s (%s): %s; all in %s", self.init, self.title, "; ".join(said), folder / RECORD)
        part = folder / f"{RECORD}.part"
        record = {name: value for name, value in vars(self).items() if name != "objective"}
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        part.replace(folder / RECORD)


class Kinds(NamedTuple):
    """The configs of the model that is filled and of the source."""

    ours: ImitateConfig
    theirs: ImitateConfig


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def taken_settings(recipe: Recipe, statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Of the statistics of a source, those on which the recipe says nothing; mean and std belong together."""
    given = recipe.model.model_fields_set
    own = {"mean", "std"} if given & {"mean", "std"} else set()
    return {name: statistics[name] for name in STATISTICS if name in statistics and name not in given | own}


def recorded_settings(folder: Path) -> dict[str, Any]:
    """What a run that has begun took from its source, which may be gone; {} of one that began without."""
    if not (folder / RECORD).is_file():
        return {}
    taken = read_json(folder / RECORD, holds="what the run started from")["taken"]
    return {name: tuple(values) for name, values in taken.items()}


def start_from(model: Imitate, weights: Weights, recipe: Recipe, encoders: Mapping[str, TextEncoder]) -> Start:
    """Fill a fresh model. ``recipe`` is as it was given, ``encoders`` are the run's.

    UserError: the weights are not of the recipe's image network.
    """
    assert recipe.init is not None
    text, theirs = encoders.get("text"), weights.encoders.get("text")
    same_text = text is None or (theirs is not None and theirs.identity == text.identity)
    start = Start(
        init=recipe.init,
        title=weights.title,
        commit=weights.commit,
        taken=taken_settings(recipe, weights.statistics),
        text=text.name if text is not None and same_text else None,
        unused=list(weights.ignored),
        objective={name: each for name, each in weights.objective.items() if name not in _given(recipe)},
    )
    _fill_image(model.image, weights, start)
    if weights.model is None:
        start.fresh |= {name: "the source has none" for name, _ in model.named_children() if name != "image"}
    else:
        _fill_rest(model, weights.model, start, same_text=same_text)
    return start


def _given(recipe: Recipe) -> set[str]:
    """The parameters of the objective whose initial value the recipe names."""
    names = {"temperature_text": "log_temperature", "bias": "bias"}
    return {names[name] for name in names.keys() & recipe.objective.model_fields_set}


def _fill_image(encoder: ImageEncoder, weights: Weights, start: Start) -> None:
    hint = "set model.backbone to its network"
    if weights.model is not None:
        config = weights.model.config
        options = f" and model.backbone_options={config.backbone_options}" if config.backbone_options else ""
        hint = f"set model.backbone={config.backbone}{options}"
    filled = load_encoder(encoder, weights.image, where=f"init: {start.init}", hint=hint)
    if weights.network is not None and (unlike := _difference(encoder.network, weights.network)):
        raise UserError(f"init: {start.init} has a different architecture from {encoder.name}: {unlike}; {hint}")
    start.loaded["image"] = len(weights.image) - len(filled.unused)
    start.unused += filled.unused
    start.interpolated += filled.interpolated


def _difference(ours: nn.Module, theirs: nn.Module) -> str:
    """How a module of equal name computes something else from equal tensors; empty where none does."""
    others = dict(theirs.named_modules())
    for name, module in ours.named_modules():
        if name not in others:
            continue
        kinds = [type(each).__name__ for each in (others[name], module)]
        bare = not any(True for each in (others[name], module) for _ in each.parameters())
        if bare and kinds[0] != kinds[1] and not any(word in kind for word in PASSING for kind in kinds):
            return f"{name} is {kinds[0]} there and {kinds[1]} here"
        for setting in ALIKE:
            has, wanted = (getattr(each, setting, None) for each in (others[name], module))
            if has != wanted and None not in (has, wanted):
                return f"{setting} of {name} is {has} there and {wanted} here"
    return ""


def _fill_rest(model: Imitate, source: Imitate, start: Start, *, same_text: bool) -> None:
    """Branches and heads; of a part that does not fit nothing is taken."""
    state, kinds = source.state_dict(), Kinds(model.config, source.config)
    for part, module in model.named_children():
        if part == "image":
            continue
        own = module.state_dict()
        theirs = {name.removeprefix(f"{part}."): each for name, each in state.items() if name.startswith(f"{part}.")}
        given = {name: each for name, each in theirs.items() if name in own}
        if reason := _why_fresh(part, given, own, kinds, start, same_text=same_text):
            start.fresh[part] = reason
            start.unused += [f"{part}.{name}" for name in theirs]
            continue
        module.load_state_dict(given, strict=False)
        start.loaded[part] = len(given)
        start.fresh |= {f"{part}.{name}": "the source has none" for name in own if name not in given}
        start.unused += [f"{part}.{name}" for name in theirs if name not in own]
    parts = dict(model.named_children())
    start.unused += [name for name in state if name.partition(".")[0] not in parts]


def _why_fresh(
    part: str, given: Mapping[str, Tensor], own: Mapping[str, Tensor], kinds: Kinds, start: Start, *, same_text: bool
) -> str:
    """Why a part takes nothing of the source; empty where it does."""
    unlike = [name for name, tensor in given.items() if tensor.shape != own[name].shape]
    if not given:
        return "the source has none"
    if part == "aggregation" and kinds.ours.aggregation != kinds.theirs.aggregation:
        return f"it is {kinds.theirs.aggregation} in the source"
    for name in MEANING[kinds.ours.aggregation] if part == "aggregation" else ():
        has, wanted = (getattr(each, name) for each in (kinds.theirs, kinds.ours))
        if has != wanted:
            return f"{name} is {has} in the source, not {wanted}"
    if unlike:
        return f"{unlike[0]} is {list(given[unlike[0]].shape)} in the source, not {list(own[unlike[0]].shape)}"
    if part == "text_head" and not same_text:
        return "it reads a different text encoder"
    if part == "impression_head" and _concludes_from_levels(kinds.ours) != _concludes_from_levels(kinds.theirs):
        return "it reads a different feature in the source"
    behind = {"findings_head", *(["impression_head"] if _concludes_from_levels(kinds.ours) else [])}
    return "it reads the aggregation, which is fresh" if part in behind and "aggregation" in start.fresh else ""


def _concludes_from_levels(config: ImitateConfig) -> bool:
    """Whether the impression branch reads the aggregation of the levels, and not the pooled feature."""
    return bool(config.levels) and not config.draws_channels


def fill_objective(step: nn.Module, start: Start) -> None:
    """The weights of an objective's own, such as a learned temperature."""
    own = {name: each for name, each in step.state_dict().items() if not name.startswith("model.")}
    given = {name: each for name, each in start.objective.items() if name in own and each.shape == own[name].shape}
    step.load_state_dict(given, strict=False)
    if given:
        start.loaded["objective"] = len(given)
    start.fresh |= {f"objective.{name}": "the source has none" for name in own if name not in given}
    unused = start.objective.keys() - given.keys()
    fixed = step.temperature if isinstance(step, Step) else None
    if isinstance(fixed, float) and "log_temperature" in unused:
        same = math.isclose(fixed, start.objective["log_temperature"].exp(), rel_tol=1e-6)
        unused -= {"log_temperature"} if same else set()  # what the step does not learn is the source's all the same
    start.unused += [f"objective.{name}" for name in sorted(unused)]
