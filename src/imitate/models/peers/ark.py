"""Ark and Ark+: Swin transformers with a projector that the authors probe."""

import math

from torch import Tensor, nn

from imitate.models.peers.base import FEATURES, Family, Peer, linear, prepared
from imitate.models.peers.huggingface import IMAGENET_MEAN, IMAGENET_STD
from imitate.models.peers.images import later_downsample, swin
from imitate.models.peers.state import State


class Projected(nn.Module):
    """The projection of the mean over places, of a map with the channels last."""

    def __init__(self, projector: nn.Module, width: int) -> None:
        super().__init__()
        self.projector, self.width = projector, width

    def forward(self, last: Tensor) -> Tensor:
        projected: Tensor = self.projector(last.mean((1, 2)))
        return projected


def _projector(state: State, inputs: int) -> Projected:
    if "projector.weight" in state:
        whole = linear(state, "projector.", inputs)
        return Projected(whole, whole.out_features)
    first = linear(state, "projector.0.", inputs)
    second = linear(state, "projector.2.", first.out_features)
    return Projected(nn.Sequential(first, nn.ReLU(), second), second.out_features)


def _side(state: State) -> int:
    """From the number of windows that the masks of shifted windows were stored for."""
    places = state.shape("layers.0.blocks.0.attn.relative_position_bias_table")[0]
    window = (math.isqrt(places) + 1) // 2
    masks = "layers.0.blocks.1.attn_mask"
    if masks in state:
        return math.isqrt(state.shape(masks)[0]) * window * 4
    return 768 if window == 12 else 224


def build(state: State) -> Peer:
    pooling = _projector(state, state.shape("norm.weight")[0])
    side = _side(state)
    image = swin(
        state, "", side, pooling=pooling, rename=later_downsample, unused=[r"projector\..*", r"omni_heads\..*"]
    )
    return Peer(image, prepared("stretch-bicubic", side, mean=IMAGENET_MEAN, std=IMAGENET_STD))


FAMILY = Family(
    name="ark",
    title="Ark or Ark+",
    where="by a request form, see github.com/jlianglab/Ark",
    licence="ASU, non-commercial research only, patent pending",
    gives=FEATURES,
    verified="timm",
    signs={
        "omni_heads.0.weight": (None, None),
        "layers.0.blocks.0.attn.relative_position_bias_table": (None, None),
        "patch_embed.proj.weight": (None, 3, None, None),
    },
    parts=("teacher", "", "state_dict"),
    build=build,
    unused=(r"omni_heads\..*", r"head\..*"),
    note="Features are the projector's output.",
)
