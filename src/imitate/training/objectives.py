"""The pre-training objectives, by name: the built-in ones, and those of the entry-point group imitate.objectives."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

from imitate.config import (
    OPTIONS,
    BaselineOptions,
    CaptionOptions,
    ImitateConfig,
    ImitateOptions,
    ObjectiveOptions,
    SimclrOptions,
    plugins,
)
from imitate.errors import UserError
from imitate.losses.baselines import CONVIRT_WEIGHT
from imitate.models.imitate import Imitate
from imitate.names import REPORT
from imitate.training.baselines import Caption, Flag, Simclr
from imitate.training.pretraining import Pretraining

NEEDS = frozenset({"images", "findings", "impression", "report", "labels", "two_views"})
TEXTUAL = frozenset({"findings", "impression", "report"})


class Objective(NamedTuple):
    """What a run minimises.

    ``build(model, options, chunk=...)`` gives a module that holds the model; its ``forward(batch, draw)`` returns named
    terms, whose sum is the loss, and its own parameters are trained with the model's. ``needs`` is what it reads, among
    ``NEEDS``: only texts that it reads are embedded. A batch has ``labels`` where it needs them, NaN where unknown.
    """

    Options: type[ObjectiveOptions]
    needs: frozenset[str]
    build: Callable[..., nn.Module]

    @property
    def reads_text(self) -> bool:
        return bool(self.needs & TEXTUAL)

    def texts(self, config: ImitateConfig) -> dict[str, int]:
        """The texts to embed, those of the branches or the report as one, and how many of them are drawn at a step."""
        levels = config.text_levels if self.needs & {"findings", "impression"} else ()
        return {level.text: level.draw for level in levels} | ({REPORT: 1} if REPORT in self.needs else {})


SECTIONS = frozenset({"images", "findings", "impression"})
CAPTION = frozenset({"images", REPORT})
OBJECTIVES = {
    "imitate": Objective(ImitateOptions, SECTIONS, Pretraining),
    "clip": Objective(CaptionOptions, CAPTION, Caption),
    "convirt": Objective(CaptionOptions, CAPTION, partial(Caption, weight=CONVIRT_WEIGHT)),
    "mflag": Objective(BaselineOptions, CAPTION, Flag),
    "simclr": Objective(SimclrOptions, frozenset({"images", "two_views"}), Simclr),
}
assert OBJECTIVES.keys() == OPTIONS.keys()


def find_objective(name: str) -> Objective:
    """UserError lists the names; also where an objective of another package needs what no batch has."""
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    found = plugins("imitate.objectives")
    if name not in found:
        raise UserError(f"there is no objective {name!r}; there are {', '.join([*OBJECTIVES, *found])}")
    objective: Objective = found[name].load()
    if unknown := sorted(objective.needs - NEEDS):
        raise UserError(f"objective {name} needs {', '.join(unknown)}: a batch can have {', '.join(sorted(NEEDS))}")
    return objective


def training_module(model: Imitate, options: ObjectiveOptions, *, chunk: int | None = None) -> nn.Module:
    """The step of the objective that these options are of."""
    objective = find_objective(options.name)
    if "two_views" in objective.needs and options.views != 2:
        raise UserError(f"objective {options.name} compares two views, not {options.views}")
    if not objective.reads_text:
        model.text_head.requires_grad_(False)
    return objective.build(model, options, chunk=chunk)
