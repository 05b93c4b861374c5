"""Any SigLIP in a folder of transformers, such as MedSigLIP."""

from collections.abc import Mapping
from typing import Any

from imitate.models.peers.base import VECTORS, Family, Peer, linear, prepared, temperature_of
from imitate.models.peers.huggingface import (
    HALF,
    TIMM_ACTIVATIONS,
    preprocessing,
    text_name,
    text_of,
    vision_name,
    vision_of,
)
from imitate.models.peers.images import PeerImage, vit
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText, clip_text
from imitate.models.peers.tokens import Rules


def _siglip(state: State) -> Peer:
    sees, reads = vision_of(state.config), text_of(state.config)
    image = _siglip_image(state, sees)
    text = clip_text(
        state,
        "text_model.",
        text_name,
        unused=[r"embeddings\.position_ids", r"head\..*"],
        causal=False,
        heads=_heads(reads, state.shape("text_model.head.weight")[1]),
        activation=reads.get("hidden_act", "gelu_pytorch_tanh"),
        eps=reads.get("layer_norm_eps", 1e-6),
    )
    side = image.network.patch_embed.img_size[0]
    return Peer(
        image,
        preprocessing(state.config, side, prepared("stretch-bicubic", side, mean=HALF, std=HALF)),
        text=PeerText(
            "SigLIP",
            text,
            lambda model, ids, mask: model(ids)[:, -1],
            Rules("sentencepiece", len(text.positional_embedding), str.strip, full=True),
            linear(state, "text_model.head.", text.ln_final.normalized_shape[0]),
        ),
        temperature=temperature_of(state, "logit_scale", 0.0),
    )


def _heads(config: Mapping[str, Any], width: int) -> int:
    """Without a configuration those of the published sizes."""
    return int(config.get("num_attention_heads") or (16 if width == 1152 else max(1, width // 64)))


def _siglip_image(state: State, sees: Mapping[str, Any]) -> PeerImage:
    for kind in ("weight", "bias"):  # queries apart from keys and values
        fused = state.take(f"vision_model.head.attention.in_proj_{kind}")
        width = len(fused) // 3
        state.tensors[f"vision_model.attn_pool.q.{kind}"] = fused[:width]
        state.tensors[f"vision_model.attn_pool.kv.{kind}"] = fused[width:]
    return vit(
        state,
        "vision_model.",
        rename=vision_name,
        heads=_heads(sees, width),
        unused=[r"embeddings\.position_ids", r"head\.attention\.in_proj_.*"],
        eps=sees.get("layer_norm_eps", 1e-6),
        act_layer=TIMM_ACTIVATIONS[sees.get("hidden_act", "gelu_pytorch_tanh")],
        global_pool="map",
    )


FAMILY = Family(
    name="siglip",
    title="SigLIP of transformers, such as MedSigLIP",
    where="huggingface.co, e.g. google/medsiglip-448 (gated)",
    licence="that of the folder; MedSigLIP: Health AI Developer Foundations terms",
    gives=VECTORS,
    verified="transformers",
    signs={
        "vision_model.head.probe": (1, 1, None),
        "text_model.head.weight": (None, None),
        "text_model.embeddings.token_embedding.weight": (None, None),
    },
    build=_siglip,
    unused=("logit_bias",),
    vocabulary="tokenizer.json, or spiece.model with the package sentencepiece",
    note="Cosine times exp(logit_scale) plus logit_bias ranks as the cosine does.",
)
