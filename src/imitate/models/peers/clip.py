"""Any CLIP in a folder of transformers."""

from typing import Any

import torch
from torch import Tensor

from imitate.models.peers.base import VECTORS, Family, OfPooled, Peer, linear, prepared, temperature_of
from imitate.models.peers.huggingface import (
    CLIP_MEAN,
    CLIP_STD,
    TIMM_ACTIVATIONS,
    preprocessing,
    text_name,
    text_of,
    vision_name,
    vision_of,
)
from imitate.models.peers.images import vit
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText, PreNormText, clip_text
from imitate.models.peers.tokens import Rules


def _clip(state: State) -> Peer:
    sees, reads = vision_of(state.config), text_of(state.config)
    image = vit(
        state,
        "vision_model.",
        rename=vision_name,
        unused=[r"embeddings\.position_ids"],
        heads=sees.get("num_attention_heads"),
        eps=sees.get("layer_norm_eps", 1e-5),
        pre_norm=True,
        act_layer=TIMM_ACTIVATIONS[sees.get("hidden_act", "quick_gelu")],
    )
    text = clip_text(
        state,
        "text_model.",
        text_name,
        unused=[r"embeddings\.position_ids"],
        heads=reads.get("num_attention_heads"),
        activation=reads.get("hidden_act", "quick_gelu"),
        causal=True,
        eps=reads.get("layer_norm_eps", 1e-5),
    )
    side = image.network.patch_embed.img_size[0]
    return Peer(
        image,
        preprocessing(state.config, side, prepared("crop-bicubic", side, mean=CLIP_MEAN, std=CLIP_STD)),
        head=OfPooled(linear(state, "visual_projection.", image.width)),
        text=PeerText(
            "CLIP",
            text,
            end_of_text_of(reads.get("eos_token_id", 2)),
            Rules("clip", len(text.positional_embedding)),
            linear(state, "text_projection.", text.ln_final.normalized_shape[0]),
        ),
        temperature=temperature_of(state, "logit_scale", 2.6592),
    )


def end_of_text_of(number: int) -> Any:
    """CLIP's pooling where ``number`` ends a text; 2 is what older configurations say of the largest."""

    def read(model: PreNormText, ids: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = model(ids)
        ends = (ids == number).int().argmax(1) if number != 2 else ids.argmax(1)
        return hidden[torch.arange(len(ids), device=ids.device), ends]

    return read


HUB = "huggingface.co, a folder with config.json, model.safetensors and preprocessor_config.json"
FAMILY = Family(
    name="clip",
    title="CLIP of transformers",
    where=HUB,
    licence="that of the folder",
    gives=VECTORS,
    verified="transformers",
    signs={
        "visual_projection.weight": (None, None),
        "text_projection.weight": (None, None),
        "text_model.embeddings.token_embedding.weight": (None, None),
    },
    build=_clip,
    vocabulary="tokenizer.json, or vocab.json and merges.txt",
)
