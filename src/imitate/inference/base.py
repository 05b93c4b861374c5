"""What a Predictor needs of a model, whatever computes it: arrays in and arrays out. Nothing here imports torch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from imitate.config import Preprocessing
from imitate.names import Branch, Section

if TYPE_CHECKING:
    from imitate.models.types import TextEncoder

TEMPERATURE = 0.07  # of the published models
BRANCHES: dict[Branch, tuple[Section, ...]] = {
    "both": ("findings", "impression"),
    "findings": ("findings",),
    "impression": ("impression",),
}
Vectors = Float[np.ndarray, "rows joint"]
Seen = Mapping[str, np.ndarray]
"""``findings`` and ``impression``, what an image has to be compared with each section; or ``image``, which is both."""


def of_branch(vectors: Mapping[str, Any], branch: Branch) -> list[Any]:
    """The vectors to compare, one a section of the branch; tensors or arrays."""
    return [vectors[section] if section in vectors else vectors["image"] for section in BRANCHES[branch]]


class BaseEncoder(ABC):
    """An encoder of images and, where ``has_text``, of texts. Vectors have unit norm."""

    name: str  # as shown in tables
    preprocessing: Preprocessing
    text: "TextEncoder | None" = None  # what knows which words say something
    temperature = TEMPERATURE  # of the softmax over positive and negative prompts
    whole_reports = True  # both sections of a report are read as one text
    has_maps = True  # can draw heat-maps
    precision = "float32"  # of the weights; calibrations are of float32 scores
    own_prompts: Mapping[str, Any] = {}  # the classes to ask unless others are named, with the sentences of both sides

    @property
    def has_text(self) -> bool:
        return self.text is not None

    @property
    def lacks(self) -> str:
        """Why there is no text, in words."""
        return f"{self.name} has no text encoder"

    @property
    @abstractmethod
    def backbone(self) -> str: ...

    @property
    @abstractmethod
    def identity(self) -> str:
        """The digest of the weights, the architecture and the preprocessing (tone aside)."""

    @abstractmethod
    def digest(self, beside: str = "") -> str:
        """Of the weights, also of the text encoder, and of what is ``beside`` them."""

    @property
    def own_calibration(self) -> dict[str, Any] | None:
        """That which is part of the model, where no file lies beside it."""
        return None

    def known_side(self, sentences: tuple[str, ...]) -> Float[np.ndarray, " joint"] | None:
        """The unit vector of these sentences, where it needs not be computed."""
        return None

    @abstractmethod
    def to(self, device: str) -> "BaseEncoder":
        """On the device, ready to compute."""

    @abstractmethod
    def vectors_of_images(self, pixels: UInt8[np.ndarray, "_ size size"]) -> dict[str, np.ndarray]:
        """Of prepared images, by section, or as ``image``."""

    @abstractmethod
    def vectors_of_texts(self, texts: list[str]) -> Vectors:
        """The caller knows that it has text."""

    def vectors_of_reports(self, texts: list[str], section: str | None = None) -> Vectors:
        """The same of many texts, of one ``section``, which may be kept for the next time."""
        return self.vectors_of_texts(texts)
