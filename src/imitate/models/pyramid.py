"""Any encoder's maps as a pyramid of strides 4 to 32, frozen or not, for dense heads."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from imitate.models.image import ImageEncoder
from imitate.models.types import Images

STRIDES = (4, 8, 16, 32)
Adaptation = Literal["frozen", "drifting", "trained"]


class Pyramid(nn.Module):
    """Takes the encoder over. ``frozen``: neither its weights nor its BatchNorm statistics move. ``drifting``: the
    weights do not, but BatchNorm stays in training mode, as in the published protocols. ``trained``: everything moves.
    """

    def __init__(self, encoder: ImageEncoder, adaptation: Adaptation = "frozen") -> None:
        super().__init__()
        self.adaptation = adaptation
        self.encoder = encoder.requires_grad_(adaptation == "trained")
        self.channels = encoder.channels
        self.stem_channels = encoder.stem_channels
        self.eval()

    def train(self, mode: bool = True) -> "Pyramid":
        return super().train(mode and self.adaptation != "frozen")

    def forward(self, images: Images) -> list[Tensor]:
        """Maps of strides 4, 8, 16, 32; in front the stem's (stride 2) where the network has one.

        A level of another stride (all of a ViT's) is resized bilinearly: a simple feature pyramid without weights.
        """
        maps = self.encoder.pyramid(images)
        stem, levels = maps[: -len(STRIDES)], maps[-len(STRIDES) :]
        height, width = images.shape[-2:]
        wanted = zip(levels, self.encoder.strides, STRIDES, strict=True)
        return stem + [
            level if has == stride else _resize(level, -(-height // stride), -(-width // stride))
            for level, has, stride in wanted
        ]


def _resize(level: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(level, (height, width), mode="bilinear", align_corners=False)
