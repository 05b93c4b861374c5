"""MGCA: a ResNet-50 or a ViT, and six layers of ClinicalBERT that do not know the order of words."""

from typing import Any

import torch
from torch import Tensor, nn

from imitate.models.peers.base import VECTORS, Family, OfPooled, Peer, prepared
from imitate.models.peers.images import Enter, resnet, vit
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText, bert
from imitate.models.peers.tokens import Rules, words_only

SIDE, ENLARGED, PADDED = 224, 299, 256
LONGEST = 112
HALF = (0.5, 0.5, 0.5)


def enlarging() -> nn.Module:
    """What the network does with its images, also GLoRIA's."""
    return nn.Sequential(Enter(SIDE), Enter(ENLARGED, antialias=False, align=True))


def first_without_order(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """[CLS], where every word piece is at position 0, since that is how these weights were trained."""
    positions = torch.zeros_like(ids)
    found: Tensor = model(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state[:, 0]
    return found


def _head(state: State, prefix: str, inputs: int) -> nn.Module:
    hidden, outputs = state.shape(f"{prefix}0.weight")[0], state.shape(f"{prefix}3.weight")[0]
    layers = nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
        nn.BatchNorm1d(outputs, affine=False),
    )
    return state.fill(layers, prefix)


def build(state: State) -> Peer:
    prefix = "img_encoder_q.model."
    image = vit(state, prefix) if f"{prefix}cls_token" in state else resnet(state, prefix, enlarging())
    text = bert(state, "text_encoder_q.model.", unused=[r"encoder\.layer\.\d+\.crossattention\..*"])
    width = text.config.hidden_size
    return Peer(
        image,
        prepared("pad-area", PADDED, SIDE, mean=HALF, std=HALF),
        head=OfPooled(_head(state, "img_encoder_q.global_embed.head.", image.width)),
        text=PeerText(
            "MGCA",
            text,
            first_without_order,
            Rules("wordpiece", LONGEST, words_only),
            _head(state, "text_encoder_q.global_embed.head.", width),
        ),
        temperature=0.07,
    )


FAMILY = Family(
    name="mgca",
    title="MGCA",
    where="Google Drive, linked from github.com/HKU-MedAI/MGCA",
    licence="none stated",
    gives=VECTORS,
    verified="torchvision, timm, transformers and a plain reference",
    signs={
        "img_encoder_q.global_embed.head.0.weight": (None, None),
        "text_encoder_q.global_embed.head.0.weight": (None, None),
        "img_encoder_q.global_embed.head.3.weight": (None, None),
    },
    build=build,
    unused=(
        r"(img|text)_encoder_q\.local_embed\..*",
        r"(patch|word)_local_atten_layer\..*",
        r"prototype_layer\..*",
        r"text_encoder_q\.model\.encoder\.layer\.\d+\.crossattention\..*",
    ),
    vocabulary="vocab.txt of emilyalsentzer/Bio_ClinicalBERT",
    note="Single-word prompts become empty by its rule of cleaning texts.",
)
