"""Types of tensors. Shapes are checked at run time under pytest."""

from typing import NamedTuple, NotRequired, Protocol, TypedDict, runtime_checkable

from jaxtyping import Bool, Float, UInt8
from torch import Tensor

Images = Float[Tensor, "batch channels height width"]
"""Normalised radiographs, as an encoder reads them."""


class ImageFeatures(NamedTuple):
    """What a backbone sees: ``levels[i]`` is (B, C_i, H_i, W_i), shallow to deep."""

    levels: list[Tensor]
    pooled: Float[Tensor, "batch channels"]


class ImageEmbedding(NamedTuple):
    """The two visual branches in the joint space (not yet L2-normalised), and the features beneath them."""

    findings: Float[Tensor, "batch joint"]
    impression: Float[Tensor, "batch joint"]
    features: ImageFeatures


class PretrainBatch(TypedDict):
    """One step's samples. A missing section has a zero row and ``False`` in its flag."""

    images: UInt8[Tensor, "batch size size"]
    findings: Float[Tensor, "batch width"]
    impression: Float[Tensor, "batch width"]
    has_findings: Bool[Tensor, " batch"]
    has_impression: Bool[Tensor, " batch"]
    labels: NotRequired[Float[Tensor, "batch classes"]]


@runtime_checkable
class TextEncoder(Protocol):
    """A frozen text encoder. ``identity`` is the digest of its weights and vocabulary, ``name`` is for people."""

    name: str
    identity: str
    width: int

    def encode(self, texts: list[str]) -> Float[Tensor, "texts width"]:
        """Float32 on the CPU, one row a text, un-projected and not normalised."""
        ...
