"""What an Imitate run, a timm network and a published encoder have in common, and how each is loaded by its name."""

import hashlib
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from imitate.config import ImitateConfig, Preprocessing, Recipe, load_config
from imitate.config.backbone import check_backbone
from imitate.data.augment import evaluation_view
from imitate.data.corpus import Corpus
from imitate.data.text_cache import TextCache, corpus
from imitate.errors import UserError
from imitate.inference.base import BaseEncoder
from imitate.inference.opening import of_torch
from imitate.models import hub, reference
from imitate.models.image import ImageEncoder, Pixels, is_network, pinned, statistics_of
from imitate.models.imitate import Imitate, freeze_all, seeded_model
from imitate.models.peers.base import Scoring
from imitate.models.text import fit_or_load, place, text_beside
from imitate.models.types import ImageFeatures, Images, TextEncoder
from imitate.names import SECTIONS

WORDS = ("random", "imagenet", "pixels")  # that name a model; any other bare string is a path
TIMM = "timm:"
Vectors = Float[Tensor, "rows joint"]
Named = Mapping[str, Tensor]  # as ``base.Seen``


class Encoder(BaseEncoder):
    """An encoder of images; subclasses also embed texts. ``image`` is the network, from normalised images to features.

    Pixels are prepared ones, on the device that ``to`` moved the encoder to.
    """

    text: TextEncoder | None = None
    device = "cpu"
    scoring: Scoring | None = None  # how the authors of a published encoder distinguish classes
    asks: TextEncoder | None = None  # what reads prompts for them, where they score by more than vectors

    def __init__(self, name: str, image: nn.Module, preprocessing: Preprocessing) -> None:
        self.name = name  # as shown in tables
        self.image: Any = image
        self.preprocessing = Preprocessing(**preprocessing.model_dump(include=set(Preprocessing.model_fields)))

    @property
    def backbone(self) -> str:
        return str(getattr(self.image, "name", self.name))

    @cached_property
    def identity(self) -> str:
        """The digest of the weights, the architecture and the preprocessing (tone aside); computed once."""
        return self.digest(f"{self.preprocessing.model_dump_json(exclude={'tone'})} {self._module!r}")

    def digest(self, beside: str = "") -> str:
        """Of the weights, also of the text encoder, and of what is ``beside`` them."""
        digest = hashlib.sha256(beside.encode())
        for name, tensor in self._module.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        digest.update(reads.identity.encode() if (reads := self.text or self.asks) else b"")
        return digest.hexdigest()

    @property
    def _module(self) -> nn.Module:
        """What has the weights."""
        image: nn.Module = self.image
        return image

    def to(self, device: str) -> "Encoder":
        """On the device, in eval mode."""
        self._module.eval().to(device)
        self.device = device
        return self

    @torch.inference_mode()
    def vectors_of_images(self, pixels: UInt8[np.ndarray, "_ size size"]) -> dict[str, np.ndarray]:
        found = self.embed_images(torch.from_numpy(pixels).to(self.device))
        return {name: vectors.cpu().numpy() for name, vectors in found.items()}

    @torch.inference_mode()
    def vectors_of_texts(self, texts: list[str]) -> np.ndarray:
        return _array(self.embed_texts(texts))

    @torch.inference_mode()
    def vectors_of_reports(self, texts: list[str], section: str | None = None) -> np.ndarray:
        return _array(self.embed_reports(texts, section))

    def prepare(self, pixels: UInt8[Tensor, "batch size size"]) -> Images:
        return evaluation_view(pixels, self.preprocessing)

    def features(self, pixels: UInt8[Tensor, "batch size size"]) -> ImageFeatures:
        """The pyramid and the pooled feature."""
        features: ImageFeatures = self.image(self.prepare(pixels))
        return features

    def embed_images(self, pixels: UInt8[Tensor, "batch size size"]) -> dict[str, Vectors]:
        """Unit vectors, by section, or as ``image``."""
        return {name: F.normalize(vectors) for name, vectors in self.look(self.prepare(pixels))[0].items()}

    def look(self, images: Images) -> tuple[dict[str, Tensor], ImageFeatures]:
        """The embeddings before normalisation, differentiable, and the features beneath them."""
        features: ImageFeatures = self.image(images)
        return {"image": features.pooled}, features

    def embed_texts(self, texts: list[str]) -> Vectors | None:
        """Unit vectors, on the encoder's device; None where ``has_text`` is False."""
        return None

    def embed_reports(self, texts: list[str], section: str | None = None) -> Vectors | None:
        """The same of many texts, of one ``section``, which may be kept for the next time."""
        return self.embed_texts(texts)


def _array(vectors: Vectors | None) -> np.ndarray:
    assert vectors is not None, "the caller asks for texts where there is a text encoder"
    return vectors.cpu().numpy()


class ImitateEncoder(Encoder):
    """A model of ours. What each branch learned from is decided here: a model of swapped sections is named by text."""

    def __init__(
        self, name: str, model: Imitate, text: TextEncoder | None = None, cache: TextCache | None = None
    ) -> None:
        """``cache`` keeps the embeddings of reports; by default in memory."""
        super().__init__(name, model.image, model.config)
        self.model, self.text = model, text
        self.temperature = model.config.temperature
        texts = {level.text for level in model.config.text_levels}
        self.whole_reports = not texts & set(SECTIONS)  # what was not learned from sections is compared with no section
        self._cache = cache or (TextCache(text) if text else None)

    @property
    def has_text(self) -> bool:
        return self.text is not None and self.model.config.reads_text

    @property
    def lacks(self) -> str:
        config = self.model.config
        return super().lacks if config.reads_text else f"{self.name} was trained by {config.objective}, without text"

    @property
    def _module(self) -> nn.Module:
        return self.model

    def look(self, images: Images) -> tuple[dict[str, Tensor], ImageFeatures]:
        seen = self.model.encode_image(images)
        return self.sections(seen.findings, seen.impression), seen.features

    def sections(self, findings: Tensor, impression: Tensor) -> dict[str, Tensor]:
        """The branches' embeddings by the section that each is to be compared with; as ``image`` where there is one."""
        config = self.model.config
        if not config.levels or len(config.branches) == 1:
            return {"image": findings if config.branches[-1] == "findings" else impression}
        learned = [(level.branch, level.text) for level in config.text_levels if level.text in SECTIONS]
        swapped = learned and all(branch != text for branch, text in learned)
        sections = reversed(SECTIONS) if swapped else SECTIONS
        return dict(zip(sections, (findings, impression), strict=True))

    def embed_texts(self, texts: list[str]) -> Vectors | None:
        if self.text is None or not self.has_text:
            return None
        place(self.text, str(self._device))
        return self._project(self.text.encode(texts))

    def embed_reports(self, texts: list[str], section: str | None = None) -> Vectors | None:
        """With the text encoder's output rounded to float16, as it is stored."""
        if self._cache is None or not self.has_text:
            return None
        self._cache.fill(texts, device=str(self._device))
        return self._project(torch.from_numpy(self._cache.embed(texts)).float(), section)

    def _project(self, encoded: Float[Tensor, "texts width"], section: str | None = None) -> Vectors:
        encode: Callable[..., Tensor] = self.model.encode_text
        if self.model.config.text_statistics == "section":
            encode = partial(encode, section=section)
        return torch.cat([F.normalize(encode(part.to(self._device))) for part in encoded.split(4096)])

    @property
    def _device(self) -> torch.device:
        return next((each.device for each in self.model.parameters()), torch.device("cpu"))


def load_encoder(
    model: str, *, like: str | None = None, data: Corpus, seed: int = 0, cache: Path | None = None
) -> Encoder:
    """``model`` is ``random``, ``imagenet``, ``pixels``, ``timm:NAME``, ``hf-hub:OWNER/NAME@REVISION``, or the path of
    a run, of a model folder, of a published encoder or of a file of weights.

    ``like`` (a run, a recipe or ``timm:NAME``; default timm:resnet50) gives the architecture of random, imagenet and of
    a file of weights. ``seed`` is that of random weights. ``cache`` is a folder that keeps embeddings of reports.
    """
    path = Path(model)
    if model not in WORDS and not model.startswith(TIMM):
        from imitate.inference.peer import load_peer  # which imports this module

        path, named = _existing(model), model if model.startswith(hub.HUB) else None
        if not hub.is_ours(path) and (peer := load_peer(path, name=named, data=data, cache=cache, plain=not like)):
            return peer
        if path.is_dir():
            return load_folder(path, name=named, cache=cache)
    config, recipe_text = _architecture(like, data)
    if model == "pixels":
        return Encoder("pixels", Pixels(), config)
    if model == "random":
        text = _text(like, recipe_text, data)
        width = config.model_copy(update={"text_width": text.width if text else config.text_width})
        fresh = seeded_model(width, pretrained=False, seed=seed)
        freeze_all(fresh)
        return ImitateEncoder("random", fresh, text, _cache(text, cache, *_beside(like)))
    if model.startswith(TIMM):
        name = _timm(model)
        config = config.model_copy(update={"backbone": name, "backbone_options": {}, **statistics_of(name)})
    pretrained = model == "imagenet" or model.startswith(TIMM)
    shape = {"size": config.image_size, "channels": config.channels}
    image = ImageEncoder(config.backbone, pretrained=pretrained, options=config.backbone_options, **shape)
    if not pretrained:
        reference.load_encoder(image, reference.read_state(path), where=model)
    freeze_all(image)
    return Encoder(model if pretrained else path.stem, image, config)


def _existing(model: str) -> Path:
    """UserError: no such path; with today's name of what was meant."""
    if not model.startswith(hub.HUB) and not Path(model).exists() and is_network(model):
        raise UserError(f"no model at {model}: for the network of timm, write {TIMM}{model}")
    return of_torch(hub.local_folder(model))


def _timm(name: str) -> str:
    try:
        return check_backbone(name.removeprefix(TIMM))
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error


def choose_device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {name}: PyTorch finds no GPU: use --device cpu")
    return name


def load_folder(path: Path, *, name: str | None = None, cache: Path | None = None) -> ImitateEncoder:
    """A run, a model within a run, or an exported model; without a text encoder where there is none.

    Embeddings of reports are read from where the run left them, too.
    """
    model = Imitate.from_pretrained(hub.model_within(path))
    freeze_all(model)
    text = text_beside(path)
    return ImitateEncoder(name or path.name, model, text, _cache(text, cache, *_beside(path)))


def _beside(run: Path | str | None) -> list[Path]:
    return [] if run is None else [folder / "text_cache" for folder in (Path(run), Path(run).parent)]


def _cache(text: TextEncoder | None, keep: Path | None, *also: Path) -> TextCache | None:
    return TextCache(text, keep and keep / "text", also=also) if text else None


def _architecture(like: str | None, data: Corpus) -> tuple[ImitateConfig, str | None]:
    if like is None:
        return _sized("resnet50", data), None
    path = Path(like)
    if path.suffix in {".yaml", ".yml"}:
        recipe = pinned(load_config(Recipe, path).resolved())
        text = recipe.text if recipe.model.reads_text else None
        return recipe.model.model_copy(update={"objective": ""}), text
    if path.is_dir():
        return load_folder(path).model.config, None
    if not like.startswith(TIMM):
        hint = f": for the network of timm, write {TIMM}{like}" if is_network(like) else ""
        raise UserError(f"--like {like}: give a run, a recipe or {TIMM}NAME{hint}")
    return _sized(_timm(like), data), None


def _sized(backbone: str, data: Corpus) -> ImitateConfig:
    """7/8 of the prepared side is seen: 224 of 256."""
    size = data.meta["size"]
    own = statistics_of(backbone)
    return ImitateConfig(backbone=backbone, prepared_size=size, image_size=size * 7 // 8, **own)


def _text(like: str | None, spec: str | None, data: Corpus) -> TextEncoder | None:
    run = like is not None and Path(like).is_dir()
    return load_folder(Path(str(like))).text if run else fit_or_load(spec, corpus(data)) if spec else None
