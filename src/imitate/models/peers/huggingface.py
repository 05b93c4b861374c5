"""What folders of transformers have in common: names of tensors, configurations, preprocessing."""

from collections.abc import Mapping
from typing import Any

from imitate.config import Preprocessing
from imitate.errors import UserError
from imitate.models.peers.base import prepared

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TIMM_ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "silu": "silu"}
RESAMPLING = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
BLOCK = (
    ("layer_norm1.", "norm1."),
    ("layer_norm2.", "norm2."),
    ("self_attn.q_proj.", "attn.qkv|0."),
    ("self_attn.k_proj.", "attn.qkv|1."),
    ("self_attn.v_proj.", "attn.qkv|2."),
    ("self_attn.out_proj.", "attn.proj."),
)


def replaced(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        name = name.replace(old, new)
    return name


def vision_name(name: str) -> str:
    return replaced(
        name,
        (
            ("embeddings.class_embedding", "cls_token"),
            ("embeddings.patch_embedding.", "patch_embed.proj."),
            ("embeddings.position_embedding.weight", "pos_embed"),
            ("pre_layrnorm.", "norm_pre."),  # their spelling
            ("post_layernorm.", "norm."),
            ("encoder.layers.", "blocks."),
            ("head.probe", "attn_pool.latent"),
            ("head.attention.out_proj.", "attn_pool.proj."),
            ("head.layernorm.", "attn_pool.norm."),
            ("head.mlp.", "attn_pool.mlp."),
            *BLOCK,
        ),
    )


def text_name(name: str) -> str:
    return replaced(
        name,
        (
            ("embeddings.token_embedding.", "token_embedding."),
            ("embeddings.position_embedding.weight", "positional_embedding"),
            ("final_layer_norm.", "ln_final."),
            ("encoder.layers.", "blocks."),
            ("layer_norm1.", "ln_1."),
            ("layer_norm2.", "ln_2."),
            ("self_attn.q_proj.", "attn.in_proj_|0"),
            ("self_attn.k_proj.", "attn.in_proj_|1"),
            ("self_attn.v_proj.", "attn.in_proj_|2"),
            ("self_attn.out_proj.", "attn.out_proj."),
            ("mlp.fc1.", "mlp.c_fc."),
            ("mlp.fc2.", "mlp.c_proj."),
        ),
    )


def preprocessing(config: Mapping[str, Any], side: int, default: Preprocessing) -> Preprocessing:
    """As preprocessor_config.json says, for a network of images of ``side`` pixels; without it ``default``."""
    values = config.get("preprocessor")
    if not isinstance(values, Mapping):
        return default
    size = values.get("size", side)
    size = size if isinstance(size, Mapping) else {"shortest_edge": size}
    crop = values.get("crop_size", side)
    crop = int(crop.get("height", side) if isinstance(crop, Mapping) else crop)
    name = RESAMPLING.get(int(values.get("resample", 3)))
    if name is None:
        raise UserError("preprocessor_config.json: resample must be 2, bilinear, or 3, bicubic")
    scale = float(values.get("rescale_factor", 1 / 255)) * 255 if values.get("do_rescale", True) else 255.0
    normalised = values.get("do_normalize", True)
    mean = tuple(values.get("image_mean") or default.mean) if normalised else (0.0,) * 3
    std = tuple(values.get("image_std") or default.std) if normalised else (1.0,) * 3
    if "shortest_edge" not in size:
        return prepared(f"stretch-{name}", int(size["height"]), mean=mean, std=std, range=(0.0, scale))
    shortest = int(size["shortest_edge"])
    cropped = min(crop, shortest) if values.get("do_center_crop", True) else shortest
    return prepared(f"crop-{name}", shortest, cropped, mean=mean, std=std, range=(0.0, scale))


def vision_of(config: Mapping[str, Any]) -> dict[str, Any]:
    found = config.get("vision_config", config)
    return dict(found) if isinstance(found, Mapping) else {}


def text_of(config: Mapping[str, Any]) -> dict[str, Any]:
    found = config.get("text_config", {})
    return dict(found) if isinstance(found, Mapping) else {}
