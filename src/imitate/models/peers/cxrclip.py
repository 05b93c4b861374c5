"""CXR-CLIP: a ResNet-50 or a Swin transformer, and ClinicalBERT read at [SEP]."""

from imitate.models.peers.base import VECTORS, Family, OfPooled, Peer, Scoring, linear, prepared, temperature_of
from imitate.models.peers.huggingface import HALF, IMAGENET_MEAN, IMAGENET_STD
from imitate.models.peers.images import Enter, resnet, swin, swin_of_transformers
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText, bert, last
from imitate.models.peers.tokens import Rules

SIDE, LONGEST = 224, 256


def build(state: State) -> Peer:
    convolutional = "image_encoder.resnet.conv1.weight" in state
    if convolutional:
        image = resnet(state, "image_encoder.resnet.", Enter(SIDE))
    else:
        image = swin(state, "image_encoder.image_encoder.", SIDE, pooling="corner", rename=swin_of_transformers)
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if convolutional else (HALF, HALF)
    text = bert(state, "text_encoder.text_encoder.")
    return Peer(
        image,
        prepared("crop-bilinear", SIDE, mean=mean, std=std),
        head=OfPooled(linear(state, "image_projection.projection.", image.width)),
        text=PeerText(
            "CXR-CLIP",
            text,
            last,
            Rules("wordpiece", LONGEST),
            linear(state, "text_projection.projection.", text.config.hidden_size),
        ),
        temperature=temperature_of(state, "logit_scale", 2.6593),
        scoring=Scoring(positive=("{}",), negative=("No {}",), ensemble="score"),
    )


FAMILY = Family(
    name="cxrclip",
    title="CXR-CLIP",
    where="links in the README of github.com/Soombit-ai/cxr-clip",
    licence="CC BY-NC-SA 4.0 (README: CC BY-NC 4.0)",
    gives=VECTORS,
    verified="torchvision, timm, transformers",
    signs={
        "image_projection.projection.weight": (None, None),
        "text_projection.projection.weight": (None, None),
        "text_encoder.text_encoder.embeddings.word_embeddings.weight": (None, None),
    },
    build=build,
    vocabulary="vocab.txt of emilyalsentzer/Bio_ClinicalBERT",
    note="Text is read at [SEP], as in the released configurations.",
)
