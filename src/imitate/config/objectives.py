"""The options of the built-in objectives, and what those of other packages begin with."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from imitate.config.base import Config
from imitate.names import Kernel, Section

Temperature = Annotated[float, Field(ge=1e-3, le=10)]
Weight = Annotated[float, Field(ge=0, le=100)]
Negatives = Literal["global", "rank"]
"""Contrast over the global batch, or within each process."""


class ObjectiveOptions(Config):
    """What the options of every objective begin with; ``model`` is what the objective asks of the model's config."""

    model: ClassVar[dict[str, Any]] = {}

    name: str
    views: Literal[1, 2] = 2  # augmented views of each image in a step

    @property
    def temperature(self) -> float:
        """Between image and text, for prompts to be read with later."""
        return float(getattr(self, "temperature_text", 0.07))

    @property
    def compares_views(self) -> bool:
        """Whether an image without any text has a term of the loss."""
        return False


LEARNED = (0.01, 1.0)
"""Where a learned temperature stays."""


class ContrastOptions(ObjectiveOptions):
    """Image with text, in whatever form."""

    negatives: Negatives = "global"
    temperature_text: Temperature = 0.07  # between image and text; the initial value, if it is learned
    learn_temperature: bool = False  # learn temperature_text, on a log scale between 0.01 and 1
    contrast: Literal["softmax", "sigmoid"] = "softmax"  # sigmoid: each pair is classified on its own, as in SigLIP
    bias: float = Field(-10.0, ge=-100, le=100)  # initial value of the learned bias, if contrast is sigmoid

    @model_validator(mode="after")
    def _starts_in_bounds(self) -> "ContrastOptions":
        low, high = LEARNED
        if self.learn_temperature and not low <= self.temperature_text <= high:
            raise ValueError(
                f"temperature_text {self.temperature_text:g}: a learned temperature stays between {low} and {high}"
            )
        return self


class ImitateOptions(ContrastOptions):
    """The published loss: clinical-informed contrast, two views."""

    name: str = "imitate"
    kernel: Kernel = "exp"
    kernel_lambda: float = Field(0.2, ge=0, le=100)
    prior: str | None = None  # text encoder for the clinical prior, named as in text; None: the model's own
    prior_centred: bool = False  # subtract the mean of the batch's texts from each vector
    prior_weight: float | None = Field(None, ge=0, le=100)  # factor of k(P); None: the temperature, as published
    prior_mass: float | None = Field(None, ge=0, lt=1)  # fixed weight of the other samples in each row of the target
    # Targets of samples with the same text: kernel: by k(P); one: k(P) = 1; ignored: not candidates for each other;
    # positive: the same target as a sample's own text
    identical: Literal["kernel", "one", "ignored", "positive"] = "kernel"
    normalise_targets: bool = False  # each row of the target sums to one
    temperature_views: Temperature = 0.2  # between two views
    grounding: Weight = 0.0  # weight of the contrast between texts and positions; 0: none
    # Weight of the terms between two views: one value for both branches, or one each for findings and impression
    visual_visual: Weight | tuple[Weight, Weight] = 2.0

    @property
    def views_weights(self) -> dict[Section, float]:
        given = self.visual_visual
        return dict(zip(("findings", "impression"), given if isinstance(given, tuple) else (given, given), strict=True))

    @property
    def compares_views(self) -> bool:
        return self.views == 2 and any(self.views_weights.values())

    @field_validator("visual_visual", mode="before")
    @classmethod
    def _weight_of_a_switch(cls, given: Any) -> Any:
        """It was true or false in version 0.1."""
        return 2.0 * given if isinstance(given, bool) else given

    @model_validator(mode="after")
    def _all_have_an_effect(self) -> "ImitateOptions":
        """A value other than the default must change something."""
        without = self.kernel == "none" and "kernel is none"
        soft = self.identical != "one" and without
        refuse_idle(
            self,
            kernel_lambda=self.kernel != "exp" and f"kernel is {self.kernel}",
            prior=self.identical == "kernel" and without,  # which texts are identical is also read from it
            prior_centred=without,
            prior_mass=soft,
            prior_weight=soft or (self.prior_mass is not None and "prior_mass is given"),
            normalise_targets=soft
            or (self.prior_mass is not None and "prior_mass is given")
            or (self.identical == "positive" and "identical is positive"),
            temperature_views=not self.compares_views and "no views are compared",
            bias=self.contrast == "softmax" and "contrast is softmax",
        )
        if self.views == 1 and self.visual_visual not in (0, 2.0, (0, 0)):
            raise ValueError(f"visual_visual compares two views, not {self.views}")
        if self.prior_mass is not None and self.identical == "positive":
            raise ValueError(
                "prior_mass fixes the weight of all other samples: identical positive cannot be combined with it"
            )
        if self.contrast == "sigmoid" and (self.kernel != "none" or self.identical not in ("kernel", "positive")):
            raise ValueError(
                "contrast sigmoid classifies each pair on its own: it needs kernel none and no soft targets"
            )
        return self


class BaselineOptions(ObjectiveOptions):
    """One image embedding, of the pooled feature, and one caption, the whole report (losses/baselines.py)."""

    model: ClassVar[dict[str, Any]] = {"levels": (), "keep": (), "aggregation": "channels", "texts": "report"}

    negatives: Negatives = "global"


class CaptionOptions(ContrastOptions):
    """CLIP, ConVIRT and, with ``visual_visual``, what SLIP is: CLIP and SimCLR on the same views."""

    model: ClassVar[dict[str, Any]] = BaselineOptions.model

    identical: Literal["negative", "ignored", "positive"] = "negative"  # what samples with the same text are
    visual_visual: Weight = 0.0  # weight of SimCLR's loss on the two views
    temperature_views: Temperature = 0.2  # between two views

    @property
    def compares_views(self) -> bool:
        return self.visual_visual > 0

    @model_validator(mode="after")
    def _all_have_an_effect(self) -> "CaptionOptions":
        refuse_idle(
            self,
            temperature_views=not self.visual_visual and "visual_visual is 0",
            bias=self.contrast == "softmax" and "contrast is softmax",
        )
        if self.visual_visual and self.views != 2:
            raise ValueError(f"visual_visual compares two views, not {self.views}")
        if self.contrast == "sigmoid" and self.identical == "ignored":
            raise ValueError("identical ignored needs contrast softmax")
        if self.contrast == "sigmoid" and self.name == "convirt":
            raise ValueError("contrast sigmoid has no directions for convirt to weight: use clip")
        return self


class SimclrOptions(BaselineOptions):
    model: ClassVar[dict[str, Any]] = {**BaselineOptions.model, "reads_text": False}

    name: str = "simclr"
    temperature_views: Temperature = 0.2

    @model_validator(mode="after")
    def _has_its_views(self) -> "SimclrOptions":
        if self.views != 2:
            raise ValueError(f"simclr compares two views, not {self.views}")
        return self


def refuse_idle(options: ObjectiveOptions, **reasons: str | bool) -> None:
    """ValueError where a field with a reason for having no effect has another value than its default."""
    for name, reason in reasons.items():
        if reason and getattr(options, name) != type(options).model_fields[name].default:
            raise ValueError(f"{name} has no effect where {reason}: remove it")


OPTIONS: dict[str, type[ObjectiveOptions]] = {
    "imitate": ImitateOptions,
    "clip": CaptionOptions,
    "convirt": CaptionOptions,
    "mflag": BaselineOptions,
    "simclr": SimclrOptions,
}
