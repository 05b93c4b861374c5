"""The IMITATE model: one backbone, a findings branch over its levels, an impression branch over its pooled feature."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from imitate.config import ImitateConfig, validate
from imitate.config.files import read_json
from imitate.errors import UserError
from imitate.models.aggregation import ChannelDraw, HierarchicalAggregation
from imitate.models.heads import PresentBatchNorm, Projection
from imitate.models.hub import local_folder
from imitate.models.image import ImageEncoder
from imitate.models.types import ImageEmbedding, ImageFeatures, Images

WEIGHTS = "model.safetensors"
FORMAT_VERSION = 1


class Imitate(nn.Module):
    """Images and text embeddings into one joint space, twice: descriptive (findings) and conclusive (impression).

    Embeddings are not L2-normalised; losses and tasks do that. In eval mode everything is deterministic: all channels
    take part in the aggregation (see HierarchicalAggregation). Without levels both branches have one embedding, that of
    the pooled feature.
    """

    def __init__(self, config: ImitateConfig, *, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        self.image = ImageEncoder(
            config.backbone, pretrained=pretrained, options=config.backbone_options, size=config.image_size
        )
        if config.levels:
            self.aggregation = HierarchicalAggregation(config, self.image.channels)
            tokens = config.grid**2
            self.findings_head = Projection(tokens, tokens, config.joint_width)
        self.impression_head = Projection(self.image.width, self.image.width, config.joint_width)
        self.text_head = Projection(config.text_width, 1024, config.joint_width)
        if config.text_statistics == "section":
            for norm in self.text_head:
                if isinstance(norm, PresentBatchNorm):
                    norm.keep_sections()

    def encode_image(self, images: Images, draw: ChannelDraw | None = None) -> ImageEmbedding:
        features = self.image(images)
        return ImageEmbedding(self.embed_findings(features, draw), self.embed_impression(features), features)

    def embed_findings(self, features: ImageFeatures, draw: ChannelDraw | None = None) -> Float[Tensor, "batch joint"]:
        return self.project_findings(self.aggregate(features, draw))

    def aggregate(self, features: ImageFeatures, draw: ChannelDraw | None = None) -> Float[Tensor, "batch width"]:
        """What the findings branch's head reads."""
        aggregated: Tensor = self.aggregation(features.levels, draw) if self.config.levels else features.pooled
        return aggregated

    def aggregate_each(
        self, features: ImageFeatures, draws: Sequence[ChannelDraw]
    ) -> list[Float[Tensor, "batch width"]]:
        """``aggregate`` under each draw, at less than its cost."""
        return self.aggregation.each(features.levels, draws) if self.config.levels else [features.pooled for _ in draws]

    def project_findings(self, aggregated: Float[Tensor, "batch width"]) -> Float[Tensor, "batch joint"]:
        head = self.findings_head if self.config.levels else self.impression_head
        projected: Tensor = head(aggregated)
        return projected

    def embed_impression(self, features: ImageFeatures) -> Float[Tensor, "batch joint"]:
        projected: Tensor = self.impression_head(features.pooled)
        return projected

    def encode_text(
        self,
        text: Float[Tensor, "texts width"],
        present: Bool[Tensor, " texts"] | None = None,
        section: str | None = None,
    ) -> Float[Tensor, "texts joint"]:
        """Project embeddings of the frozen text encoder; rows that are not ``present`` give rows to be ignored.

        ``section`` is what they are texts of, for a model that keeps statistics of each (``text_statistics``).
        """
        projected: Tensor = self.text_head(text, present, section)
        return projected

    def synchronise(self, *, backbone: bool = True) -> None:
        """BatchNorm statistics over all processes from now on; the names of the weights stay.

        Without ``backbone`` those of the heads alone, which needs no GPU.
        """
        if backbone:
            self.image.synchronise()
        for module in self.modules():
            if isinstance(module, PresentBatchNorm):
                module.synchronised = True

    def save(self, folder: Path) -> None:
        """``model.safetensors`` and ``config.json``, each written and synced whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(state, folder / f"{WEIGHTS}.part")
        values = {"format_version": FORMAT_VERSION, **self.config.model_dump(mode="json")}
        (folder / "config.json.part").write_text(json.dumps(values, indent=1), encoding="utf-8")
        shutil.copymode(folder / "config.json.part", folder / f"{WEIGHTS}.part")  # else 0600
        for name in (WEIGHTS, "config.json"):
            with (folder / f"{name}.part").open("rb+") as file:
                os.fsync(file.fileno())
            (folder / f"{name}.part").replace(folder / name)

    @classmethod
    def from_pretrained(cls, source: Path | str) -> "Imitate":
        """What ``save`` wrote, in eval mode, from a folder or from ``hf-hub:OWNER/NAME@REVISION``.

        UserError: no model, a damaged one, or one of another version.
        """
        folder = local_folder(source)
        if not (folder / "config.json").is_file() or not (folder / WEIGHTS).is_file():
            raise UserError(f"no model at {folder}: it must hold config.json and {WEIGHTS}")
        config = _read_config(folder / "config.json")
        _check_size(config, folder)
        model = cls(config)
        model.load_state_dict(load_file(folder / WEIGHTS))
        return model.eval()


def _read_config(path: Path) -> ImitateConfig:
    values = read_json(path, holds="the architecture of a model")
    if (version := values.pop("format_version", FORMAT_VERSION)) != FORMAT_VERSION:
        raise UserError(
            f"{path.parent} holds a model of format version {version}, not {FORMAT_VERSION}: "
            "read it with the version of imitate that wrote it"
        )
    return validate(ImitateConfig, values, where=str(path))


def _check_size(config: ImitateConfig, folder: Path) -> None:
    """UserError where the weights are not those of the config, before either takes memory."""
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{folder / WEIGHTS} is damaged or cut short ({error}): copy it again") from error
    try:
        with torch.device("meta"):
            wanted = {name: tuple(tensor.shape) for name, tensor in Imitate(config).state_dict().items()}
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from error
    unlike = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if unlike:
        raise UserError(
            f"{folder / WEIGHTS} does not fit its config.json: {len(unlike)} of {len(wanted)} tensors are missing, "
            f"unknown or of another shape, e.g. {unlike[0]}"
        )


def freeze_all(module: nn.Module) -> nn.Module:
    """Eval mode, no gradients."""
    return module.eval().requires_grad_(False)


def parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def seeded_model(config: ImitateConfig, *, pretrained: bool, seed: int) -> Imitate:
    """A fresh model whose random weights depend on the seed alone; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Imitate(config, pretrained=pretrained)
