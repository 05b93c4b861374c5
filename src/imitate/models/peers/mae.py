"""MRM, and any masked autoencoder: a ViT whose patch tokens are averaged."""

from imitate.models.peers.base import FEATURES, Family, Peer, prepared
from imitate.models.peers.huggingface import IMAGENET_MEAN, IMAGENET_STD
from imitate.models.peers.images import vit
from imitate.models.peers.state import State

MRM_MEAN, MRM_STD = (0.4978,) * 3, (0.2449,) * 3
UNUSED = (r"decoder_.*", "mask_token")
REPORT = (r"bert_encoder\..*", r"bert_mlp\.(weight|bias)")


def _build(state: State) -> Peer:
    image = vit(state, "", pooling="patches", unused=[*UNUSED, *REPORT])
    side = image.network.patch_embed.img_size[0]
    report = "bert_mlp.weight" in state
    mean, std = (MRM_MEAN, MRM_STD) if report else (IMAGENET_MEAN, IMAGENET_STD)
    return Peer(image, prepared("crop-bilinear" if report else "crop-bicubic", side, mean=mean, std=std))


MRM = Family(
    name="mrm",
    title="MRM",
    where="Google Drive, linked from github.com/RL4M/MRM-pytorch; import it where it holds more than tensors",
    licence="MIT",
    gives=FEATURES,
    verified="timm",
    signs={
        "bert_mlp.weight": (None, None),
        "decoder_pred.weight": (None, None),
        "patch_embed.proj.weight": (None, None, None, None),
    },
    build=_build,
    unused=(*UNUSED, *REPORT),
    note="Features are the mean of the patch tokens before the last normalisation, as the authors fine-tune them.",
)
MAE = Family(
    name="mae",
    title="masked autoencoder in the layout of MAE",
    where="many",
    licence="that of its authors",
    gives=FEATURES,
    verified="timm",
    signs={
        "decoder_pred.weight": (None, None),
        "decoder_embed.weight": (None, None),
        "patch_embed.proj.weight": (None, None, None, None),
    },
    absent=("bert_mlp.weight",),
    build=_build,
    unused=UNUSED,
    note="Mean and std are taken to be ImageNet's. Features are the mean of the patch tokens, not normalised.",
)
