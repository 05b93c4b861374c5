"""CARZero: a ViT that was pre-trained as a masked autoencoder, and BioClinicalMPBERT."""

from imitate.models.peers.base import VECTORS, Family, Peer, prepared
from imitate.models.peers.gloria import LONGEST, sum_of_layers
from imitate.models.peers.images import vit
from imitate.models.peers.mae import MRM_MEAN, MRM_STD
from imitate.models.peers.mgca import PADDED
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText, bert
from imitate.models.peers.tokens import Rules, words_only


def build(state: State) -> Peer:
    image = vit(state, "CARZero.img_encoder.model.")
    side = image.network.patch_embed.img_size[0]
    text = bert(state, "CARZero.text_encoder.model.")
    return Peer(
        image,
        prepared("pad-area", PADDED, side, mean=MRM_MEAN, std=MRM_STD),
        text=PeerText("CARZero", text, sum_of_layers, Rules("wordpiece", LONGEST, words_only)),
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
    unused=(r"CARZero\.fusion_module\..*",),
    vocabulary="vocab.txt of Laihaoran/BioClinicalMPBERT",
    note="The authors score by cross-attention, which is not built; cosines of these vectors are not theirs.",
)
