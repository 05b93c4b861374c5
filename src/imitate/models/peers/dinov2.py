"""DINOv2 under the names of its own code: CheXFound, RAD-DINO's second file, any other."""

import re
from typing import Any

from torch import Tensor, nn

from imitate.models.peers.base import FEATURES, Family, Peer, prepared
from imitate.models.peers.huggingface import IMAGENET_MEAN, IMAGENET_STD
from imitate.models.peers.images import Enter, PeerImage, vit
from imitate.models.peers.rad_dino import dino_preprocessing
from imitate.models.peers.state import State
from imitate.models.types import Images

UNUSED = (r"mask_token", r"(dino|ibot)_head\..*")
PREFIX = "backbone."


class MinMax(nn.Module):
    """Each image from 0 to 1, then ImageNet's mean and std."""

    def __init__(self, enter: nn.Module) -> None:
        super().__init__()
        self.enter = enter

    def forward(self, images: Images) -> Tensor:
        seen: Tensor = self.enter(images)
        low, high = seen.amin((2, 3), keepdim=True), seen.amax((2, 3), keepdim=True)
        mean, std = (seen.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        return ((seen - low) / (high - low).clamp(min=1e-6) - mean) / std


def _name(name: str) -> str:
    name = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)  # of blocks in chunks the number counts all
    return name.replace("mlp.w12.", "mlp.fc1.").replace("mlp.w3.", "mlp.fc2.").replace("register_tokens", "reg_token")


def _network(state: State, prefix: str, **options: Any) -> PeerImage:
    if any(name.endswith("mlp.w12.weight") for name in state.tensors):
        from timm.layers import SwiGLUPacked

        options |= {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    registers = f"{prefix}register_tokens"
    if registers in state:
        position = state.take(f"{prefix}pos_embed")
        state.tensors[f"{prefix}cls_token"] = state.take(f"{prefix}cls_token") + position[:, :1]
        state.tensors[f"{prefix}pos_embed"] = position[:, 1:]
        options |= {"reg_tokens": state.shape(registers)[1], "no_embed_class": True}
    return vit(state, prefix, rename=_name, unused=UNUSED, **options)


def _plain(state: State) -> Peer:
    image = _network(state, "")
    return Peer(image, dino_preprocessing(image.network.patch_embed.img_size[0]))


def _chexfound(state: State) -> Peer:
    image = _network(state, PREFIX, pooling="blocks")
    side = image.network.patch_embed.img_size[0]
    image.enter = MinMax(Enter(side))
    return Peer(image, prepared("crop-bicubic", side, mean=(0.0,) * 3, std=(1.0,) * 3))


CHEXFOUND = Family(
    name="chexfound",
    title="CheXFound",
    where="Google Drive, linked from github.com/RPIDIAL/CheXFound",
    licence="no licence file; file headers say Apache-2.0",
    gives=FEATURES,
    verified="a plain reference",
    signs={
        "backbone.blocks.0.0.ls1.gamma": (None,),
        "backbone.register_tokens": (1, None, None),
        "backbone.pos_embed": (1, None, None),
    },
    parts=("teacher", "", "model"),
    build=_chexfound,
    unused=(r"backbone\.mask_token", *UNUSED),
    note="Features are the CLS tokens of the last four blocks.",
)
DINOV2 = Family(
    name="dinov2-original",
    title="DINOv2 under its own names, such as RAD-DINO's backbone_compatible",
    where="hub microsoft/rad-dino, backbone_compatible.safetensors",
    licence="that of its authors; RAD-DINO: MIT",
    gives=FEATURES,
    verified="timm",
    signs={"blocks.0.ls1.gamma": (None,), "mask_token": (1, None), "pos_embed": (1, None, None)},
    parts=("", "teacher", "model"),
    build=_plain,
    unused=UNUSED,
)
