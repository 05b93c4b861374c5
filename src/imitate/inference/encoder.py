"""From what the user names to an encoder under test."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from imitate.config import ImitateConfig, Recipe, load_config
from imitate.data.prepared import Prepared
from imitate.data.text_cache import corpus
from imitate.errors import UserError
from imitate.models.image import ImageEncoder
from imitate.models.imitate import Imitate, freeze_all, seeded_model
from imitate.models.reference import load_encoder, read_state
from imitate.models.text import fit_or_load, load_text_encoder
from imitate.models.types import ImageFeatures, Images, TextEncoder


class Subject(NamedTuple):
    """The encoder under test."""

    name: str  # as shown in tables
    encoder: ImageEncoder
    config: ImitateConfig  # prepared_size, image_size, mean, std say how it wants its images
    model: nn.Module | None = None  # an Imitate, for the tasks that need text
    text: TextEncoder | None = None


class Pixels(nn.Module):
    """The plainest encoder: an image's own 24 x 24 gray pixels. What acquisition alone gives away."""

    side = 24

    def forward(self, images: Images) -> ImageFeatures:
        small = F.interpolate(images[:, :1], size=(self.side, self.side), mode="area")
        return ImageFeatures([small], small.flatten(1))


def load_subject(model: str, *, like: str | None, data: Prepared, seed: int) -> Subject:
    """``model`` is a run or model folder, an encoder file, ``random``, ``imagenet``, ``pixels`` or a timm name.

    ``like`` (a run, a recipe or a timm name; default resnet50) gives the architecture of random, imagenet and of an
    encoder file. ``seed`` is that of random weights.
    """
    path = Path(model)
    if path.is_dir():
        return load_folder(path)
    config, recipe_text = _architecture(like, data)
    if model == "pixels":
        return Subject("pixels", Pixels(), config)  # type: ignore[arg-type]
    if model == "random":
        text = _text(like, recipe_text, data)
        width = config.model_copy(update={"text_width": text.width if text else config.text_width})
        fresh = seeded_model(width, pretrained=False, seed=seed)
        freeze_all(fresh)
        return Subject("random", fresh.image, width, model=fresh, text=text)
    if path.suffix in {".pth", ".pt", ".ckpt", ".tar", ".bin", ".safetensors"}:
        encoder = ImageEncoder(config.backbone, options=config.backbone_options)
        load_encoder(encoder, read_state(path), where=model)
    elif model == "imagenet":
        encoder = _pretrained(config)
    else:
        config = config.model_copy(update={"backbone": model, "backbone_options": {}})
        encoder = _pretrained(config)
    freeze_all(encoder)
    return Subject(path.stem if path.suffix else model, encoder, config)


def choose_device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {name}: torch sees no GPU here, use --device cpu")
    return name


def load_folder(path: Path) -> Subject:
    """A run, a model within a run, or an exported model; without a text encoder where there is none."""
    inner = path / "model" if (path / "model").is_dir() else path
    model = Imitate.from_pretrained(inner)
    freeze_all(model)
    texts = [folder / "text" for folder in (path, path.parent) if (folder / "text" / "text.json").is_file()]
    return Subject(
        path.name, model.image, model.config, model=model, text=load_text_encoder(texts[0]) if texts else None
    )


def _architecture(like: str | None, data: Prepared) -> tuple[ImitateConfig, str | None]:
    if like is None:
        return _sized("resnet50", data), None
    path = Path(like)
    if path.suffix in {".yaml", ".yml"}:
        recipe = load_config(Recipe, path)
        return recipe.model, recipe.text
    if path.is_dir():
        return load_folder(path).config, None
    return _sized(like, data), None


def _sized(backbone: str, data: Prepared) -> ImitateConfig:
    """7/8 of the prepared side is seen: 224 of 256."""
    size = data.meta["size"]
    return ImitateConfig(backbone=backbone, prepared_size=size, image_size=size * 7 // 8)


def _text(like: str | None, spec: str | None, data: Prepared) -> TextEncoder | None:
    if like is not None and Path(like).is_dir():
        return load_folder(Path(like)).text
    return fit_or_load(spec, corpus(data)) if spec else None


def _pretrained(config: ImitateConfig) -> ImageEncoder:
    try:
        return ImageEncoder(config.backbone, pretrained=True, options=config.backbone_options)
    except UserError:
        raise
    except Exception as error:  # the hub's errors have no common base
        if torch.cuda.is_available() and isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        raise UserError(
            f"cannot get timm's weights for {config.backbone}: {str(error).strip().splitlines()[0][:200]}; "
            "without the network give a file of weights as --model"
        ) from error
