"""Types of tensors. Shapes are checked at run time under pytest."""

from typing import Any, NamedTuple, Protocol, Required, TypedDict, runtime_checkable

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


class JointEmbedding(NamedTuple):
    """Images and texts as unit vectors of the joint space, whose products are cosines.

    ``texts`` is a tensor or a dictionary of tensors, as the texts were given, or None if there were none.
    """

    findings: Float[Tensor, "batch joint"]
    impression: Float[Tensor, "batch joint"]
    texts: Any


class PretrainBatch(TypedDict, total=False):
    """One step's samples, with the texts that the objective reads. A missing one has a zero row, and ``False`` in its
    flag.

    A clinical prior made from other text embeddings has them as ``prior_findings`` and so on.
    """

    images: Required[UInt8[Tensor, "batch size size"]]
    findings: Float[Tensor, "batch width"]
    impression: Float[Tensor, "batch width"]
    report: Float[Tensor, "batch width"]
    sentences: Float[Tensor, "batch width"]
    has_findings: Bool[Tensor, " batch"]
    has_impression: Bool[Tensor, " batch"]
    has_report: Bool[Tensor, " batch"]
    has_sentences: Bool[Tensor, " batch"]
    labels: Float[Tensor, "batch classes"]


@runtime_checkable
class TextEncoder(Protocol):
    """A frozen text encoder. ``identity`` is the digest of its weights and vocabulary, ``name`` is for people.

    One that reads no more than ``longest`` word pieces of a text says by ``cut(texts)`` which ones are longer.
    """

    name: str
    identity: str
    width: int

    def encode(self, texts: list[str]) -> Float[Tensor, "texts width"]:
        """Float32 on the CPU, one row a text, un-projected and not normalised."""
        ...
