"""Wraps timm: any of its networks as an encoder with features of several levels."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg
from torch import nn
from torch.nn import functional as F

from imitate.config import Recipe
from imitate.errors import UserError
from imitate.models import hub
from imitate.models.recomputing import recompute
from imitate.models.types import ImageFeatures, Images

DEPTH = 4
FLEXIBLE = {"dynamic_img_size": True}  # timm's option to interpolate position embeddings for images of other sizes
STEM = ("reg_token", "norm_pre")  # which older versions of timm take for the last block's


class ImageEncoder(nn.Module):
    """A timm network, CNN or ViT, that returns its four deepest pyramid levels and the pooled feature.

    A CNN's levels are its last four strides (C1..C4 of a ResNet: strides 4 to 32). A network whose blocks share one
    stride (ViT) gives four blocks spread evenly over its depth. ``pooled`` is the network's own pooled feature; for a
    ResNet that is the global average of C4. ``network`` keeps timm's parameter names.
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = False,
        options: Mapping[str, Any] | None = None,
        size: int | None = None,
        channels: int = 3,
    ) -> None:
        """``size`` is that of the images, for networks that are built for one; default: their own.

        Those whose position embeddings timm can interpolate take images of other sizes, too. Pretrained weights of
        three channels are summed over them where the images have one.
        """
        super().__init__()
        self.name, self.frozen = name, False
        published = _published(name)
        if pretrained:
            _check_weights(name, published)
        options = {**(options or {}), **({} if channels == published.input_size[0] else {"in_chans": channels})}
        self.image_channels = int(options.get("in_chans", channels))
        sized, flexible = _sized(name, published, options, size, self.image_channels)
        self.options = {**options, **sized}
        self.network: Any = _create(name, pretrained, {**self.options, **flexible})
        info = self.network.feature_info
        self._indices, self._stem = _choose([stage["reduction"] for stage in info])
        self.channels: list[int] = [info[i]["num_chs"] for i in self._indices]
        self.strides: list[int] = [info[i]["reduction"] for i in self._indices]
        self.stem_channels: int | None = None if self._stem is None else info[self._stem]["num_chs"]
        self.width: int = self.network.head_hidden_size  # what the head's hidden layer gives, where it has one

    @property
    def stages(self) -> list[nn.Module]:
        """The modules whose outputs are the levels (a ViT's are tokens, some networks' have the channels last)."""
        return [self.network.get_submodule(self.network.feature_info[i]["module"]) for i in self._indices]

    def forward(self, images: Images) -> ImageFeatures:
        final, levels = self.network.forward_intermediates(images, indices=self._indices)
        return ImageFeatures(levels, self.network.forward_head(final, pre_logits=True))

    @torch.no_grad()
    def check_side(self, side: int) -> None:
        """UserError where the network does not take images of this side."""
        was, weight = self.training, next(self.network.parameters())
        try:
            self.eval()(weight.new_zeros(1, self.image_channels, side, side))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UserError(f"{self.name} does not accept images of {side} pixels: {error}") from error
        finally:
            self.train(was)

    def freeze(self) -> None:
        """No gradients, and always in eval mode."""
        self.frozen = True
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "ImageEncoder":
        return super().train(mode and not self.frozen)

    @property
    def spared(self) -> set[str]:
        """Weights of the network that timm takes no weight decay from: position embeddings, tokens, bias tables."""
        registers = {"reg_token"} & dict(self.network.named_parameters()).keys()  # which older versions forget
        return {*getattr(self.network, "no_weight_decay", set)(), *registers}

    def blocks_above(self) -> dict[str, int]:
        """For each weight of the network, how many of timm's blocks lie between it and the heads; 0 in the last."""
        groups = timm.models.group_parameters(self.network, self.network.group_matcher(coarse=False), reverse=True)
        first = min(groups.values())
        groups = {name: first if name.startswith(STEM) else block for name, block in groups.items()}
        deepest = max(groups.values())
        return {name: deepest - block for name, block in groups.items()}

    def recompute_blocks(self) -> None:
        """Gradient checkpointing: of each of timm's blocks only the input is kept for the backward pass."""
        above = self.blocks_above()
        blocks = list(_blocks(self.network, "", above))
        if not blocks:
            raise UserError(
                f"{self.name} has no blocks that can be recomputed: set training.gradient_checkpointing=false"
            )
        for block in blocks:
            recompute(block)

    @property
    def normalises_batches(self) -> bool:
        return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.network.modules())

    def synchronise(self) -> None:
        """BatchNorm statistics over all processes from now on; needs a GPU."""
        self.network = timm.layers.convert_sync_batchnorm(self.network)

    def pyramid(self, images: Images) -> list[torch.Tensor]:
        """The four levels with the stem's map (stride 2) in front where the network has one, for dense decoders."""
        indices = self._indices if self._stem is None else [self._stem, *self._indices]
        levels: list[torch.Tensor] = self.network.forward_intermediates(
            images, indices=indices, intermediates_only=True
        )
        return levels


class Pixels(nn.Module):
    """The simplest encoder: an image's own 24 x 24 gray pixels. What acquisition alone gives away."""

    side = 24

    def forward(self, images: Images) -> ImageFeatures:
        small = F.interpolate(images[:, :1], size=(self.side, self.side), mode="area")
        return ImageFeatures([small], small.flatten(1))


def pinned(recipe: Recipe) -> Recipe:
    """With the tag of the pretrained weights and, where the recipe sets neither, the mean and std they were trained on.

    What timm takes for a bare name may change; the tag is what a run records.
    """
    model = recipe.model
    if not recipe.pretrained or recipe.init:
        return recipe
    found: dict[str, Any] = {} if {"mean", "std"} & model.model_fields_set else statistics_of(model.backbone)
    tag = _published(model.backbone).tag
    if tag and "." not in model.backbone:
        found["backbone"] = f"{model.backbone}.{tag}"
    return recipe.model_copy(update={"model": model.model_copy(update=found)})


def statistics_of(name: str) -> dict[str, tuple[float, ...]]:
    """``mean`` and ``std`` of the images that a network's weights were trained on."""
    published = _published(name)
    return {"mean": tuple(published.mean), "std": tuple(published.std)}


def is_network(name: str) -> bool:
    """Whether timm has it, with or without the tag of its weights."""
    return bool(timm.is_model(name))


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> Any:
    try:
        network = timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
    except MemoryError:
        raise
    except Exception as error:  # what a network makes of an option that it does not have
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"timm cannot build {name} with the options {options}: {first}") from error
    if not hasattr(network, "forward_intermediates"):
        raise UserError(f"timm's {name} gives no intermediate features: choose another network, e.g. resnet50")
    return network


def _published(name: str) -> PretrainedCfg:
    """What timm knows of the network's weights."""
    if not is_network(name):
        near = get_close_matches(name, timm.list_models(), n=5) or ["resnet50"]
        raise UserError(f"timm has no network {name!r}; it has for instance {', '.join(near)}")
    try:
        return timm.get_pretrained_cfg(name) or PretrainedCfg()
    except RuntimeError as error:
        raise UserError(f"timm has no weights {name!r}; it has {', '.join(_tagged(name))}") from error


def _tagged(name: str) -> list[str]:
    found: list[str] = timm.list_pretrained(f"{name.partition('.')[0]}.*")
    return found


def _check_weights(name: str, published: PretrainedCfg) -> None:
    """UserError at once where timm has no weights, or they are neither on this disk nor to be had."""
    if not published.has_weights:
        raise UserError(f"timm has no weights for {name}: set pretrained=false, or choose another network")
    if published.hf_hub_id and not hub.is_available(published.hf_hub_id):
        raise UserError(
            f"cannot get timm's weights for {name}: the hub does not respond, and they are not in the cache on this "
            "disk; set pretrained=false to train without them, or give a file of weights to evaluate"
        )


def _sized(
    name: str, published: PretrainedCfg, options: dict[str, Any], size: int | None, channels: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options to add for a network that is built for one size: that of the images where it is not its own, and where
    timm has it, the one with which it takes others, too."""
    own = published.input_size[-1]
    if not published.fixed_input_size or {"img_size", *FLEXIBLE} & options.keys():
        return {}, {}
    sized = {} if size in (None, own) else {"img_size": size}
    for flexible in (FLEXIBLE, {}):
        if _takes(name, {**options, **sized, **flexible}, (channels, *2 * (size or own,))):
            return sized, flexible
    if sized:
        raise UserError(f"timm's {name} accepts images of {own} px, not of {size}: set model.image_size={own}")
    return {}, {}


def _takes(name: str, options: dict[str, Any], shape: tuple[int, ...]) -> bool:
    """Whether a network with these options takes images of this shape: some take the option, and no such image."""
    try:
        with torch.device("meta"), torch.no_grad():
            timm.create_model(name, num_classes=0, **options).eval()(torch.zeros(1, *shape))
    except MemoryError:
        raise
    except Exception:
        return False
    return True


def _blocks(module: nn.Module, prefix: str, above: Mapping[str, int]) -> Iterator[nn.Module]:
    """The largest modules within that belong to one of timm's blocks; containers are not called, nor worth it."""
    for name, child in module.named_children():
        inside = f"{prefix}{name}."
        several = len({block for weight, block in above.items() if weight.startswith(inside)}) > 1
        if several or isinstance(child, nn.Sequential | nn.ModuleList):
            yield from _blocks(child, inside, above)
        elif next(child.children(), None) is not None:
            yield child


def _choose(reductions: list[int]) -> tuple[list[int], int | None]:
    """Indices of the four levels among a network's stages, and the stride-2 stem's if there is one."""
    count = len(reductions)
    if count < DEPTH:
        raise UserError(f"the network has {count} feature levels, but {DEPTH} are needed: choose another network")
    if reductions[0] == reductions[-1]:
        return [round((i + 1) * count / DEPTH) - 1 for i in range(DEPTH)], None
    first = count - DEPTH
    stem = first - 1 if first and reductions[first - 1] == reductions[first] // 2 else None
    return list(range(first, count)), stem
