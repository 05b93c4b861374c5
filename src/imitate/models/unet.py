"""Wraps segmentation-models-pytorch: its U-Net decoder on the features of an encoder."""

from jaxtyping import Float
from segmentation_models_pytorch.base import initialization
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from imitate.models.pyramid import Pyramid
from imitate.models.types import Images


class UNet(nn.Module):
    """One logit a pixel. ``width`` is that of the deepest of five blocks, halved at each next one."""

    def __init__(self, pyramid: Pyramid, *, width: int = 256) -> None:
        super().__init__()
        self.pyramid = pyramid
        widths = [max(width >> i, 1) for i in range(5)]
        skips = [3, pyramid.stem_channels or 0, *pyramid.channels]
        self.decoder = UnetDecoder(encoder_channels=skips, decoder_channels=widths)
        self.head = nn.Conv2d(widths[-1], 1, kernel_size=3, padding=1)
        initialization.initialize_decoder(self.decoder)
        initialization.initialize_head(self.head)

    def forward(self, images: Images) -> Float[Tensor, "batch height width"]:
        maps = self.pyramid(images)
        if self.pyramid.stem_channels is None:
            batch, _, height, width = images.shape
            maps = [images.new_empty((batch, 0, -(-height // 2), -(-width // 2))), *maps]
        return self.head(self.decoder([images, *maps])).squeeze(1).float()

    def heads(self, images: Images) -> list[Float[Tensor, "batch height width"]]:
        """The logits: there is no other head."""
        return [self(images)]
