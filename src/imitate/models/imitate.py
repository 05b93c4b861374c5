"""The IMITATE model: one backbone, a findings branch over its levels, an impression branch over its pooled feature."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from imitate.config import ImitateConfig, validate
from imitate.config.files import read_json
from imitate.errors import UserError
from imitate.models.aggregation import ChannelDraw, HierarchicalAggregation
from imitate.models.heads import PresentBatchNorm, Projection
from imitate.models.hub import HEADS, ONNX_ONLY, OWN, WEIGHTS, check_sealed, is_onnx, local_folder, model_within
from imitate.models.image import ImageEncoder
from imitate.models.places import PooledAggregation, SpatialAggregation
from imitate.models.types import ImageEmbedding, ImageFeatures, Images, JointEmbedding

NETWORK = "image.network."
AGGREGATIONS: dict[str, Any] = {
    "channels": HierarchicalAggregation,
    "spatial": SpatialAggregation,
    "pooled": PooledAggregation,
}
FORMAT_VERSION = 1


class Imitate(nn.Module):
    """The network: maps images and text embeddings to a joint space, with a findings and an impression branch.

    ``forward`` returns unit vectors; those of ``encode_image`` and ``encode_text`` are not normalised. In eval mode,
    the network is deterministic: all channels are used (see HierarchicalAggregation). Without levels, both branches
    have the same embedding, that of the pooled feature. ``config.branches`` lists the branches that were trained.
    """

    aggregation: Any  # one of AGGREGATIONS, where there are levels

    def __init__(self, config: ImitateConfig, *, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        self.image = ImageEncoder(
            config.backbone,
            pretrained=pretrained,
            options=config.backbone_options,
            size=config.image_size,
            channels=config.channels,
        )
        concluding = self.image.width
        if config.levels:
            aggregation = AGGREGATIONS[config.aggregation](config, self.image.channels)
            self.aggregation, width = aggregation, aggregation.width
            self.findings_head = Projection(width, width, config.joint_width)
            concluding = concluding if config.draws_channels else width
        self.impression_head = Projection(concluding, concluding, config.joint_width)
        self.text_head = Projection(config.text_width, 1024, config.joint_width)
        if config.text_statistics == "section":
            for norm in self.text_head:
                if isinstance(norm, PresentBatchNorm):
                    norm.keep_sections()

    def forward(
        self,
        images: Images,
        texts: Float[Tensor, "texts encoded"] | Mapping[str, Float[Tensor, "_ encoded"]] | None = None,
    ) -> JointEmbedding:
        """Unit vectors: ``findings`` and ``impression`` of images (B, joint_width), and ``texts`` (T, joint_width).

        ``Predictor.preprocess`` makes ``images`` (B, channels, H, W), a text encoder ``texts`` (T, text_width).
        ``texts`` may be a dictionary of tensors with any numbers of rows; those named ``findings`` and ``impression``
        are embedded as texts of that section. If texts are given, all weights are used, as DistributedDataParallel
        expects. The score of a pair is its cosine divided by ``config.temperature``.
        """
        seen = self.encode_image(images)
        named = texts if isinstance(texts, Mapping) else {"": texts}
        read = {
            name: None if each is None else F.normalize(self.encode_text(each, section=name), dim=1)
            for name, each in named.items()
        }
        findings, impression = F.normalize(seen.findings, dim=1), F.normalize(seen.impression, dim=1)
        return JointEmbedding(findings, impression, read if isinstance(texts, Mapping) else read[""])

    def encode_image(self, images: Images, draw: ChannelDraw | None = None) -> ImageEmbedding:
        features = self.image(images)
        impression, findings, *_ = self.aggregate(features, None if draw is None else [draw])
        return ImageEmbedding(self.project_findings(findings), self.impression_head(impression), features)

    def aggregate(self, features: ImageFeatures, draws: Sequence[ChannelDraw] | None = None) -> list[Tensor]:
        """What the heads read: that of the impression, then that of the findings, under each draw of channels.

        A model that draws none has one of each and, with ``config.grounding``, the places of the aggregation last.
        Without ``draws`` all channels take part.
        """
        if not self.config.levels:
            return [features.pooled, features.pooled]
        if not self.config.draws_channels:
            both = self.aggregation(features.levels)
            return [both.impression, both.findings, *([] if both.places is None else [both.places])]
        if draws is None:
            return [features.pooled, self.aggregation(features.levels)]
        return [features.pooled, *self.aggregation.each(features.levels, draws)]

    def project_findings(self, aggregated: Float[Tensor, "batch width"]) -> Float[Tensor, "batch joint"]:
        head = self.findings_head if self.config.levels else self.impression_head
        projected: Tensor = head(aggregated)
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
        """Write ``model.safetensors`` and ``config.json``, each completely or not at all."""
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
        """Load a model, in eval mode, from a run, a model or exported folder, or ``hf-hub:OWNER/NAME@REVISION``.

        UserError: there is no model, it is damaged or of another version, or the folder is in ONNX.
        """
        folder = model_within(local_folder(source))
        if is_onnx(folder):
            raise UserError(f"{source} {ONNX_ONLY}")
        if not (folder / "config.json").is_file() or not (folder / WEIGHTS).is_file():
            raise UserError(f"no model at {folder}: it must hold config.json and {WEIGHTS}")
        values = read_json(folder / "config.json", holds="the architecture of a model")
        files = {folder / WEIGHTS: ""}
        if isinstance(inner := values.get(OWN), dict):
            files = {folder / WEIGHTS: NETWORK, folder / HEADS: ""}
            if not (folder / HEADS).is_file():
                raise UserError(f"{folder} has no {HEADS}, which an exported model needs: copy all of its files again")
            check_sealed(folder, values)
            values = {name: value for name, value in inner.items() if name not in ("files", "digest")}
        config = _config(values, folder / "config.json")
        _check_size(config, files)
        model = cls(config)
        parts = ((start, load_file(file)) for file, start in files.items())
        model.load_state_dict({start + name: tensor for start, part in parts for name, tensor in part.items()})
        return model.eval()


def _config(values: dict[str, Any], path: Path) -> ImitateConfig:
    if (version := values.pop("format_version", FORMAT_VERSION)) != FORMAT_VERSION:
        raise UserError(
            f"{path.parent} holds a model of format version {version}, not {FORMAT_VERSION}: "
            "read it with the version of imitate that wrote it"
        )
    return validate(ImitateConfig, values, where=str(path))


def _check_size(config: ImitateConfig, files: Mapping[Path, str]) -> None:
    """UserError where the weights are not those of the config, before either takes memory.

    Of each file what its names lack at the beginning.
    """
    found: dict[str, tuple[int, ...]] = {}
    for path, start in files.items():
        try:
            with safe_open(path, framework="pt") as file:
                found |= {start + name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged or truncated ({error}): copy it again") from error
    folder, names = next(iter(files)).parent, " and ".join(path.name for path in files)
    try:
        with torch.device("meta"):
            wanted = {name: tuple(tensor.shape) for name, tensor in Imitate(config).state_dict().items()}
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from error
    unlike = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if unlike:
        raise UserError(
            f"{folder / names} does not fit its config.json: {len(unlike)} of {len(wanted)} tensors are missing, "
            f"unknown or have a different shape, e.g. {unlike[0]}"
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
