"""MedKLIP: a ResNet-50 without its last stage."""

import re

from torch import nn

from imitate.models.peers.base import FEATURES, Family, Peer, Scoring, linear, prepared
from imitate.models.peers.huggingface import IMAGENET_MEAN, IMAGENET_STD
from imitate.models.peers.images import Enter, resnet
from imitate.models.peers.kad import Asking, OfPlaces, decoder_layers
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText, bert, first
from imitate.models.peers.tokens import Rules

SIDE, LONGEST = 224, 64
STAGES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def numbered_stages(name: str) -> str:
    """torchvision's names of a ResNet that was cut into a numbered sequence."""
    return re.sub(r"^(\d)\.", lambda match: f"{STAGES.get(match[1], match[1])}.", name)


def _queries(state: State) -> PeerText | None:
    """ClinicalBERT, which is no part of the checkpoint; under any of the names that files of a BERT have."""
    for name in [name for name in state.tensors if name.startswith("text/") and "LayerNorm." in name]:
        modern = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        state.tensors[modern] = state.tensors.pop(name)
    for prefix in ("text/bert.", "text/"):
        if f"{prefix}embeddings.word_embeddings.weight" in state:
            model = bert(state, prefix, unused=[r"cls\..*"])
            return PeerText("MedKLIP", model, first, Rules("wordpiece", LONGEST))
    return None


def build(state: State) -> Peer:
    image = resnet(state, "res_features.", Enter(SIDE), rename=numbered_stages, last=3)
    inner = linear(state, "res_l1.", image.channels[-1])
    places = OfPlaces(inner, linear(state, "res_l2.", inner.out_features))
    enter = linear(state, "disease_embedding_layer.", state.shape("disease_embedding_layer.weight")[1])
    head = linear(state, "classifier.", enter.out_features)
    return Peer(
        image,
        prepared("stretch-bilinear", SIDE, mean=IMAGENET_MEAN, std=IMAGENET_STD),
        scoring=Scoring(scoring="positive"),
        decoder=Asking(places, decoder_layers(state, "decoder."), head, enter=enter, norm=nn.Identity()),
        queries=_queries(state),
    )


FAMILY = Family(
    name="medklip",
    title="MedKLIP",
    where="Google Drive, linked from github.com/MediaBrain-SJTU/MedKLIP",
    licence="none stated",
    gives=FEATURES,
    verified="torchvision, transformers and a plain reference",
    signs={
        "disease_embedding_layer.weight": (None, None),
        "res_l1.weight": (None, None),
        "res_features.0.weight": (None, 3, 7, 7),
    },
    build=build,
    unused=(
        r"cl_fc\..*",
        r"text/cls\..*",
        r"(ana|disease)_book.*",
        "logit_scale",
    ),
    companion=("bert.embeddings.word_embeddings.weight", "embeddings.word_embeddings.weight"),
    vocabulary="vocab.txt and pytorch_model.bin of emilyalsentzer/Bio_ClinicalBERT",
    note="Features are the average of its last stage, the third. --authors scores with its decoder, whose queries are "
    "the first prompt of each class; the authors query with the 75 descriptions in their repository.",
)
