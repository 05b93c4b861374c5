"""Wraps segmentation-models-pytorch: its UPerNet decoder on the features of an encoder."""

from jaxtyping import Float
from segmentation_models_pytorch.base import initialization
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from torch import Tensor, nn
from torch.nn.functional import interpolate

from imitate.models.pyramid import Pyramid
from imitate.models.types import Images

AUXILIARY = 2  # of the pyramid's levels, from 0: stride 16


class UPerNet(nn.Module):
    """One logit a pixel from the maps of strides 4 to 32, pooled over parts of the image and fused, with ``width``
    channels. A small head on the map of stride 16 helps it learn.
    """

    def __init__(self, pyramid: Pyramid, *, width: int = 256) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.decoder = UPerNetDecoder(encoder_channels=[3, 0, *pyramid.channels], decoder_channels=width)
        self.head = nn.Conv2d(width, 1, kernel_size=1)
        self.auxiliary = nn.Sequential(
            nn.Conv2d(pyramid.channels[AUXILIARY], width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 1, kernel_size=1),
        )
        initialization.initialize_decoder(self.decoder)
        initialization.initialize_head(self.head)

    def forward(self, images: Images) -> Float[Tensor, "batch height width"]:
        return self._whole(self.head(self.decoder([images, images, *self._levels(images)])), images)

    def heads(self, images: Images) -> list[Float[Tensor, "batch height width"]]:
        """The logits, and those of the auxiliary head."""
        levels = self._levels(images)
        main = self.head(self.decoder([images, images, *levels]))
        return [self._whole(each, images) for each in (main, self.auxiliary(levels[AUXILIARY]))]

    def _levels(self, images: Images) -> list[Tensor]:
        return self.pyramid(images)[-4:]

    @staticmethod
    def _whole(logits: Tensor, images: Images) -> Float[Tensor, "batch height width"]:
        return interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False).squeeze(1).float()
