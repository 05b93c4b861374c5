"""Every setting of a run, as frozen models that reject unknown keys; ``load_config`` reads them from YAML."""

from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializeAsAny,
    field_validator,
    model_validator,
)

from imitate.config.architecture import READ, ImitateConfig
from imitate.config.backbone import check_init
from imitate.config.base import Config, validate
from imitate.config.files import parse_yaml, read_yaml
from imitate.config.loading import data_of, dotted, find_recipe, load_config, parse_settings, shipped
from imitate.config.objectives import (
    LEARNED,
    OPTIONS,
    BaselineOptions,
    CaptionOptions,
    ContrastOptions,
    ImitateOptions,
    ObjectiveOptions,
    SimclrOptions,
)
from imitate.config.preprocessing import Preprocessing
from imitate.config.texts import TextLevel
from imitate.errors import UserError
from imitate.names import SECTIONS, Precision

__all__ = [
    "LEARNED",
    "OPTIONS",
    "AugmentConfig",
    "BaselineOptions",
    "CaptionOptions",
    "Config",
    "ContrastOptions",
    "ImitateConfig",
    "ImitateOptions",
    "ObjectiveOptions",
    "Preprocessing",
    "Recipe",
    "SimclrOptions",
    "TextLevel",
    "TrainingConfig",
    "data_of",
    "dotted",
    "find_recipe",
    "load_config",
    "objective_options",
    "parse_settings",
    "parse_yaml",
    "plugins",
    "read_yaml",
    "shipped",
    "validate",
]


Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Steps = Annotated[int, Field(ge=1, le=10**7)]


class AugmentConfig(Config):
    """Random views, drawn on the device as one warp a batch."""

    horizontal_flip: Fraction = 0.5  # probability
    vertical_flip: Fraction = 0.5  # probability
    rotation: float = Field(30.0, ge=0, le=180)  # largest angle in degrees, in either direction
    scale: float = Field(0.0, ge=0, lt=1)  # zoom by a factor between 1 - scale and 1 + scale
    perspective: Fraction = 0.5  # distortion scale
    perspective_probability: Fraction = 0.5
    autocontrast: Fraction = 0.5  # probability


class TrainingConfig(Config):
    epochs: int = Field(20, ge=1, le=100_000)
    steps: Steps | None = None  # number of training steps, instead of epochs
    batch_size: int = Field(128, ge=2, le=2**20)  # global: over all processes
    learning_rate: Rate = 2e-4  # after the warm-up, before the cosine decay
    final_learning_rate: float = Field(1e-8, ge=0, le=1)  # at the end of the cosine decay
    warmup_steps: int = Field(0, ge=0, le=10**7)
    warmup_fraction: float = Field(0.0, ge=0, lt=1)  # warm-up as a fraction of all steps, instead of warmup_steps
    backbone_learning_rate: Rate | None = None  # learning rate of the image encoder; None: learning_rate
    layer_decay: float = Field(1.0, ge=0.1, le=1)  # factor of the rate for each block of the image encoder downwards
    freeze: Literal["image"] | None = None  # image: do not train the image encoder, including its BatchNorm statistics
    gradient_checkpointing: bool = False  # recompute blocks of the image encoder in the backward pass: less memory
    text_layers: int | None = Field(None, ge=1, le=512)  # train this many of the last layers of the text encoder
    text_lora: int | None = Field(None, ge=1, le=1024)  # instead: rank of LoRA adapters in all of its layers
    text_learning_rate: Rate | None = None  # learning rate of the text encoder; None: learning_rate
    ema_decay: float | None = Field(None, ge=0.5, lt=1)  # validate and save moving averages of the weights
    weight_decay: float = Field(0.05, ge=0, le=10)
    decay_everything: bool = False  # True: weight decay also for normalisation, biases and embeddings, as published
    clip_gradient: float | None = Field(None, ge=1e-6, le=1e6)  # largest norm of the gradient
    precision: Precision = "bf16-mixed"
    # Where BatchNorm uses the statistics of the global batch: heads: in the heads; true: also in the backbone, which
    # needs GPUs; false: nowhere
    sync_batchnorm: bool | Literal["heads"] = "heads"
    # Samples that the backbone processes at a time: gradient accumulation with cached contrastive gradients (gradient
    # caching, GradCache), so that the loss still uses the whole batch
    chunk: int | None = Field(None, ge=1, le=2**20)
    # Sides of the views, each for an equal part of the steps; the last one must be the model's image_size
    image_sizes: tuple[Annotated[int, Field(ge=8, le=8192)], ...] = ()
    compile: Literal["default", "reduce-overhead"] | None = None  # torch.compile's mode for the backbone
    seed: int = Field(0, ge=0, lt=2**32)
    log_every: Steps = 10  # steps between the rows of metrics.jsonl
    checkpoint_every: Steps = 500  # steps between checkpoints, in addition to those at each epoch and validation
    validate_every: Steps | None = None  # steps between validations; None: after each epoch
    snapshot_every: Steps | None = None  # steps between the weights kept in snapshots/; None: no snapshots
    keep_best: int = Field(1, ge=1, le=1000)  # number of best validations whose weights are kept; if several, in top/
    deterministic: bool = False  # deterministic algorithms only; slower on GPUs
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"] = "auto"  # Fabric's, for several processes
    devices: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"  # processes on this machine
    nodes: int = Field(1, ge=1, le=2**16)  # number of machines

    @property
    def trains_text(self) -> bool:
        return bool(self.text_layers or self.text_lora)

    @model_validator(mode="after")
    def _all_have_an_effect(self) -> "TrainingConfig":
        if self.warmup_steps and self.warmup_fraction:
            raise ValueError("give warmup_steps or warmup_fraction, not both")
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate {self.final_learning_rate:g} must not exceed learning_rate {self.learning_rate:g}"
            )
        if self.text_layers and self.text_lora:
            raise ValueError("give text_layers or text_lora, not both")
        if self.text_learning_rate and not self.trains_text:
            raise ValueError("text_learning_rate has no effect on a frozen text encoder: give text_layers or text_lora")
        if self.freeze and (self.backbone_learning_rate or self.layer_decay != 1 or self.gradient_checkpointing):
            raise ValueError(
                "freeze: image leaves backbone_learning_rate, layer_decay and gradient_checkpointing without effect: "
                "drop these"
            )
        if self.gradient_checkpointing and self.compile:
            raise ValueError("gradient_checkpointing and compile cannot be combined: remove one")
        if self.chunk and self.compile and self.precision == "16-mixed":
            raise ValueError("chunk and compile cannot be combined in 16-mixed: remove one, or use bf16-mixed")
        if self.decay_everything and not self.weight_decay:
            raise ValueError("decay_everything has no effect if weight_decay is 0")
        return self


class Recipe(Config):
    """One pre-training run."""

    model: ImitateConfig = ImitateConfig()
    pretrained: bool = True  # the image encoder starts from timm's ImageNet weights
    # weights to start from instead: FILE or FOLDER (a run, an exported model, a published encoder), timm:NAME, or
    # hf-hub:OWNER/NAME@REVISION
    init: Annotated[str | None, AfterValidator(check_init)] = None
    text: str = "lsa"  # lsa[-WIDTH], bert-small[:STEPS], hf:ID@REVISION[:POOLING] or hf:FOLDER[:POOLING]
    labels_as_text: bool = False  # sentences made from the labels, for images without a report
    objective: SerializeAsAny[ObjectiveOptions] = ImitateOptions()
    augment: AugmentConfig = AugmentConfig()
    training: TrainingConfig = TrainingConfig()

    @field_validator("objective", mode="before")
    @classmethod
    def _own_options(cls, given: Any) -> Any:
        """The options of the objective that is named."""
        if not isinstance(given, dict):
            return given
        name = str(given.get("name", "imitate"))
        options = objective_options(name)
        known = set().union(*(each.model_fields for each in OPTIONS.values())) - options.model_fields.keys()
        if others := sorted(given.keys() & known):
            raise ValueError(
                f"{name} has no {', '.join(others)}: remove what another objective reads, or replace all options by "
                f"objective={{name: {name}}}"
            )
        return validate(options, {**given, "name": name}, where=name)

    @model_validator(mode="after")
    def _reads_the_texts(self) -> "Recipe":
        if self.labels_as_text and not self.objective.model.get("reads_text", True):
            raise ValueError(f"labels_as_text has no effect: objective {self.objective.name} reads no text")
        if self.training.trains_text:
            self._check_trained_text()
        if getattr(self.objective, "grounding", 0) and self.model.aggregation != "spatial":
            raise ValueError("objective.grounding compares positions: it needs model.aggregation spatial")
        if getattr(self.objective, "grounding", 0) and "findings" not in self.model.branches:
            raise ValueError("objective.grounding needs a text of the findings branch in model.texts")
        if isinstance(self.objective, ImitateOptions) and isinstance(self.objective.visual_visual, tuple):
            for branch, weight in self.objective.views_weights.items():
                if weight and branch not in self.model.branches:
                    raise ValueError(f"objective.visual_visual: {branch} has no text in model.texts: give it weight 0")
        self._check_statistics()
        sides, last = self.training.image_sizes, self.model.image_size
        if sides and (sides[-1] != last or max(sides) > last):
            raise ValueError(f"training.image_sizes {sides} must end with model.image_size {last}, the largest")
        return self

    def _check_statistics(self) -> None:
        read = {level.text for level in self.resolved().model.text_levels}
        if self.model.text_statistics == "section" and not set(SECTIONS) <= read:
            raise ValueError(
                "model.text_statistics: section needs both sections as texts to train on; missing: "
                f"{', '.join(section for section in SECTIONS if section not in read)}"
            )

    def _check_trained_text(self) -> None:
        own = self.objective
        if not own.model.get("reads_text", True):
            raise ValueError(f"there is no text encoder to train: objective {own.name} reads no text")
        if self.text.startswith("lsa"):
            raise ValueError(f"text: {self.text} has no layers to train: use bert-small or hf:<id>@<revision>")
        field = type(own).model_fields.get("identical")
        if field and getattr(own, "identical", None) != field.default and not getattr(own, "prior", None):
            raise ValueError(
                "objective.identical needs stored text embeddings, which a trained text encoder does not have"
            )

    def without_effect(self) -> list[str]:
        """Settings of the model other than the defaults that the objective replaces or the aggregation ignores."""
        own, final = self.model, self.resolved().model
        idle = set().union(*READ.values()) - set(READ[final.aggregation] if final.levels else ())
        return [
            f"model.{name}"
            for name, field in type(own).model_fields.items()
            if name in own.model_fields_set
            and (value := getattr(own, name)) != field.default
            and (name in idle or getattr(final, name) != value)
        ]

    def resolved(self) -> "Recipe":
        """With what the objective asks of the model, and with what the model is to remember of the objective."""
        own = self.objective
        found = {**own.model, "temperature": own.temperature, "objective": own.name}
        found["temperature_learned"] = bool(getattr(own, "learn_temperature", False))
        found["grounding"] = getattr(own, "grounding", 0) > 0
        return self.model_copy(update={"model": self.model.model_copy(update=found)})


def objective_options(name: str) -> type[ObjectiveOptions]:
    """The options of a built-in objective, or of one of the entry-point group imitate.objectives."""
    if name in OPTIONS:
        return OPTIONS[name]
    found = plugins("imitate.objectives")
    if name not in found:
        raise UserError(f"there is no objective {name!r}; there are {', '.join([*OPTIONS, *found])}")
    options: type[ObjectiveOptions] = found[name].load().Options
    if not issubclass(options, ObjectiveOptions):
        raise UserError(f"the Options of objective {name} must be a subclass of imitate.config.ObjectiveOptions")
    return options


def plugins(group: str) -> dict[str, EntryPoint]:
    """The entry points that installed packages give in this group, by name; nothing of them is imported yet."""
    return {each.name: each for each in entry_points(group=group)}
