"""The options of the built-in objectives, and what those of other packages begin with."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from imitate.config.base import Config
from imitate.names import Kernel

Temperature = Annotated[float, Field(ge=1e-3, le=10)]
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


class ImitateOptions(ObjectiveOptions):
    """The loss of REFERENCE sections 3 and 4: clinical-informed contrast, two views."""

    name: str = "imitate"
    negatives: Negatives = "global"
    kernel: Kernel = "exp"
    kernel_lambda: float = Field(0.2, ge=0, le=100)
    prior_weight: float | None = Field(None, ge=0, le=100)  # factor of k(P); None: the temperature, as published
    identical: Literal["kernel", "one", "ignored"] = (
        "kernel"  # samples of one text: by k(P), as k(P) = 1, no candidates
    )
    normalise_targets: bool = False  # each row of the target sums to one
    temperature_text: Temperature = 0.07  # image with text
    temperature_views: Temperature = 0.2  # view with view
    visual_visual: bool = True  # the two view-with-view terms; they need two views

    @model_validator(mode="after")
    def _all_have_an_effect(self) -> "ImitateOptions":
        """A value other than the default must change something."""
        without = {
            "kernel_lambda": self.kernel != "exp" and f"kernel is {self.kernel}",
            "prior_weight": self.kernel == "none" and self.identical != "one" and "kernel is none",
            "normalise_targets": self.kernel == "none" and self.identical != "one" and "kernel is none",
            "temperature_views": not (self.visual_visual and self.views == 2) and "no views are compared",
        }
        for name, reason in without.items():
            if reason and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect where {reason}: leave it out")
        return self


class BaselineOptions(ObjectiveOptions):
    """One image embedding, of the pooled feature, and one caption, the whole report (losses/baselines.py)."""

    model: ClassVar[dict[str, Any]] = {"levels": (), "keep": (), "texts": "report"}

    negatives: Negatives = "global"


class CaptionOptions(BaselineOptions):
    """CLIP and ConVIRT."""

    temperature_text: Temperature = 0.07


class SimclrOptions(BaselineOptions):
    model: ClassVar[dict[str, Any]] = {**BaselineOptions.model, "reads_text": False}

    name: str = "simclr"
    temperature_views: Temperature = 0.2

    @model_validator(mode="after")
    def _has_its_views(self) -> "SimclrOptions":
        if self.views != 2:
            raise ValueError(f"simclr compares two views, not {self.views}")
        return self


OPTIONS: dict[str, type[ObjectiveOptions]] = {
    "imitate": ImitateOptions,
    "clip": CaptionOptions,
    "convirt": CaptionOptions,
    "mflag": BaselineOptions,
    "simclr": SimclrOptions,
}
