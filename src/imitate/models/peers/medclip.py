"""MedCLIP: a ResNet-50 or a Swin transformer, and three layers of ClinicalBERT."""

from typing import Any

import torch
from torch import Tensor

from imitate.models.peers.base import VECTORS, Family, OfPooled, Peer, Scoring, linear, prepared, temperature_of
from imitate.models.peers.images import Enter, resnet, swin, swin_of_transformers
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText, bert
from imitate.models.peers.tokens import Rules

SIDE, LONGEST = 224, 77
MEAN, STD = 0.5862785803043838, 0.27950088968644304
LAYERS = (1, 2, -1)  # of the hidden states, of which 0 is the embedding


def mean_of_layers(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Over the places, padding too: a text is therefore never padded."""
    hidden = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    return torch.stack([hidden[layer] for layer in LAYERS]).mean((0, 2))


def build(state: State) -> Peer:
    if "vision_model.model.conv1.weight" in state:
        image = resnet(state, "vision_model.model.", Enter(SIDE))
        head = linear(state, "vision_model.model.fc.", image.width)
    else:
        image = swin(state, "vision_model.model.", SIDE, rename=swin_of_transformers)
        head = linear(state, "vision_model.projection_head.", image.width)
    text = bert(state, "text_model.model.")
    return Peer(
        image,
        prepared("frame-bicubic", SIDE, mean=(MEAN,) * 3, std=(STD,) * 3),
        head=OfPooled(head),
        text=PeerText(
            "MedCLIP",
            text,
            mean_of_layers,
            Rules("wordpiece", LONGEST, alone=True),
            linear(state, "text_model.projection_head.", text.config.hidden_size),
        ),
        temperature=temperature_of(state, "logit_scale", 2.6593),
        scoring=Scoring(ensemble="score", scoring="positive"),
    )


FAMILY = Family(
    name="medclip",
    title="MedCLIP",
    where="links in the package MedCLIP: storage.googleapis.com/pytrial",
    licence="the package says BSD; there is no licence file",
    gives=VECTORS,
    verified="torchvision, timm, transformers",
    signs={
        "text_model.projection_head.weight": (None, None),
        "text_model.model.embeddings.word_embeddings.weight": (None, None),
        "logit_scale": (),
    },
    build=build,
    vocabulary="vocab.txt of emilyalsentzer/Bio_ClinicalBERT",
    note="The authors average over padding too, so that a text's vector depends on its batch; here none is padded.",
)
