"""CheXzero: OpenAI's CLIP, trained on MIMIC-CXR's images and impressions."""

from torch import nn

from imitate.models.peers.base import VECTORS, Family, OfPooled, Peer, Scoring, prepared, temperature_of
from imitate.models.peers.images import Enter, vit
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText, clip_text, end_of_text
from imitate.models.peers.tokens import Rules, one_line

SIDE = 320  # the square that images are padded to; the network sees it shrunk to its own size
MEAN, STD = 101.48761 / 255, 83.43944 / 255
LOGIT_SCALE = 4.6052


def _image_name(name: str) -> str:
    for old, new in (
        ("class_embedding", "cls_token"),
        ("positional_embedding", "pos_embed"),
        ("conv1.", "patch_embed.proj."),
        ("ln_pre.", "norm_pre."),
        ("ln_post.", "norm."),
        ("transformer.resblocks.", "blocks."),
        (".ln_1.", ".norm1."),
        (".ln_2.", ".norm2."),
        (".attn.in_proj_", ".attn.qkv."),
        (".attn.out_proj.", ".attn.proj."),
        (".mlp.c_fc.", ".mlp.fc1."),
        (".mlp.c_proj.", ".mlp.fc2."),
    ):
        name = name.replace(old, new)
    return name


def _text_name(name: str) -> str:
    return name.replace("transformer.resblocks.", "blocks.")


def build(state: State) -> Peer:
    image = vit(
        state,
        "visual.",
        rename=_image_name,
        unused=["proj"],
        eps=1e-5,
        pre_norm=True,
        act_layer="quick_gelu",
        enter=nn.Identity(),
    )
    image.enter = Enter(image.network.patch_embed.img_size[0], "bicubic", antialias=False)
    text = clip_text(
        state,
        "",
        _text_name,
        activation="quick_gelu",
        causal=True,
        eps=1e-5,
        unused=[r"visual\..*", "logit_scale", "text_projection"],
    )
    positions = len(text.positional_embedding)
    return Peer(
        image,
        prepared("pad-lanczos", SIDE, mean=(MEAN,) * 3, std=(STD,) * 3),
        head=OfPooled(_projection(state, "visual.proj", image.width)),
        text=PeerText(
            "CheXzero",
            text,
            end_of_text,
            Rules("clip", positions, one_line, full=True),
            _projection(state, "text_projection", text.ln_final.normalized_shape[0]),
        ),
        temperature=temperature_of(state, "logit_scale", LOGIT_SCALE),
        scoring=Scoring(positive=("{}",), negative=("no {}",)),
    )


def _projection(state: State, name: str, inputs: int) -> nn.Linear:
    """Stored as (inputs, outputs)."""
    layer = nn.Linear(inputs, state.shape(name)[1], bias=False)
    state.tensors[f"{name}.weight"] = state.take(name).T
    return state.fill(layer, f"{name}.")


FAMILY = Family(
    name="chexzero",
    title="CheXzero",
    where="Google Drive, linked from github.com/rajpurkarlab/CheXzero",
    licence="code MIT; of the weights nothing is stated",
    gives=VECTORS,
    verified="open_clip",
    signs={
        "visual.conv1.weight": (None, 3, None, None),
        "visual.class_embedding": (None,),
        "token_embedding.weight": (None, None),
        "text_projection": (None, None),
    },
    build=build,
    vocabulary="bpe_simple_vocab_16e6.txt.gz of OpenAI's CLIP, or vocab.json and merges.txt",
    averaged=True,
    note="The authors average the probabilities of ten checkpoints: give their folder to zero-shot --authors.",
)
