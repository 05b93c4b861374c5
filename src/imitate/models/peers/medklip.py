"""MedKLIP: a ResNet-50 without its last stage."""

import re

from imitate.models.peers.base import FEATURES, Family, Peer, prepared
from imitate.models.peers.huggingface import IMAGENET_MEAN, IMAGENET_STD
from imitate.models.peers.images import Enter, resnet
from imitate.models.peers.state import State

SIDE = 224
STAGES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def numbered_stages(name: str) -> str:
    """torchvision's names of a ResNet that was cut into a numbered sequence; also KAD's."""
    return re.sub(r"^(\d)\.", lambda match: f"{STAGES.get(match[1], match[1])}.", name)


def build(state: State) -> Peer:
    image = resnet(state, "res_features.", Enter(SIDE), rename=numbered_stages, last=3)
    return Peer(image, prepared("stretch-bilinear", SIDE, mean=IMAGENET_MEAN, std=IMAGENET_STD))


FAMILY = Family(
    name="medklip",
    title="MedKLIP",
    where="Google Drive, linked from github.com/MediaBrain-SJTU/MedKLIP",
    licence="none stated",
    gives=FEATURES,
    verified="torchvision",
    signs={
        "disease_embedding_layer.weight": (None, None),
        "res_l1.weight": (None, None),
        "res_features.0.weight": (None, 3, 7, 7),
    },
    build=build,
    unused=(
        r"(disease_embedding_layer|cl_fc|classifier|decoder|decoder_norm|res_l1|res_l2|dropout_feas)\..*",
        r"(ana|disease)_book.*",
        "logit_scale",
    ),
    note="Features are the average of its last stage, the third; its scoring by a decoder is not built.",
)
