"""Files of an image network alone under the names of torchvision or timm, whatever stands before the names."""

from dataclasses import replace

from torch import nn

from imitate.models.peers.base import FEATURES, Family, Peer, prepared
from imitate.models.peers.huggingface import IMAGENET_MEAN, IMAGENET_STD
from imitate.models.peers.images import densenet, resnet, vit
from imitate.models.peers.state import State

ENDS = ("layer1.0.conv1.weight", "blocks.0.norm1.weight", "features.denseblock1.denselayer1.conv1.weight")


def prefix_of(names: list[str]) -> str | None:
    """What stands before the names of the one image network of a file; None where there are none or several."""
    found = [name.removesuffix(end) for name in names for end in ENDS if name == end or name.endswith(f".{end}")]
    return found[0] if len(found) == 1 else None


def build(state: State) -> Peer:
    prefix = prefix_of(list(state.tensors))
    assert prefix is not None
    if f"{prefix}{ENDS[0]}" in state:
        image = resnet(state, prefix, nn.Identity(), unused=[r"(?!(conv1|bn1|layer\d)\.).*"])
    elif f"{prefix}{ENDS[1]}" in state:
        others = r"(?!(cls_token$|pos_embed$|reg_token$|patch_embed\.|norm\.|blocks\.)).*"
        image = vit(state, prefix, unused=[others])
    else:
        image = densenet(state, prefix, nn.Identity(), unused=[r"(?!features\.).*"])
    sized = hasattr(image.network, "patch_embed")
    side = image.network.patch_embed.img_size[0] if sized else 224
    channels = image.network.conv1.in_channels if hasattr(image.network, "conv1") else 3
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.449,), (0.226,))
    return Peer(image, prepared("crop-bicubic", side * 8 // 7, side, mean=mean, std=std))


IMITATE = "multi_attent.in_proj_weight"  # a tensor of IMITATE's release


FAMILY = Family(
    name="plain",
    title="an image network under torchvision's or timm's names",
    where="many: timm, torchvision, BenchX's copies of encoders",
    licence="that of its authors",
    gives=FEATURES,
    verified="torchvision, timm",
    signs={},
    build=build,
    unused=(r".*",),
    note="Mean and std are taken to be ImageNet's. --like RECIPE says otherwise.",
)
RELEASE = replace(
    FAMILY,
    title="the image encoder of IMITATE's release",
    where="see the authors' repository, which links no weights today",
    note="imitate import FILE --out RUN reads all of it; with --text hf:ID@REVISION also its text encoder.",
)
"""The same network, of a file that holds more."""
