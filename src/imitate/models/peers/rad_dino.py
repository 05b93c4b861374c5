"""Any DINOv2 in a folder of transformers, such as RAD-DINO."""

import re
from typing import Any

from torch import nn

from imitate.config import Preprocessing
from imitate.models.peers.base import FEATURES, Family, Peer, prepared
from imitate.models.peers.huggingface import IMAGENET_MEAN, IMAGENET_STD, preprocessing, replaced
from imitate.models.peers.images import vit
from imitate.models.peers.state import State


def _dino_name(name: str) -> str:
    """Of transformers 4 and 5, whose attention has other names."""
    return replaced(
        re.sub(r"^(encoder\.)?layer\.", "blocks.", name),
        (
            ("embeddings.cls_token", "cls_token"),
            ("embeddings.register_tokens", "reg_token"),
            ("embeddings.position_embeddings", "pos_embed"),
            ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
            ("attention.attention.query.", "attn.qkv|0."),
            ("attention.attention.key.", "attn.qkv|1."),
            ("attention.attention.value.", "attn.qkv|2."),
            ("attention.output.dense.", "attn.proj."),
            ("attention.q_proj.", "attn.qkv|0."),
            ("attention.k_proj.", "attn.qkv|1."),
            ("attention.v_proj.", "attn.qkv|2."),
            ("attention.o_proj.", "attn.proj."),
            ("layer_scale1.lambda1", "ls1.gamma"),
            ("layer_scale2.lambda1", "ls2.gamma"),
            ("mlp.weights_in.", "mlp.fc1."),
            ("mlp.weights_out.", "mlp.fc2."),
            ("layernorm.", "norm."),
        ),
    )


def _dinov2(state: State) -> Peer:
    gated = "encoder.layer.0.mlp.weights_in.weight" in state
    options: dict[str, Any] = {}
    if gated:
        from timm.layers import SwiGLUPacked

        options = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    registers = "embeddings.register_tokens"
    if registers in state:
        options["reg_tokens"] = state.shape(registers)[1]
        position = state.take("embeddings.position_embeddings")
        options["no_embed_class"] = True
        state.tensors["embeddings.position_embeddings"] = position[:, 1:]
        state.tensors["embeddings.cls_token"] = state.take("embeddings.cls_token") + position[:, :1]
    image = vit(
        state,
        "",
        rename=_dino_name,
        unused=[r"embeddings\.mask_token"],
        eps=state.config.get("layer_norm_eps", 1e-6),
        heads=state.config.get("num_attention_heads"),
        **options,
    )
    side = image.network.patch_embed.img_size[0]
    return Peer(image, preprocessing(state.config, side, dino_preprocessing(side)))


def dino_preprocessing(side: int) -> Preprocessing:
    """RAD-DINO's, which differs from ImageNet's in mean and std, for a network of its size."""
    mean, std = ((0.5307,) * 3, (0.2583,) * 3) if side == 518 else (IMAGENET_MEAN, IMAGENET_STD)
    return prepared("crop-bicubic", side, mean=mean, std=std)


FAMILY = Family(
    name="dinov2",
    title="DINOv2 of transformers, such as RAD-DINO",
    where="huggingface.co, e.g. microsoft/rad-dino",
    licence="that of the folder; RAD-DINO: MIT",
    gives=FEATURES,
    verified="transformers",
    signs={
        "embeddings.patch_embeddings.projection.weight": (None, None, None, None),
        "embeddings.position_embeddings": (1, None, None),
        "embeddings.cls_token": (1, 1, None),
    },
    build=_dinov2,
    unused=(r"embeddings\.mask_token",),
)
