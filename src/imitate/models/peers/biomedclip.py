"""BiomedCLIP: a ViT and PubMedBERT in the layout of open_clip."""

from torch import nn

from imitate.models.peers.base import VECTORS, Family, OfPooled, Peer, linear, prepared, temperature_of
from imitate.models.peers.huggingface import CLIP_MEAN, CLIP_STD
from imitate.models.peers.images import vit
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText, bert, first
from imitate.models.peers.tokens import Rules, one_line

LONGEST = 256
LOGIT_SCALE = 4.4454


def build(state: State) -> Peer:
    image = vit(state, "visual.trunk.")
    side = image.network.patch_embed.img_size[0]
    text = bert(state, "text.transformer.")
    inner = linear(state, "text.proj.0.", text.config.hidden_size)
    return Peer(
        image,
        prepared("crop-bicubic", side, mean=CLIP_MEAN, std=CLIP_STD),
        head=OfPooled(linear(state, "visual.head.proj.", image.width)),
        text=PeerText(
            "BiomedCLIP",
            text,
            first,
            Rules("wordpiece", LONGEST, one_line),
            nn.Sequential(inner, nn.GELU(), linear(state, "text.proj.2.", inner.out_features)),
        ),
        temperature=temperature_of(state, "logit_scale", LOGIT_SCALE),
    )


FAMILY = Family(
    name="biomedclip",
    title="BiomedCLIP",
    where="hub microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    licence="MIT",
    gives=VECTORS,
    verified="open_clip",
    signs={
        "visual.trunk.cls_token": (1, 1, None),
        "visual.head.proj.weight": (None, None),
        "text.proj.0.weight": (None, None),
        "text.proj.2.weight": (None, None),
    },
    build=build,
    unused=(r"text\.transformer\.pooler\..*",),
    vocabulary="vocab.txt or tokenizer.json of the same repository",
)
