"""Every setting of a run, as frozen models that reject unknown keys; ``load_config`` reads them from YAML."""

from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    field_validator,
    model_validator,
)

from imitate.config.backbone import check_backbone, check_options
from imitate.config.base import Config, validate
from imitate.config.files import parse_yaml, read_yaml
from imitate.config.loading import data_of, dotted, find_recipe, load_config, parse_settings, shipped
from imitate.errors import UserError
from imitate.names import ChannelChoice, Kernel, Precision, Resize, Texts

__all__ = [
    "AugmentConfig",
    "BaselineOptions",
    "CaptionOptions",
    "Config",
    "ImitateConfig",
    "ImitateOptions",
    "ObjectiveOptions",
    "Preprocessing",
    "Recipe",
    "SimclrOptions",
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


Percent = Annotated[float, Field(ge=0, le=100)]


class Preprocessing(Config):
    """What an encoder wants of an image: a centre crop of a prepared one, its gray values scaled and normalised."""

    prepared_size: int = Field(256, ge=8, le=8192)  # side of the prepared images
    image_size: int = Field(224, ge=8)  # side of the crop that the encoder sees
    resize: Resize = "stretch"  # how an image was brought into the prepared square
    percentiles: tuple[Percent, Percent] | None = None  # of its gray values, which became black and white
    range: tuple[float, float] = (0.0, 1.0)  # of the gray values before normalisation, black and white
    mean: tuple[float, ...] = Field((0.485, 0.456, 0.406), min_length=1)  # an entry for each channel
    std: tuple[PositiveFloat, ...] = Field((0.229, 0.224, 0.225), min_length=1)

    @property
    def channels(self) -> int:
        return len(self.mean)

    @model_validator(mode="after")
    def _fits_together(self) -> "Preprocessing":
        if self.image_size > self.prepared_size:
            raise ValueError(f"image_size {self.image_size} exceeds prepared_size {self.prepared_size}")
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean {self.mean} and std {self.std} must have one entry for each channel")
        if self.range[0] >= self.range[1]:
            raise ValueError(f"range {self.range} must rise from black to white")
        return self


WIDEST = 2**16  # of an embedding


class ImitateConfig(Preprocessing):
    """The architecture; saved as ``config.json`` beside the weights."""

    backbone: Annotated[str, AfterValidator(check_backbone)] = "resnet50"  # any timm name, CNN or ViT
    backbone_options: Annotated[dict[str, Any], AfterValidator(check_options)] = Field({})  # of timm.create_model
    projections: tuple[str, ...] | None = None  # that it learns from; None: those that each folder selects by default
    levels: tuple[int, ...] = (
        1,
        2,
        3,
        4,
    )  # that the findings branch reads, 1 shallow; none: it reads the pooled feature
    keep: tuple[float, ...] = (0.25, 0.15, 0.10, 0.10)  # share of channels drawn at each of these levels
    channel_draw: ChannelChoice = "replacement"  # distinct: without; sample: anew for each sample, with
    feed_forward: bool = False  # LayerNorm and a feed-forward block after the attention
    grid: int = Field(16, ge=1, le=64)  # a channel becomes a token of grid x grid features
    slots: int = Field(512, ge=1, le=WIDEST)  # tokens after zero-padding
    heads: int = Field(4, ge=1)
    joint_width: int = Field(512, ge=1, le=WIDEST)
    text_width: int = Field(768, ge=1, le=WIDEST)
    texts: Texts = "sections"  # what the branches learn from; swapped: each the other's; report: both the whole report
    temperature: float = Field(0.07, gt=0)  # between image and text, as in training; of the softmax over prompts
    objective: str = ""  # that trained the model; empty: not recorded
    reads_text: bool = True  # False: the objective read no text, so that the text head is untrained

    @model_validator(mode="after")
    def _levels_have_shares(self) -> "ImitateConfig":
        if len(self.levels) != len(self.keep):
            raise ValueError(f"levels {self.levels} and keep {self.keep} must have one entry each a level")
        if not set(self.levels) <= {1, 2, 3, 4}:
            raise ValueError(f"levels are among 1, 2, 3, 4, not {self.levels}")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels {self.levels} name one twice")
        if self.grid**2 % self.heads:
            raise ValueError(f"heads {self.heads} must divide {self.grid**2}, the features of a token (grid x grid)")
        if not all(0 < share <= 1 for share in self.keep):
            raise ValueError(f"keep holds shares in (0, 1], not {self.keep}")
        return self


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
    kernel_lambda: float = Field(0.2, ge=0)
    prior_weight: float | None = Field(None, ge=0)  # factor of k(P) in the target; None: the temperature, as published
    identical: Literal["kernel", "one", "ignored"] = (
        "kernel"  # samples of one text: by k(P), as k(P) = 1, no candidates
    )
    normalise_targets: bool = False  # each row of the target sums to one
    temperature_text: float = Field(0.07, gt=0)  # image with text
    temperature_views: float = Field(0.2, gt=0)  # view with view
    visual_visual: bool = True  # the two view-with-view terms; they need two views


class BaselineOptions(ObjectiveOptions):
    """One image embedding, of the pooled feature, and one caption, the whole report (losses/baselines.py)."""

    model: ClassVar[dict[str, Any]] = {"levels": (), "keep": (), "texts": "report"}

    negatives: Negatives = "global"


class CaptionOptions(BaselineOptions):
    """CLIP and ConVIRT."""

    temperature_text: float = Field(0.07, gt=0)


class SimclrOptions(BaselineOptions):
    name: str = "simclr"
    temperature_views: float = Field(0.2, gt=0)

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


Fraction = Annotated[float, Field(ge=0, le=1)]


class AugmentConfig(Config):
    """Random views, drawn on the device as one warp a batch."""

    horizontal_flip: Fraction = 0.5
    vertical_flip: Fraction = 0.5
    rotation: float = Field(30.0, ge=0, le=180)  # degrees, uniform in +-
    scale: float = Field(0.0, ge=0, lt=1)  # zoom uniform in 1 +- scale
    perspective: Fraction = 0.5  # distortion scale
    perspective_probability: Fraction = 0.5
    autocontrast: Fraction = 0.5


class TrainingConfig(Config):
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(128, ge=2)  # global: over all processes
    learning_rate: float = Field(2e-4, gt=0)
    final_learning_rate: float = Field(1e-8, ge=0)
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    decay_everything: bool = False  # True: also normalisation, biases, embeddings, as published
    clip_gradient: PositiveFloat | None = None
    precision: Precision = "bf16-mixed"
    sync_batchnorm: bool | Literal["heads"] = (
        "heads"  # statistics of the global batch; true: the backbone's too, on GPUs
    )
    chunk: int | None = Field(None, ge=1)  # samples of a process in the backbone at once; the loss sees the whole batch
    compile: Literal["default", "reduce-overhead"] | None = None  # torch.compile's mode for the backbone
    seed: int = Field(0, ge=0, lt=2**32)
    log_every: int = Field(10, ge=1)  # steps
    checkpoint_every: int = Field(500, ge=1)  # steps; also at every epoch's end and validation
    validate_every: PositiveInt | None = None  # steps; None: every epoch's end
    snapshot_every: PositiveInt | None = None  # steps whose weights are kept, in snapshots/; None: of none
    keep_best: int = Field(1, ge=1)  # how many of the best validations' weights are kept; more than one in top/
    deterministic: bool = False  # only algorithms that repeat their bits; on GPUs they are slower
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"] = "auto"  # Fabric's, for several processes
    devices: PositiveInt | Literal["auto"] = "auto"  # processes on this machine
    nodes: int = Field(1, ge=1)


class Recipe(Config):
    """One pre-training run."""

    model: ImitateConfig = ImitateConfig()
    pretrained: bool = True  # start from timm's ImageNet weights
    text: str = "lsa"  # lsa, lsa-<width>, or hf:<id>@<revision>[:mean]
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
        return validate(objective_options(name), {**given, "name": name}, where=name)

    def resolved(self) -> "Recipe":
        """With what the objective asks of the model, and with what the model is to remember of the objective."""
        own = self.objective
        found = {**own.model, "temperature": own.temperature, "objective": own.name}
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
