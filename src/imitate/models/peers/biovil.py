"""BioViL and BioViL-T: a ResNet-50 whose projected patches are averaged, and CXR-BERT."""

import torch
from torch import Tensor, nn

from imitate.models.peers.base import VECTORS, Family, Peer, prepared
from imitate.models.peers.images import Enter, PeerImage, resnet
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText, bert, first
from imitate.models.peers.tokens import Rules, without_end
from imitate.models.types import ImageFeatures

SIDE, SIDE_T, SHORTER = 480, 448, 512


class Projector(nn.Module):
    """The mean over places of the projected map, of what ``before`` makes of C5."""

    def __init__(self, projector: nn.Module, before: nn.Module | None = None) -> None:
        super().__init__()
        self.before, self.projector = before or nn.Identity(), projector

    def forward(self, features: ImageFeatures) -> Tensor:
        projected: Tensor = self.projector(self.before(features.levels[-1]))
        return projected.mean((2, 3))


class WithoutPrior(nn.Module):
    """BioViL-T's map where there is no earlier image: half of it is the same everywhere."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.backbone_to_vit = nn.Conv2d(inputs, width, 1, bias=False)
        self.missing_previous_emb = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, last: Tensor) -> Tensor:
        now: Tensor = self.backbone_to_vit(last)
        return torch.cat([now, self.missing_previous_emb.expand_as(now)], 1)


class Averaged(nn.Module):
    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.inner, self.width = inner, width

    def forward(self, last: Tensor) -> Tensor:
        averaged: Tensor = self.inner(last).mean((2, 3))
        return averaged


def _projector(state: State, inputs: int) -> nn.Module:
    hidden, outputs = state.shape("projector.model.0.weight")[0], state.shape("projector.model.3.weight")[0]
    layers = nn.Sequential(
        nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, outputs, 1)
    )
    return state.fill(layers, "projector.model.")


def _text(state: State, name: str) -> PeerText | None:
    """CXR-BERT, from the file beside that of the images."""
    if "text/bert.embeddings.word_embeddings.weight" not in state:
        return None
    model = bert(state, "text/bert.")
    width = model.config.hidden_size
    hidden, outputs = (
        state.shape(f"text/cls_projection_head.dense_to_{each}.weight")[0] for each in ("hidden", "output")
    )
    head = nn.Sequential()
    head.add_module("dense_to_hidden", nn.Linear(width, hidden))
    head.add_module("activation", nn.GELU())
    head.add_module("LayerNorm", nn.LayerNorm(hidden, eps=1e-12))
    head.add_module("dense_to_output", nn.Linear(hidden, outputs))
    state.fill(head, "text/cls_projection_head.")
    return PeerText(name, model, first, Rules("wordpiece", 512, without_end), head)


def _build(state: State) -> Peer:
    image = resnet(state, "encoder.encoder.", Enter(SIDE))
    return Peer(
        image,
        prepared("crop-bilinear", SHORTER, SIDE, percentiles=(0, 100), mean=(0.0,) * 3, std=(1.0,) * 3),
        head=Projector(_projector(state, image.width)),
        text=_text(state, "BioViL"),
    )


def _build_t(state: State) -> Peer:
    width, inputs = state.shape("encoder.backbone_to_vit.weight")[:2]
    both = WithoutPrior(inputs, width)
    unused = [r"encoder\..*", r"vit_pooler\..*"]
    state.fill(both, "encoder.", unused=unused)
    image: PeerImage = resnet(state, "encoder.encoder.", Enter(SIDE_T), pooling=Averaged(both, 2 * width))
    return Peer(
        image,
        prepared("crop-bilinear", SHORTER, SIDE_T, percentiles=(0, 100), mean=(0.0,) * 3, std=(1.0,) * 3),
        head=Projector(_projector(state, 2 * width), both),
        text=_text(state, "BioViL-T"),
    )


UNUSED = (r"encoder\.encoder\.fc\..*", r"text/cls\.predictions\..*")
BIOVIL = Family(
    name="biovil",
    title="BioViL",
    where="hub microsoft/BiomedVLP-CXR-BERT-specialized, revision v1.1, both files",
    licence="MIT",
    gives=VECTORS,
    verified="torchvision, transformers and a plain reference",
    signs={
        "projector.model.0.weight": (None, None, 1, 1),
        "projector.model.3.weight": (None, None, 1, 1),
        "encoder.encoder.conv1.weight": (None, 3, None, None),
    },
    absent=("encoder.missing_previous_emb",),
    build=_build,
    unused=UNUSED,
    companion=("cls_projection_head.dense_to_hidden.weight",),
    vocabulary="pytorch_model.bin and vocab.txt of the same repository",
)
BIOVIL_T = Family(
    name="biovil-t",
    title="BioViL-T",
    where="hub microsoft/BiomedVLP-BioViL-T, revision v1.0, both files",
    licence="MIT",
    gives=VECTORS,
    verified="torchvision, transformers and a plain reference",
    signs={
        "projector.model.0.weight": (None, None, 1, 1),
        "encoder.missing_previous_emb": (1, None, 1, 1),
        "encoder.backbone_to_vit.weight": (None, None, 1, 1),
    },
    build=_build_t,
    unused=(r"encoder\.vit_pooler\..*", *UNUSED),
    companion=("cls_projection_head.dense_to_hidden.weight",),
    vocabulary="pytorch_model.bin and vocab.txt of the same repository",
    note="Single images: what an earlier image would add is not read.",
)
