"""The one door to timm: any of its networks as a pyramid encoder."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg
from torch import nn

from imitate.config import Recipe
from imitate.errors import UserError
from imitate.models import hub
from imitate.models.types import ImageFeatures, Images

DEPTH = 4


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
    ) -> None:
        """``size`` is that of the images, for networks that are built for one; default: their own."""
        super().__init__()
        self.name, self.frozen = name, False
        published = _published(name)
        if pretrained:
            _check_weights(name, published)
        self.options = _sized(name, published, dict(options or {}), size)
        self.network: Any = _create(name, pretrained, self.options)
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
        channels = self.network.pretrained_cfg["input_size"][0] if self.network.pretrained_cfg else 3
        try:
            self.eval()(weight.new_zeros(1, channels, side, side))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UserError(f"{self.name} does not take images of {side} pixels: {error}") from error
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
        return set(getattr(self.network, "no_weight_decay", set)())

    def blocks_above(self) -> dict[str, int]:
        """For each weight of the network, how many of timm's blocks lie between it and the heads; 0 in the last."""
        groups = timm.models.group_parameters(self.network, self.network.group_matcher(coarse=False), reverse=True)
        deepest = max(groups.values())
        return {name: deepest - block for name, block in groups.items()}

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


def pinned(recipe: Recipe) -> Recipe:
    """With the tag of the pretrained weights and, where the recipe sets neither, the mean and std they were trained on.

    What timm takes for a bare name may change; the tag is what a run records.
    """
    model = recipe.model
    if not recipe.pretrained:
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
            f"cannot get timm's weights for {name}: the hub does not answer, and they are not in its cache on this "
            "disk; set pretrained=false to train without them, or give a file of weights to evaluate"
        )


def _sized(name: str, published: PretrainedCfg, options: dict[str, Any], size: int | None) -> dict[str, Any]:
    """With the size of the images for a network that is built for one, where it is not its own."""
    own = published.input_size[-1]
    if size in (None, own) or "img_size" in options or not published.fixed_input_size:
        return options
    wanted = {**options, "img_size": size}
    try:  # some take the option, and no such image
        with torch.device("meta"), torch.no_grad():
            network = timm.create_model(name, num_classes=0, **wanted).eval()
            network(torch.zeros(1, published.input_size[0], size, size))
    except Exception as error:
        raise UserError(f"timm's {name} takes images of {own} px, not of {size}: set model.image_size={own}") from error
    return wanted


def _choose(reductions: list[int]) -> tuple[list[int], int | None]:
    """Indices of the four levels among a network's stages, and the stride-2 stem's if there is one."""
    count = len(reductions)
    if count < DEPTH:
        raise UserError(f"the network has {count} feature levels, {DEPTH} are needed: choose another")
    if reductions[0] == reductions[-1]:
        return [round((i + 1) * count / DEPTH) - 1 for i in range(DEPTH)], None
    first = count - DEPTH
    stem = first - 1 if first and reductions[first - 1] == reductions[first] // 2 else None
    return list(range(first, count)), stem
