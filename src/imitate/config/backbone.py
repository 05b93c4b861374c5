"""Which networks, options and weights a config may name: networks and options are those that only timm knows.

A config may come from a stranger, and timm.create_model takes options that read files or reach the network.
"""

import re
from typing import Any

NAMES = frozenset({
    "aa_layer", "act_layer", "avg_down", "base_width", "cardinality", "channels", "class_token", "depth", "depths",
    "dims", "drop_path_rate", "drop_rate", "dynamic_img_pad", "dynamic_img_size", "embed_dim", "embed_dims",
    "global_pool", "growth_rate", "head_init_scale", "img_size", "init_values", "kernel_size", "layers",
    "ls_init_value", "mlp_ratio", "mlp_ratios", "no_embed_class", "norm_layer", "num_heads", "output_stride",
    "patch_size", "pos_embed", "qk_norm", "qkv_bias", "reg_tokens", "stem_type", "stem_width", "strides", "widths",
    "window_size", "zero_init_last",
})  # fmt: skip
"""Options that change the architecture, and nothing else."""
LARGEST, DEEPEST = 8192, 128  # value of an option, number of blocks


def check_backbone(name: str) -> str:
    """ValueError: a name by which timm would read a folder, or ask a hub."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"{name!r} must be the name of a timm network, such as resnet50, not a path or a hub address")
    return name


def check_options(options: dict[str, Any]) -> dict[str, Any]:
    """ValueError: an option that is not of ``NAMES``, or a value out of bounds."""
    for name, value in options.items():
        if name not in NAMES:
            raise ValueError(f"{name!r} is not allowed; allowed are: {', '.join(sorted(NAMES))}")
        most = DEEPEST if name in {"depth", "depths", "layers"} else LARGEST
        for each in value if isinstance(value, list | tuple) else [value]:
            word = isinstance(each, str) and re.fullmatch(r"\w{0,40}", each)
            if not (word or each is None or (isinstance(each, int | float) and abs(each) <= most)):
                raise ValueError(f"{name} = {each!r} must be a word or a number up to {most}, or a list of these")
    return options


def check_init(source: str | None) -> str | None:
    """ValueError: weights whose name says too little to be found again."""
    if source in ("imagenet", "random", ""):
        raise ValueError("write pretrained: true for timm's ImageNet weights, pretrained: false for random ones")
    if source and source.startswith("hf-hub:") and not re.fullmatch(r"hf-hub:[\w.-]+/[\w.-]+@[\w./-]+", source):
        raise ValueError(f"{source} has no revision: write hf-hub:OWNER/NAME@REVISION")
    if source and source.startswith("timm:"):
        check_backbone(source.removeprefix("timm:"))
    return source
