"""A published encoder of another group as an ``Encoder``."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from imitate.config import Preprocessing
from imitate.data.corpus import Corpus
from imitate.data.text_cache import TextCache
from imitate.errors import UserError
from imitate.inference.base import TEMPERATURE
from imitate.inference.encoder import Encoder, Vectors
from imitate.models import peers
from imitate.models.peers.base import Family, Peer
from imitate.models.types import ImageFeatures, Images, TextEncoder

log = logging.getLogger(__name__)


class PeerEncoder(Encoder):
    """A ``Peer``. Its text encoder already projects into the joint space."""

    def __init__(
        self, name: str, family: Family, peer: Peer, preprocessing: Preprocessing, cache: Path | None = None
    ) -> None:
        super().__init__(name, peer.image, preprocessing)
        self.family, self.peer = family, peer
        self.text = cast(TextEncoder, peer.text) if peer.text is not None and peer.text.tokenizer else None
        self.temperature = peer.temperature or TEMPERATURE
        self.scoring = peer.scoring
        self._cache = TextCache(self.text, cache and cache / "text") if self.text else None
        asks = peer.queries or peer.text
        self.asks = cast(TextEncoder, asks) if peer.decoder and asks is not None and asks.tokenizer else None
        parts = (peer.image, peer.head, peer.decoder)
        self._vision = nn.ModuleList([each for each in parts if each is not None])

    @property
    def lacks(self) -> str:
        if self.peer.text is None:
            beside = f"; for --authors, put {self.family.vocabulary} beside it" if self.family.companion else ""
            return f"{self.name} ({self.family.title}) has no text encoder{beside}"
        return (
            f"{self.name} ({self.family.title}) has no vocabulary: put {self.family.vocabulary} beside the weights, "
            "or import it with --text FOLDER"
        )

    @property
    def backbone(self) -> str:
        return self.family.title

    @property
    def _module(self) -> nn.Module:
        return self._vision

    def look(self, images: Images) -> tuple[dict[str, Tensor], ImageFeatures]:
        features: ImageFeatures = self.image(images)
        return {"image": self.peer.embed(features)}, features

    @torch.inference_mode()
    def ask(self, prompts: list[str]) -> tuple[Tensor, ...]:
        """What ``decode`` needs of the prompts."""
        text = self.peer.queries or self.peer.text
        assert self.peer.decoder is not None and text is not None
        read = self.peer.decoder.read(text.to(self._device), prompts)
        return tuple(each.to(self._device) for each in read)

    @torch.inference_mode()
    def decode(
        self, pixels: UInt8[Tensor, "batch size size"], asked: tuple[Tensor, ...]
    ) -> Float[Tensor, "batch prompts"]:
        """The authors' scores of images against prompts."""
        assert self.peer.decoder is not None
        scores: Tensor = self.peer.decoder(self.features(pixels), *asked)
        return scores

    @property
    def together(self) -> bool:
        """Whether what is asked together decides the scores, by one prompt a class."""
        return self.peer.decoder is not None and self.peer.decoder.together

    def embed_texts(self, texts: list[str]) -> Vectors | None:
        if self.text is None or self.peer.text is None:
            return None
        self.peer.text.to(self._device)
        return F.normalize(self.text.encode(texts).to(self._device))

    def embed_reports(self, texts: list[str], section: str | None = None) -> Vectors | None:
        """Rounded to float16, as they are stored."""
        if self._cache is None or self.peer.text is None:
            return None
        self.peer.text.to(self._device)
        self._cache.fill(texts, device=str(self._device))
        return F.normalize(torch.from_numpy(self._cache.embed(texts)).float().to(self._device))

    @property
    def _device(self) -> torch.device:
        return next(self.peer.image.parameters()).device


class PeerEnsemble(Encoder):
    """Several checkpoints of one family, whose probabilities its authors average; for their zero-shot scores alone.

    One is in memory at a time, and the first.
    """

    def __init__(self, name: str, checkpoints: list[Path], load: Callable[[Path], PeerEncoder | None]) -> None:
        first = load(checkpoints[0])
        assert first is not None
        super().__init__(name, first.image, first.preprocessing)
        self.checkpoints, self._load = tuple(checkpoints), load
        self.text, self.scoring, self._first = first.text, first.scoring, first

    @property
    def lacks(self) -> str:
        return self._first.lacks

    @property
    def backbone(self) -> str:
        return f"{self._first.backbone}, {len(self.checkpoints)} checkpoints"

    @cached_property
    def identity(self) -> str:
        return hashlib.sha256(" ".join(each.identity for each in self.members()).encode()).hexdigest()

    def members(self) -> Iterator[PeerEncoder]:
        yield self._first
        yield from filter(None, map(self._load, self.checkpoints[1:]))


def load_peer(
    path: Path, *, name: str | None = None, data: Corpus | None = None, cache: Path | None = None, plain: bool = True
) -> PeerEncoder | PeerEnsemble | None:
    """A file or folder of a published encoder; None where it is none. Without ``plain`` only those of a family.

    With ``data`` the images of that folder are taken whatever their size, and what differs from the authors'
    preparation is warned of; and a folder may hold several checkpoints that the authors average. UserError: see
    ``peers.load_peer``.
    """
    if several := peers.averaged_in(path):
        if data is None:
            raise UserError(f"{path} holds {len(several)} checkpoints: give one of them, such as {several[0]}")
        return PeerEnsemble(name or path.resolve().name, several, partial(_load_one, data=data))
    return _load_one(path, name=name, data=data, cache=cache, plain=plain)


def _load_one(
    path: Path, *, name: str | None = None, data: Corpus | None = None, cache: Path | None = None, plain: bool = True
) -> PeerEncoder | None:
    found = peers.load_peer(path, plain=plain)
    if found is None:
        return None
    family, peer = found
    wanted = peer.preprocessing
    shown = name or (path.stem if path.is_file() else path.resolve().name)
    if family.name == "plain" and data is not None:  # which has no preparation of its own
        wanted = of_size(wanted, data)
    elif data is not None and (data.size, data.resize) != (wanted.prepared_size, wanted.resize):
        log.warning(
            "%s holds images of %d px by %s, %s was made for %d px by %s: they are resized; for its authors' pixels "
            "run `imitate prepare` with --size %d --resize %s",
            *(data.root, data.size, data.resize, family.title, wanted.prepared_size, wanted.resize),
            *(wanted.prepared_size, wanted.resize),
        )
        wanted = of_size(wanted, data)
    return PeerEncoder(shown, family, peer, wanted, cache)


def of_size(wanted: Preprocessing, data: Corpus) -> Preprocessing:
    """The same part of an image at the size of the folder's; the network resizes it."""
    seen = max(8, round(data.size * wanted.image_size / wanted.prepared_size))
    seen -= (data.size - seen) % 2  # the same margin on both sides
    if seen < 8:
        raise UserError(f"{data.root} holds images of {data.size} px, which are too small")
    return wanted.model_copy(update={"prepared_size": data.size, "image_size": seen, "resize": data.resize})
