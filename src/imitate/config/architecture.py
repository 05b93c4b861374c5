"""The architecture of a model, as it is saved beside its weights."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from imitate.config.backbone import check_backbone, check_options
from imitate.config.preprocessing import WIDEST, Preprocessing
from imitate.config.texts import TextLevel, term_names, text_levels
from imitate.names import SECTIONS, Aggregation, ChannelChoice, Section, Texts

READ: dict[Aggregation, tuple[str, ...]] = {
    "channels": ("keep", "channel_draw", "cls_token", "feed_forward", "grid", "slots", "heads"),
    "spatial": ("grid", "heads", "token_width"),
    "pooled": ("token_width",),
}
"""The settings that an aggregation reads."""


class ImitateConfig(Preprocessing):
    """The architecture; saved as ``config.json`` beside the weights."""

    backbone: Annotated[str, AfterValidator(check_backbone)] = "resnet50"  # name of any timm network, CNN or ViT
    backbone_options: Annotated[dict[str, Any], AfterValidator(check_options)] = Field({})  # options for timm
    projections: tuple[str, ...] | None = None  # projections to train on; None: the default of each folder
    levels: tuple[int, ...] = (
        1,
        2,
        3,
        4,
    )  # levels of the findings branch, 1 the shallowest; none: the pooled feature
    # How levels are combined: attention over channels, for the findings branch only, as published; attention
    # over spatial positions, or the sum of their global means, for both branches
    aggregation: Aggregation = "channels"
    keep: tuple[float, ...] = (0.25, 0.15, 0.10, 0.10)  # fraction of the channels sampled at each of these levels
    channel_draw: ChannelChoice = "replacement"  # distinct: without replacement; sample: for each sample
    cls_token: Literal["zeros", "normal"] = "normal"  # initial CLS token; the release has zeros
    feed_forward: bool = False  # LayerNorm and a feed-forward block after the attention
    grid: int = Field(16, ge=1, le=64)  # side of the grid to which levels are average-pooled
    slots: int = Field(512, ge=1, le=WIDEST)  # tokens after zero-padding
    heads: int = Field(4, ge=1, le=WIDEST)  # attention heads
    token_width: int = Field(256, ge=1, le=WIDEST)  # width of the feature, if the aggregation is spatial or pooled
    grounding: bool = False  # each position of the spatial aggregation has a vector in the joint space
    joint_width: int = Field(512, ge=1, le=WIDEST)  # width of the joint space of images and texts
    text_width: int = Field(768, ge=1, le=WIDEST)  # width of the text encoder, which sets it
    # Running BatchNorm statistics of the text head: of all texts, as published, or separate ones for each section
    text_statistics: Literal["shared", "section"] = "shared"
    # Texts on which the branches are trained: sections; swapped: each section with the other branch; report: the whole
    # report with both branches; both: sections and report; or a list of texts, each with its branch and weight
    texts: Texts | Annotated[tuple[TextLevel, ...], Field(min_length=1)] = "sections"
    temperature: float = Field(0.07, gt=0, le=10)  # of the softmax in training and over prompts; set by the objective
    temperature_learned: bool | None = None  # whether training learned the temperature; None: not recorded
    objective: str = ""  # objective of the training; empty: not recorded
    reads_text: bool = True  # False: the objective used no text, so the text head is untrained

    @property
    def text_levels(self) -> tuple[TextLevel, ...]:
        return text_levels(self.texts)

    @property
    def branches(self) -> tuple[Section, ...]:
        """Those that learn from a text."""
        learning = {level.branch for level in self.text_levels}
        return tuple(branch for branch in SECTIONS if branch in learning)

    @property
    def draws_channels(self) -> bool:
        return bool(self.levels) and self.aggregation == "channels"

    @model_validator(mode="after")
    def _each_level_has_its_fraction(self) -> "ImitateConfig":
        if not set(self.levels) <= {1, 2, 3, 4}:
            raise ValueError(f"levels must be among 1, 2, 3, 4, not {self.levels}")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels {self.levels} contain a level twice")
        if self.aggregation == "channels":
            self._check_channels()
        elif not self.levels:
            raise ValueError(f"aggregation {self.aggregation} has no effect without levels")
        elif self.aggregation == "spatial" and self.token_width % self.heads:
            raise ValueError(f"heads {self.heads} must divide token_width {self.token_width}")
        if self.grounding and self.aggregation != "spatial":
            raise ValueError("grounding needs model.aggregation spatial")
        if len(set(term_names(self.text_levels))) < len(self.text_levels):
            raise ValueError("texts lists a text twice for one branch")
        if len({level.draw for level in self.text_levels if level.text == "sentences"}) > 1:
            raise ValueError("texts draws different numbers of sentences for the branches: they share one draw")
        if self.levels and "findings" not in self.branches and self.aggregation == "channels":
            raise ValueError("levels have no effect if the findings branch has no text")
        return self

    def _check_channels(self) -> None:
        if len(self.levels) != len(self.keep):
            raise ValueError(f"levels {self.levels} and keep {self.keep} must have one entry for each level")
        if self.grid**2 % self.heads:
            raise ValueError(f"heads {self.heads} must divide {self.grid**2}, the features of a token (grid x grid)")
        if not all(0 < fraction <= 1 for fraction in self.keep):
            raise ValueError(f"keep holds fractions in (0, 1], not {self.keep}")
