"""GLoRIA: a ResNet-50 and the last four layers of ClinicalBERT."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from imitate.models.peers.base import VECTORS, Decoder, Family, OfPooled, Peer, Scoring, linear, prepared
from imitate.models.peers.images import resnet
from imitate.models.peers.mgca import HALF, PADDED, SIDE, enlarging
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText, bert
from imitate.models.peers.tokens import Rules, words_only
from imitate.models.types import ImageFeatures

LONGEST = 97
LAYERS = 4
STAGE = 2  # of the map that words are compared with, from 0
SHARPNESS, WEIGHT = 4.0, 5.0  # of the attention to places, and of the best word's cosine


def sum_of_layers(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """The last four layers' sum over the word pieces, by the number of places; also CARZero's."""
    return (_last_layers(model, ids, mask) * mask[..., None]).sum(1) / LONGEST


def _last_layers(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    hidden = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-LAYERS:]
    summed: Tensor = sum(each for each in hidden)
    return summed


@torch.inference_mode()
def words(text: PeerText, prompts: list[str]) -> Float[Tensor, "prompts places width"]:
    """[CLS], the words and [SEP], each the sum of its pieces in the last four layers, then zeros; also CARZero's."""
    assert text.tokenizer is not None
    device = next(text.parameters()).device
    made = torch.zeros(len(prompts), LONGEST, text.width)
    for row, prompt in enumerate(prompts):
        ids = torch.tensor(text.pieces(prompt))
        hidden = _last_layers(text.model, ids[None].to(device), torch.ones_like(ids)[None].to(device))[0].cpu()
        begins = [int(piece) not in text.tokenizer.continuing for piece in ids]
        made[row].index_add_(0, torch.tensor(begins).cumsum(0) - 1, hidden)
    return made


class Local(Decoder):
    """The mean of a cosine and of a local similarity: each word looks at places, the one that sees its like counts.

    A prompt has as many words as it has characters, by its authors' count, so that [SEP] and zeros are among them.
    """

    def __init__(self, whole: OfPooled, places: nn.Conv2d) -> None:
        super().__init__()
        self.whole, self.places = whole, places

    def read(self, text: PeerText, prompts: list[str]) -> tuple[Tensor, ...]:
        count = [min(max(len(prompt), 1), LONGEST - 1) for prompt in prompts]
        return words(text, prompts), torch.tensor(count)

    def forward(self, features: ImageFeatures, *asked: Tensor) -> Float[Tensor, "images prompts"]:
        words, counts = asked
        cosines = normalize(self.whole(features)) @ normalize(words.sum(1)).T
        places = self.places(features.levels[STAGE]).flatten(2)
        local = [_nearest(places, each[1 : 1 + count]) for each, count in zip(words, counts.tolist(), strict=True)]
        return (cosines + torch.stack(local, 1)) / 2


def _nearest(places: Float[Tensor, "images width places"], words: Float[Tensor, "words width"]) -> Tensor:
    """Of each image; places are divided among the words first, then each word chooses among places."""
    weights = torch.einsum("icp,wc->ipw", places, words).softmax(2)
    seen = torch.einsum("icp,ipw->iwc", places, (SHARPNESS * weights).softmax(1))
    return WEIGHT * cosine_similarity(seen, words[None], dim=2).amax(1)


def build(state: State) -> Peer:
    image = resnet(state, "gloria.img_encoder.model.", enlarging())
    whole = OfPooled(linear(state, "gloria.img_encoder.global_embedder.", image.width))
    outputs, inputs = state.shape("gloria.img_encoder.local_embedder.weight")[:2]
    places = state.fill(nn.Conv2d(inputs, outputs, 1, bias=False), "gloria.img_encoder.local_embedder.")
    return Peer(
        image,
        prepared("pad-area", PADDED, SIDE, mean=HALF, std=HALF),
        head=whole,
        text=PeerText(
            "GLoRIA", bert(state, "gloria.text_encoder.model."), sum_of_layers, Rules("wordpiece", LONGEST, words_only)
        ),
        scoring=Scoring(ensemble="max", scoring="standardised"),
        decoder=Local(whole, places),
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
    vocabulary="vocab.txt of emilyalsentzer/Bio_ClinicalBERT",
    note="--authors adds the local similarity of words and image regions. Prompts of a single word become empty.",
)
