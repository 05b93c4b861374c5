"""Image networks of published encoders, all of them timm's, with sizes read from the shapes of a checkpoint."""

import math
import re
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imitate.models.image import ImageEncoder
from imitate.models.peers.state import Rename, State
from imitate.models.types import ImageFeatures, Images

HEAD = 64  # width of an attention head, where no file says otherwise
Pooling = Literal["head", "corner", "patches", "blocks"] | nn.Module


class Enter(nn.Module):
    """Images brought to the side that a network was made for, where they are of another."""

    def __init__(self, side: int, mode: str = "bilinear", *, antialias: bool = True, align: bool = False) -> None:
        super().__init__()
        self.side = side
        self._options: dict[str, Any] = {"mode": mode, "antialias": antialias, "align_corners": align}

    def forward(self, images: Images) -> Tensor:
        if images.shape[-1] == images.shape[-2] == self.side:
            return images
        return F.interpolate(images, (self.side, self.side), **self._options)

    def extra_repr(self) -> str:
        return f"{self.side}, {self._options}"


class PeerImage(ImageEncoder):
    """A timm network behind ``enter``, which may resize. ``pooled`` is the feature that its authors probe:

    - ``head``: what the network pools, such as the average of C4 or the CLS token;
    - ``corner``: the first place of the last map, which CXR-CLIP takes for a CLS token;
    - ``patches``: the mean of the patch tokens of the last block, before the last normalisation;
    - ``blocks``: the CLS tokens of the last four blocks side by side;
    - a module: what it makes of the network's last map, its ``width`` numbers.
    """

    def __init__(self, name: str, enter: nn.Module, pooling: Pooling, options: dict[str, Any]) -> None:
        super().__init__(name, options=options)
        self.enter, self.pooling = enter, pooling
        if isinstance(pooling, nn.Module):
            self.width = int(getattr(pooling, "width"))  # noqa: B009
        elif pooling == "blocks":
            self.width *= 4
        elif pooling != "head":
            self.width = self.channels[-1]

    def forward(self, images: Images) -> ImageFeatures:
        images = self.enter(images)
        final, levels = self.network.forward_intermediates(images, indices=self._indices)
        if isinstance(self.pooling, nn.Module):
            return ImageFeatures(levels, self.pooling(final))
        if self.pooling == "head":
            return ImageFeatures(levels, self.network.forward_head(final, pre_logits=True))
        if self.pooling == "corner":
            return ImageFeatures(levels, final[:, 0, 0])
        if self.pooling == "patches":
            return ImageFeatures(levels, levels[-1].mean((2, 3)))
        deepest = self.network.forward_intermediates(
            images, indices=4, norm=True, intermediates_only=True, return_prefix_tokens=True
        )
        return ImageFeatures(levels, torch.cat([prefix[:, 0] for _, prefix in deepest], 1))

    def pyramid(self, images: Images) -> list[Tensor]:
        """Of the size that the given images ask for, whatever size the network sees."""
        seen: Tensor = self.enter(images)
        maps = super().pyramid(seen)
        if seen.shape[-2:] == images.shape[-2:]:
            return maps
        strides = [*[2] * (len(maps) - len(self.strides)), *self.strides]
        sizes = [[-(-side // stride) for side in images.shape[-2:]] for stride in strides]
        return [F.interpolate(level, size, mode="bilinear") for level, size in zip(maps, sizes, strict=True)]


def resnet(
    state: State,
    prefix: str,
    enter: nn.Module,
    *,
    rename: Rename | None = None,
    unused: Iterable[str] = (r"fc\..*",),
    last: int = 4,
    pooling: Pooling = "head",
) -> PeerImage:
    """A ResNet under torchvision's names; ``last`` is the number of its last stage."""
    names = {(rename(name.removeprefix(prefix)) if rename else name.removeprefix(prefix)): name
             for name in state.tensors if name.startswith(prefix)}  # fmt: skip
    deep = "layer1.0.conv3.weight" in names

    def side(name: str, dimension: int) -> int:
        return state.shape(names.get(name, prefix + name))[dimension]

    blocks = [0] * 4
    for name in names:
        if match := re.match(r"layer(\d)\.(\d+)\.conv1\.weight", name):
            blocks[int(match[1]) - 1] = max(blocks[int(match[1]) - 1], int(match[2]) + 1)
    widths = [side(f"layer{stage}.0.conv1.weight", 0) for stage in range(1, last + 1)]
    options = {"in_chans": side("conv1.weight", 1), "layers": tuple(blocks[:last]) + (0,) * (4 - last)}
    options["channels"] = tuple(widths + [widths[-1]] * (4 - last))
    image = PeerImage("resnet50" if deep else "resnet18", enter, pooling, options)
    if last < 4:  # timm counts the stride of the stages that are absent
        image.strides = [min(stride, 2 ** (last + 1)) for stride in image.strides]
    absent = [rf"layer{stage}\..*" for stage in range(last + 1, 5)]
    state.fill(image.network, prefix, rename=rename, unused=[*unused, *absent])
    return image


def densenet(state: State, prefix: str, enter: nn.Module, *, unused: Iterable[str] = ()) -> PeerImage:
    """A DenseNet under torchvision's names."""
    blocks = [_dense_layers(state, f"{prefix}features.denseblock{block}.denselayer") for block in range(1, 5)]
    first = f"{prefix}features.denseblock1.denselayer1.conv2.weight"
    options = {
        "in_chans": state.shape(f"{prefix}features.conv0.weight")[1],
        "block_config": tuple(blocks),
        "growth_rate": state.shape(first)[0],
        "bn_size": state.shape(first)[1] // state.shape(first)[0],
    }
    image = PeerImage("densenet121", enter, "head", options)
    state.fill(image.network, prefix, unused=unused)
    return image


def _dense_layers(state: State, prefix: str) -> int:
    numbers = [re.match(r"\d+", name.removeprefix(prefix)) for name in state.tensors if name.startswith(prefix)]
    return max((int(number[0]) for number in numbers if number), default=0)


def vit(
    state: State,
    prefix: str,
    *,
    enter: nn.Module | None = None,
    pooling: Pooling = "head",
    rename: Rename | None = None,
    unused: Iterable[str] = (),
    heads: int | None = None,
    eps: float = 1e-6,
    **options: Any,
) -> PeerImage:
    """A ViT whose tensors, after ``rename``, have timm's names; ``options`` are timm's, beyond the sizes.

    The images that it takes are of the size that its position embeddings were made for.
    """
    names: dict[str, list[str]] = {}
    for name in state.tensors:
        if name.startswith(prefix):
            inner = name.removeprefix(prefix)
            names.setdefault((rename(inner) if rename else inner), []).append(name)

    def shape(name: str) -> tuple[int, ...]:
        return state.shape(names.get(name, [prefix + name])[0])

    width, channels, patch, _ = shape("patch_embed.proj.weight")
    tokens = shape("pos_embed")[-2] - (0 if options.get("no_embed_class") else int("cls_token" in names))
    side = patch * math.isqrt(tokens)
    gated = "mlp_layer" in options
    hidden = shape("blocks.0.mlp.fc1.weight")[0]
    image = PeerImage(
        "vit_base_patch16_224",
        enter or Enter(side),
        pooling,
        {
            "img_size": side,
            "patch_size": patch,
            "in_chans": channels,
            "embed_dim": width,
            "depth": len([name for name in names if re.fullmatch(r"blocks\.\d+\.norm1\.weight", name)]),
            "num_heads": heads or max(1, width // HEAD),
            "mlp_ratio": hidden / width,
            "norm_layer": partial(nn.LayerNorm, eps=eps),
            "class_token": "cls_token" in names,
            "final_norm": "norm.weight" in names,
            "init_values": 1.0 if "blocks.0.ls1.gamma" in names else None,
            **({} if gated else {"act_layer": "gelu"}),
            **options,
        },
    )
    state.fill(image.network, prefix, rename=rename, unused=unused)
    return image


SWIN_BUFFERS = (r".*relative_position_index", r".*attn_mask", r"head\..*")


def swin(
    state: State,
    prefix: str,
    side: int,
    *,
    pooling: Pooling = "head",
    rename: Rename | None = None,
    unused: Iterable[str] = (),
) -> PeerImage:
    """A Swin transformer whose tensors, after ``rename``, have timm's names."""
    names = {(rename(name.removeprefix(prefix)) if rename else name.removeprefix(prefix)).partition("|")[0]: name
             for name in state.tensors if name.startswith(prefix)}  # fmt: skip
    depths, heads = [0] * 4, [1] * 4
    window = 7
    for name, source in names.items():
        if match := re.fullmatch(r"layers\.(\d)\.blocks\.(\d+)\.attn\.relative_position_bias_table", name):
            stage = int(match[1])
            depths[stage] = max(depths[stage], int(match[2]) + 1)
            places, heads[stage] = state.shape(source)
            window = (math.isqrt(places) + 1) // 2 if not stage else window
    patches = names.get("patch_embed.proj.weight", f"{prefix}patch_embed.proj.weight")
    width, channels, patch, _ = state.shape(patches)
    options = {
        "img_size": side,
        "patch_size": patch,
        "in_chans": channels,
        "embed_dim": width,
        "depths": tuple(depths),
        "num_heads": tuple(heads),
        "window_size": window,
    }
    image = PeerImage("swin_tiny_patch4_window7_224", Enter(side), pooling, options)
    state.fill(image.network, prefix, rename=rename, unused=[*SWIN_BUFFERS, *unused])
    return image


def later_downsample(name: str) -> str:
    """Older versions of timm, and transformers, put a Swin's downsampling at the end of a stage, not at its start."""
    return re.sub(r"^layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) + 1}.downsample", name)


def swin_of_transformers(name: str) -> str:
    """transformers 4's names of a Swin as timm's."""
    for old, new in (
        ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
        ("embeddings.norm", "patch_embed.norm"),
        ("encoder.layers.", "layers."),
        ("layernorm_before", "norm1"),
        ("layernorm_after", "norm2"),
        ("attention.self.query", "attn.qkv|0"),
        ("attention.self.key", "attn.qkv|1"),
        ("attention.self.value", "attn.qkv|2"),
        ("attention.self.", "attn."),
        ("attention.output.dense", "attn.proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    ):
        name = name.replace(old, new)
    return later_downsample(re.sub(r"^layernorm\.", "norm.", name))
