"""What every published encoder is to the rest of the program: its record, and the network that is built from a file."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from imitate.config import Preprocessing
from imitate.models.peers.images import PeerImage
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText
from imitate.models.types import ImageFeatures

SIDE_KEY = "image_size"  # of a configuration
Shape = tuple[int | None, ...]
Gives = Literal["features", "pyramid", "image vectors", "text vectors"]
FEATURES: tuple[Gives, ...] = ("features", "pyramid")
VECTORS: tuple[Gives, ...] = ("features", "pyramid", "image vectors", "text vectors")


@dataclass(frozen=True)
class Scoring:
    """How the authors decide whether a class is present: prompts made of its name, and how cosines become a score.

    Without templates the prompts are the program's own. ``ensemble`` and ``scoring`` are the settings of the zero-shot
    task.
    """

    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    ensemble: Literal["embedding", "score", "max"] = "embedding"
    scoring: Literal["margin", "positive", "standardised"] = "margin"


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint. ``signs`` are the tensors, with their shapes, by which it is recognised; None is any size.

    ``absent`` are tensors that it does not have, ``unused`` patterns of those that it has and that nothing here needs.
    ``parts`` are the dictionaries within a file that may hold the tensors, "" the file itself; ``joined`` are several
    that are read as one, with their names in front.
    """

    name: str
    title: str
    where: str  # its authors distribute it
    licence: str
    gives: tuple[Gives, ...]
    verified: str  # against what, in the tests
    signs: Mapping[str, Shape]
    build: Callable[[State], "Peer"]
    absent: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    parts: tuple[str, ...] = ("", "state_dict", "model", "model_state_dict")
    joined: tuple[str, ...] = ()
    companion: tuple[str, ...] = ()  # tensors of which the text encoder's file has one, where that is another file
    vocabulary: str = ""  # what has to lie beside the weights, for text
    note: str = ""  # what a user should know
    sizes: tuple[int, ...] = ()  # sides of images that the tensors do not distinguish, the one to take first
    averaged: bool = False  # the authors take the mean of several checkpoints
    particular: bool = True  # so that a file with most of its signs is one of this family that is damaged


class Decoder(nn.Module):
    """How authors score images against prompts where that is no product of vectors.

    ``together``: the classes are asked at once, by one prompt each, and the score of one depends on the others.
    """

    together: ClassVar[bool] = False

    def read(self, text: PeerText, prompts: list[str]) -> tuple[Tensor, ...]:
        """What the prompts ask, for ``forward``: their vectors, unless a subclass needs more."""
        return (text.encode(prompts),)

    def forward(self, features: ImageFeatures, *asked: Tensor) -> Float[Tensor, "images prompts"]:
        raise NotImplementedError


class Peer(nn.Module):
    """An encoder of another group: images to features and to the joint space, and texts to the joint space.

    ``head`` takes ImageFeatures to the joint space; without one, the vectors are the pooled features. ``text`` is None
    where there is no text encoder; it cannot read before it has a tokenizer. ``decoder`` is how its authors score where
    that is no product of vectors; ``queries`` reads its prompts where ``text`` does not, without a joint space.
    """

    def __init__(
        self,
        image: PeerImage,
        preprocessing: Preprocessing,
        *,
        head: nn.Module | None = None,
        text: PeerText | None = None,
        temperature: float | None = None,
        scoring: Scoring | None = None,
        decoder: Decoder | None = None,
        queries: PeerText | None = None,
    ) -> None:
        super().__init__()
        self.image, self.head, self.text, self.decoder, self.queries = image, head, text, decoder, queries
        self.preprocessing, self.temperature, self.scoring = preprocessing, temperature, scoring

    def embed(self, features: ImageFeatures) -> Float[Tensor, "batch joint"]:
        """Not normalised."""
        vectors: Tensor = features.pooled if self.head is None else self.head(features)
        return vectors


class OfPooled(nn.Module):
    """A head that reads the pooled feature."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: ImageFeatures) -> Tensor:
        projected: Tensor = self.head(features.pooled)
        return projected


def linear(state: State, prefix: str, inputs: int) -> nn.Linear:
    """A linear layer of ``inputs``, with or without bias, as the file has it."""
    outputs = state.shape(f"{prefix}weight")[0]
    return state.fill(nn.Linear(inputs, outputs, bias=f"{prefix}bias" in state), prefix)


def temperature_of(state: State, name: str, default: float) -> float:
    """1 / exp of a stored logit scale."""
    return math.exp(-state.number(name, default))


def prepared(resize: Any, size: int, crop: int | None = None, **values: Any) -> Preprocessing:
    """``resize`` to a square of ``size``, of which the network sees the central ``crop``."""
    return Preprocessing(prepared_size=size, image_size=crop or size, resize=resize, **values)
