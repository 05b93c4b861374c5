"""CARZero: a ViT that was pre-trained as a masked autoencoder, and BioClinicalMPBERT; scores by cross-attention."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from imitate.models.peers.base import VECTORS, Decoder, Family, Peer, Scoring, prepared
from imitate.models.peers.gloria import LONGEST, sum_of_layers, words
from imitate.models.peers.images import vit
from imitate.models.peers.mae import MRM_MEAN, MRM_STD
from imitate.models.peers.mgca import PADDED
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText, bert
from imitate.models.peers.tokens import Rules, words_only
from imitate.models.types import ImageFeatures

HEADS = 4
PREFIX = "CARZero.fusion_module."


class Layer(nn.Module):
    """Queries look at a memory, each by itself; normalised before each part. torch's names of a decoder's layer."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        queries = queries + self.multihead_attn(self.norm2(queries), memory, memory, need_weights=False)[0]
        added: Tensor = queries + self.linear2(self.linear1(self.norm3(queries)).relu())
        return added


class Layers(nn.Module):
    def __init__(self, width: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        for layer in self.layers:
            queries = layer(queries, memory)
        normalised: Tensor = self.norm(queries)
        return normalised


class Fusion(nn.Module):
    """How well each query fits a memory: (batch, queries, width) and (batch, tokens, width) to (batch, queries)."""

    def __init__(self, width: int, hidden: int, depth: int, widths: list[int]) -> None:
        super().__init__()
        self.decoder_norm, self.decoder = nn.LayerNorm(width), Layers(width, hidden, depth)
        self.mlp_head = nn.Sequential()
        for number, (inputs, outputs) in enumerate(zip([width, *widths], [*widths, 1], strict=True)):
            self.mlp_head.add_module(str(3 * number), nn.Linear(inputs, outputs))
            if number < len(widths):
                self.mlp_head.add_module(f"relu{number}", nn.ReLU())

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        scores: Tensor = self.mlp_head(self.decoder(self.decoder_norm(queries), self.decoder_norm(memory)))
        return scores[..., 0]


class CrossAttention(Decoder):
    """The mean of two scores: the text asks the image, and the image asks the text with its empty places."""

    def __init__(self, fusion: Fusion, norm: nn.Module) -> None:
        super().__init__()
        self.fusion, self.norm = fusion, norm

    def read(self, text: PeerText, prompts: list[str]) -> tuple[Tensor, ...]:
        return (words(text, prompts),)

    def forward(self, features: ImageFeatures, *asked: Tensor) -> Float[Tensor, "images prompts"]:
        images, texts = features.pooled, asked[0].sum(1) / LONGEST
        patches = self.norm(features.levels[-1].flatten(2).mT)
        of_images = torch.cat([images[:, None], patches], 1)
        of_texts = torch.cat([texts[:, None], asked[0]], 1)
        seen = self.fusion(texts.expand(len(images), -1, -1), of_images)
        read: Tensor = self.fusion(images.expand(len(texts), -1, -1), of_texts).T
        return (seen + read) / 2


def _fusion(state: State) -> Fusion:
    hidden, width = state.shape(f"{PREFIX}decoder.layers.0.linear1.weight")
    depth = state.count(f"{PREFIX}decoder.layers.{{}}.linear1.weight")
    widths = [state.shape(f"{PREFIX}mlp_head.{place}.weight")[0] for place in (0, 3, 6)]
    unused = [r".*\.self_attn\..*", r".*\.norm1\..*", "logit_scale"]
    return state.fill(Fusion(width, hidden, depth, widths), PREFIX, unused=unused)


def build(state: State) -> Peer:
    image = vit(state, "CARZero.img_encoder.model.")
    side = image.network.patch_embed.img_size[0]
    text = bert(state, "CARZero.text_encoder.model.")
    return Peer(
        image,
        prepared("pad-area", PADDED, side, mean=MRM_MEAN, std=MRM_STD),
        text=PeerText("CARZero", text, sum_of_layers, Rules("wordpiece", LONGEST, words_only)),
        scoring=Scoring(positive=("There is {}",), negative=("There is no {}",), ensemble="score", scoring="positive"),
        decoder=CrossAttention(_fusion(state), image.network.norm),
    )


FAMILY = Family(
    name="carzero",
    title="CARZero",
    where="Google Drive, linked from github.com/laihaoran/CARZero; import it",
    licence="Apache-2.0",
    gives=VECTORS,
    verified="timm, transformers and a plain reference",
    signs={
        "CARZero.fusion_module.mlp_head.0.weight": (None, None),
        "CARZero.img_encoder.model.cls_token": (1, 1, None),
        "CARZero.text_encoder.model.embeddings.word_embeddings.weight": (None, None),
    },
    build=build,
    unused=(r"CARZero\.fusion_module\.(logit_scale|.*\.(self_attn|norm1)\..*)",),
    vocabulary="vocab.txt of Laihaoran/BioClinicalMPBERT",
    note="--authors scores by cross-attention, as the authors do; the cosines of these vectors are not their scores.",
)
