"""Every setting of a run, as frozen models that reject unknown keys; ``load_config`` reads them from YAML."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from imitate.errors import UserError
from imitate.names import ChannelChoice, Kernel, ObjectiveName, Precision, Resize, Texts

log = logging.getLogger(__name__)
BYTES = 2**18  # of a file; the largest of ours has 10,000
VALUES = 2**16  # with every alias written out
RENAMED = {
    ("Recipe", "views"): "augment",
    ("ImitateConfig", "fit"): "resize",
    ("Folder", "fit"): "resize",  # of a recipe in recipes/downstream
    ("fit", "squash"): "stretch",
    ("fit", "pad"): "letterbox",
}
"""Keys, by the model that had them, and values, by their key, of version 0.1, which are read until version 0.3."""


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImitateConfig(Config):
    """The architecture; saved as ``config.json`` beside the weights."""

    backbone: str = "resnet50"  # any timm name, CNN or ViT
    backbone_options: dict[str, Any] = {}  # passed on to timm.create_model
    prepared_size: int = 256  # side of the prepared images
    image_size: int = 224  # side of the crop that the encoder sees
    resize: Resize = "stretch"  # how an image was brought into the prepared square
    projections: tuple[str, ...] | None = None  # that it learns from; None: those that each folder selects by default
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    levels: tuple[int, ...] = (
        1,
        2,
        3,
        4,
    )  # that the findings branch reads, 1 shallow; none: it reads the pooled feature
    keep: tuple[float, ...] = (0.25, 0.15, 0.10, 0.10)  # share of channels drawn at each of these levels
    channel_draw: ChannelChoice = "replacement"  # distinct: without; sample: anew for each sample, with
    feed_forward: bool = False  # LayerNorm and a feed-forward block after the attention
    grid: int = Field(16, ge=1)  # a channel becomes a token of grid x grid features
    slots: int = 512  # tokens after zero-padding
    heads: int = 4
    joint_width: int = 512
    text_width: int = 768
    texts: Texts = "sections"  # what the branches learn from; swapped: each the other's; report: both the whole report

    @model_validator(mode="after")
    def _levels_have_shares(self) -> "ImitateConfig":
        if len(self.levels) != len(self.keep):
            raise ValueError(f"levels {self.levels} and keep {self.keep} must have one entry each a level")
        if not set(self.levels) <= {1, 2, 3, 4}:
            raise ValueError(f"levels are among 1, 2, 3, 4, not {self.levels}")
        if not all(0 < share <= 1 for share in self.keep):
            raise ValueError(f"keep holds shares in (0, 1], not {self.keep}")
        if self.image_size > self.prepared_size:
            raise ValueError(f"image_size {self.image_size} exceeds prepared_size {self.prepared_size}")
        return self


class ObjectiveConfig(Config):
    """``imitate`` is the loss of REFERENCE section 3 and 4: clinical-informed contrast, two views.

    The others are baselines (losses/baselines.py) with one image embedding and the whole report as one caption.
    """

    name: ObjectiveName = "imitate"
    kernel: Kernel = "exp"
    kernel_lambda: float = 0.2
    prior_weight: float | None = Field(None, ge=0)  # factor of k(P) in the target; None: the temperature, as published
    identical: Literal["kernel", "one", "ignored"] = (
        "kernel"  # samples of one text: by k(P), as k(P) = 1, no candidates
    )
    normalise_targets: bool = False  # each row of the target sums to one
    temperature_text: float = Field(0.07, gt=0)  # image with text
    temperature_views: float = Field(0.2, gt=0)  # view with view
    views: Literal[1, 2] = 2
    visual_visual: bool = True  # the two view-with-view terms; they need two views
    negatives: Literal["global", "rank"] = "global"

    @model_validator(mode="after")
    def _has_its_views(self) -> "ObjectiveConfig":
        if self.name == "simclr" and self.views != 2:
            raise ValueError(f"simclr compares two views, not {self.views}")
        return self


class AugmentConfig(Config):
    """Random views, drawn on the device as one warp a batch."""

    horizontal_flip: float = 0.5
    vertical_flip: float = 0.5
    rotation: float = 30.0  # degrees, uniform in +-
    scale: float = 0.0  # zoom uniform in 1 +- scale
    perspective: float = 0.5  # distortion scale
    perspective_probability: float = 0.5
    autocontrast: float = 0.5


class TrainingConfig(Config):
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(128, ge=2)  # global: over all processes
    learning_rate: float = Field(2e-4, gt=0)
    final_learning_rate: float = 1e-8
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = 0.05
    decay_everything: bool = False  # True: also normalisation, biases, embeddings, as published
    clip_gradient: float | None = None
    precision: Precision = "bf16-mixed"
    sync_batchnorm: bool = False  # statistics of the global batch; a backbone that has them needs GPUs
    chunk: int | None = Field(None, ge=1)  # samples of a process in the backbone at once; the loss sees the whole batch
    compile: Literal["default", "reduce-overhead"] | None = None  # torch.compile's mode for the backbone
    seed: int = 0
    log_every: int = 10  # steps
    checkpoint_every: int = 500  # steps; every epoch's end too
    devices: int | str = "auto"  # processes on this machine
    nodes: int = 1


class Recipe(Config):
    """One pre-training run."""

    model: ImitateConfig = ImitateConfig()
    pretrained: bool = True  # start from timm's ImageNet weights
    text: str = "lsa"  # lsa, lsa-<width>, or hf:<id>@<revision>[:mean]
    labels_as_text: bool = False  # sentences made from the labels, for images without a report
    objective: ObjectiveConfig = ObjectiveConfig()
    augment: AugmentConfig = AugmentConfig()
    training: TrainingConfig = TrainingConfig()

    def resolved(self) -> "Recipe":
        """A baseline's model has one image embedding, of the pooled feature, and learns from the whole report."""
        if self.objective.name == "imitate":
            return self
        one = {"levels": (), "keep": (), "texts": "report"}
        return self.model_copy(update={"model": self.model.model_copy(update=one)})


def data_of(recorded: dict[str, Any]) -> dict[str, Any]:
    """What config.yaml says of the data: ``paths``, ``fingerprints`` and ``weights``; version 0.1 knew one folder."""
    if "path" not in recorded:
        return recorded
    return {"paths": [recorded["path"]], "fingerprints": [recorded.get("fingerprint")], "weights": []}


AnyConfig = TypeVar("AnyConfig", bound=Config)
Where = Callable[[tuple[int | str, ...]], str]


def load_config(kind: type[AnyConfig], path: Path, overrides: dict[str, Any] | None = None) -> AnyConfig:
    """Read a YAML file into ``kind``; ``overrides`` maps dotted keys to values. Raises UserError in one line.

    A path such as recipes/tiny.yaml, where there is no such file, means the one that comes with the package.
    """
    found = find_recipe(path)
    if not found.is_file():
        raise UserError(f"no recipe at {path}: give the path of a YAML file such as recipes/tiny.yaml")
    values = {str(key): value for key, value in read_yaml(found, holds="keys and values").items()}
    values = current(kind, values, where=str(path))
    for key, value in (overrides or {}).items():
        _override(kind, values, key, value)

    def place(location: tuple[int | str, ...]) -> str:
        key = ".".join(map(str, location))
        if any(f"{each}.".startswith(f"{key}.") or key.startswith(f"{each}.") for each in overrides or {}):
            return f"settings over {path}"
        return f"{path}{_line(found, location)}"

    return validate(kind, values, where=place)


def dotted(kind: type[Config], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``{"training": {"epochs": 3}}`` -> {"training.epochs": 3}: only the model's sections are taken apart."""
    flat: dict[str, Any] = {}
    for key, value in changes.items():
        field = kind.model_fields.get(key)
        section = field.annotation if field else None
        if isinstance(section, type) and issubclass(section, Config) and isinstance(value, Mapping):
            flat |= {f"{key}.{name}": each for name, each in dotted(section, value).items()}
        else:
            flat[key] = value
    return flat


def find_recipe(path: Path) -> Path:
    """The file itself; where there is none, recipes/NAME.yaml means the one that comes with the package."""
    return path if path.is_file() or path.parts[:1] != ("recipes",) else shipped(path)


def current(kind: type[Config], values: dict[Any, Any], *, where: str) -> dict[Any, Any]:
    """With the names of today in place of those in ``RENAMED``, each of which is logged."""
    found = {}
    for key, value in values.items():
        name = RENAMED.get((kind.__name__, key), key) if isinstance(key, str) else key
        if name != key and name not in values:
            log.warning("%s: %s is called %s now", where, key, name)
            key, value = name, RENAMED.get((key, value), value) if isinstance(value, str) else value
        part = _part(kind, key)
        found[key] = current(part, value, where=where) if part and isinstance(value, dict) else value
    return found


def _part(kind: type[Config], key: Any) -> type[Config] | None:
    """The model of the settings below ``key``."""
    annotation = kind.model_fields[key].annotation if key in kind.model_fields else None
    models = [
        each for each in (annotation, *get_args(annotation)) if isinstance(each, type) and issubclass(each, Config)
    ]
    return models[0] if models else None


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _override(kind: type[Config], values: dict[Any, Any], key: str, value: Any) -> None:
    """Put the value of a dotted key into ``values``."""
    setting = current(kind, _nested(key, value), where=f"setting {key}")
    for _ in key.split(".")[1:]:
        ((name, setting),) = setting.items()
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise UserError(f"setting {key}: {name} is {values!r}, which has no parts")
    values.update(setting)


def shipped(recipe: Path) -> Path:
    """Where recipes/NAME.yaml of the repository lies: beside the sources, or in the installed package."""
    beside = Path(__file__).parents[2] / recipe
    return beside if beside.is_file() else Path(__file__).parent / recipe


def parse_settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """``("training.epochs=3",)`` -> {"training.epochs": 3}; values are YAML. UserError for what is no key=value."""
    parsed = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"setting {pair!r} has no value: write it as key=value")
        parsed[key] = parse_yaml(value, where=f"setting {pair!r}: the value")
    return parsed


def validate(kind: type[AnyConfig], values: dict[Any, Any], *, where: str | Where) -> AnyConfig:
    """``kind(**values)`` with the first error in one line, after ``where`` the value comes from.

    Names of an earlier version are accepted.
    """
    try:
        return kind.model_validate(current(kind, values, where=where if isinstance(where, str) else where(())))
    except ValidationError as error:
        first = error.errors()[0]
        where = where if isinstance(where, str) else where(first["loc"])
        key = ".".join(str(part) for part in first["loc"]) or "(root)"
        if first["type"] == "extra_forbidden":
            raise UserError(f"{where}: unknown key {key!r}; known: {', '.join(_known(kind, first['loc']))}") from error
        if first["type"] == "value_error":  # of several keys together
            where = f"{where}: {key}" if first["loc"] else where
            raise UserError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error
        raise UserError(f"{where}: {key} = {first['input']!r}: {first['msg']}") from error


def _line(path: Path, location: tuple[int | str, ...]) -> str:
    """Where in a YAML file a key stands; "" where the file has no such key."""
    node: yaml.Node | None = yaml.compose(path.read_text(encoding="utf-8-sig"), _Bounded)
    line = ""
    for part in location:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        key, node = next((pair for pair in pairs if pair[0].value == str(part)), (None, None))
        if key is None:
            break
        line = f", line {key.start_mark.line + 1}"
    return line


def _known(kind: type[Config], location: tuple[int | str, ...]) -> list[str]:
    model: Any = kind
    for part in location[:-1]:
        model = model.model_fields[part].annotation
    return sorted(model.model_fields)


def read_yaml(path: Path, *, holds: str) -> dict[Any, Any]:
    """The mapping in a file, {} of an empty one. UserError where it is none; ``holds`` says what it should be."""
    try:
        if path.stat().st_size > BYTES:
            raise UserError(f"{path} has {path.stat().st_size} bytes, more than {BYTES}: it must hold {holds}")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    values = parse_yaml(text, where=str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold {holds}, not {type(values).__name__}")
    return values


def parse_yaml(text: str, *, where: str) -> Any:
    """UserError names ``where`` the text is from."""
    try:
        return yaml.load(text, _Bounded)
    except Exception as error:  # over a date such as 2024-13-01 its constructors raise whatever they like
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"{where} is not valid YAML: {reason}") from error


class _Bounded(yaml.SafeLoader):
    """Safe, not recursive, and with its aliases written out no larger than ``VALUES``: ten lines can name gigabytes."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._weights: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        is_alias = self.check_event(yaml.AliasEvent)
        node: yaml.Node | None = super().compose_node(parent, index)
        assert node is not None
        if not is_alias:
            parts = node.value if isinstance(node.value, list) else []
            flat = [each for part in parts for each in (part if isinstance(part, tuple) else (part,))]
            self._weights[node] = 1 + sum(self._weights[each] for each in flat)
        if node not in self._weights:
            raise yaml.YAMLError("an alias within what it stands for")
        if self._weights[node] > VALUES:
            raise yaml.YAMLError(f"more than {VALUES} values")
        return node
