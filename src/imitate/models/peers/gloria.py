"""GLoRIA: a ResNet-50 and the last four layers of ClinicalBERT."""

from typing import Any

from torch import Tensor

from imitate.models.peers.base import VECTORS, Family, OfPooled, Peer, Scoring, linear, prepared
from imitate.models.peers.images import resnet
from imitate.models.peers.mgca import HALF, PADDED, SIDE, enlarging
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText, bert
from imitate.models.peers.tokens import Rules, words_only

LONGEST = 97
LAYERS = 4


def sum_of_layers(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """The last four layers' sum over the word pieces, by the number of places; also CARZero's."""
    hidden = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-LAYERS:]
    summed: Tensor = sum(each for each in hidden)
    return (summed * mask[..., None]).sum(1) / LONGEST


def build(state: State) -> Peer:
    image = resnet(state, "gloria.img_encoder.model.", enlarging())
    return Peer(
        image,
        prepared("pad-area", PADDED, SIDE, mean=HALF, std=HALF),
        head=OfPooled(linear(state, "gloria.img_encoder.global_embedder.", image.width)),
        text=PeerText(
            "GLoRIA", bert(state, "gloria.text_encoder.model."), sum_of_layers, Rules("wordpiece", LONGEST, words_only)
        ),
        scoring=Scoring(ensemble="max", scoring="standardised"),
    )


FAMILY = Family(
    name="gloria",
    title="GLoRIA",
    where="Stanford Box, linked from github.com/marshuang80/gloria; import it",
    licence="code Apache-2.0; of the weights nothing is stated",
    gives=VECTORS,
    verified="torchvision, transformers and a plain reference",
    signs={
        "gloria.img_encoder.global_embedder.weight": (None, None),
        "gloria.img_encoder.local_embedder.weight": (None, None, 1, 1),
        "gloria.img_encoder.model.conv1.weight": (None, 3, None, None),
    },
    build=build,
    unused=(r"gloria\.img_encoder\.local_embedder\..*",),
    vocabulary="vocab.txt of emilyalsentzer/Bio_ClinicalBERT",
    note="Global vectors: the authors add a local similarity of words and places. Single-word prompts become empty.",
)
