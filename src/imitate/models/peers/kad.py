"""KAD: a ResNet-50 whose places are projected and averaged, and Med-KEBERT."""

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from imitate.models.peers.base import SIDE_KEY, VECTORS, Decoder, Family, Peer, Scoring, linear, prepared
from imitate.models.peers.huggingface import IMAGENET_MEAN, IMAGENET_STD
from imitate.models.peers.images import Enter, resnet
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText, bert
from imitate.models.peers.tokens import Rules
from imitate.models.types import ImageFeatures

LONGEST, HEADS = 256, 4
SIDES = (512, 1024)


class OfPlaces(nn.Module):
    """Each place of the last map projected, and the mean of them."""

    def __init__(self, first: nn.Linear, second: nn.Linear) -> None:
        super().__init__()
        self.layers = nn.Sequential(first, nn.ReLU(), second)

    def forward(self, features: ImageFeatures) -> Tensor:
        projected: Tensor = self.layers(features.levels[-1].flatten(2).mT)
        return projected.mean(1)


def pooler(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    found: Tensor = model(input_ids=ids, attention_mask=mask).pooler_output
    return found


class Asking(Decoder):
    """The classes ask the places of the image, and each other, so that a score depends on what is asked with it.

    ``enter`` is what queries go through first, ``norm`` what queries and places do; also MedKLIP's.
    """

    together: ClassVar[bool] = True

    def __init__(
        self, places: OfPlaces, decoder: nn.Module, head: nn.Linear, *, enter: nn.Module, norm: nn.Module
    ) -> None:
        super().__init__()
        self.places, self.decoder, self.head, self.enter, self.norm = places, decoder, head, enter, norm

    def forward(self, features: ImageFeatures, *asked: Tensor) -> Float[Tensor, "images prompts"]:
        seen = self.norm(self.places.layers(features.levels[-1].flatten(2).mT))
        queries = self.norm(self.enter(asked[0])).expand(len(seen), -1, -1)
        decoded: Tensor = self.head(self.decoder(queries, seen)).softmax(2)
        return decoded[..., 1]


def decoder_layers(state: State, prefix: str) -> nn.TransformerDecoder:
    """Normalised before each part, with ReLU; also MedKLIP's."""
    hidden, width = state.shape(f"{prefix}layers.0.linear1.weight")
    layer = nn.TransformerDecoderLayer(width, HEADS, hidden, dropout=0, batch_first=True, norm_first=True)
    depth = state.count(f"{prefix}layers.{{}}.norm1.weight")
    return state.fill(nn.TransformerDecoder(layer, depth, nn.LayerNorm(width)), prefix)


def _decoder(state: State, places: OfPlaces) -> Asking:
    decoder = decoder_layers(state, "model/decoder.")
    width = state.shape("model/decoder_norm.weight")[0]
    norm = state.fill(nn.LayerNorm(width), "model/decoder_norm.")
    return Asking(places, decoder, linear(state, "model/mlp_head.0.", width), enter=nn.Identity(), norm=norm)


def build(state: State) -> Peer:
    """The file of 224 px has a last stage that its network never used; those of 512 and 1,024 px are alike."""
    last, sees = "image_encoder/resnet.layer4.0.conv3.weight", state.shape("image_encoder/res_l1.weight")[1]
    whole = last in state and state.shape(last)[0] == sees
    side = int(state.config.get(SIDE_KEY, SIDES[0])) if whole else 224
    image = resnet(state, "image_encoder/resnet.", Enter(side), last=4 if whole else 3)
    first = linear(state, "image_encoder/res_l1.", image.channels[-1])
    places = OfPlaces(first, linear(state, "image_encoder/res_l2.", first.out_features))
    text = bert(state, "text_encoder/bert_model.")
    inner = linear(state, "text_encoder/mlp_embed.0.", text.config.hidden_size)
    return Peer(
        image,
        prepared("stretch-bicubic", side, mean=IMAGENET_MEAN, std=IMAGENET_STD),
        head=places,
        text=PeerText(
            "KAD",
            text,
            pooler,
            Rules("wordpiece", LONGEST),
            nn.Sequential(inner, nn.GELU(), linear(state, "text_encoder/mlp_embed.2.", inner.out_features)),
        ),
        scoring=Scoring(positive=("{}",), negative=("{}",), scoring="positive"),
        decoder=_decoder(state, places),
    )


FAMILY = Family(
    name="kad",
    title="KAD",
    where="Google Drive, linked from github.com/xiaoman-zhang/KAD",
    licence="MIT in the repository; of the weights nothing is stated",
    gives=VECTORS,
    verified="torchvision, transformers and a plain reference",
    signs={
        "image_encoder/res_l1.weight": (None, None),
        "image_encoder/resnet.conv1.weight": (None, 3, 7, 7),
        "text_encoder/mlp_embed.0.weight": (None, None),
        "model/mlp_head.0.weight": (2, None),
    },
    joined=("image_encoder", "text_encoder", "model"),
    sizes=SIDES,
    build=build,
    unused=(
        r"image_encoder/res_features\..*",
        r"image_encoder/resnet\.(fc|layer4)\..*",
        "model/logit_scale",
        "text_encoder/logit_scale",
        "image_encoder/logit_scale",
    ),
    vocabulary="vocab.txt of xmcmic/Med-KEBERT",
    note="We read the dot products as cosines; --authors scores with the decoder. The tensors of KAD-1024 are those "
    "of KAD-512: imitate import FILE --size 1024.",
)
