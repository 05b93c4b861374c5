"""YOLOv3 heads over an encoder's pyramid (Redmon and Farhadi 2018): one class, three scales, coarse to fine."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from imitate.models.pyramid import Pyramid
from imitate.models.types import Images

ANCHORS = (
    ((116, 90), (156, 198), (373, 326)),
    ((30, 61), (62, 45), (59, 119)),
    ((10, 13), (16, 30), (33, 23)),
)
"""The COCO anchors by scale: width and height in pixels of an image of ``ANCHOR_SIZE``."""
ANCHOR_SIZE = 416
FIELDS = 6  # x, y, width, height, objectness, the one class
LARGEST = 10.0  # of the logarithm of side by anchor: keeps an untrained box finite

Raw = Float[Tensor, "batch anchors 6 _ _"]


class YOLO(nn.Module):
    """Raw maps of strides 32, 16, 8. ``width`` is that of the coarse head, halved at each next one."""

    def __init__(self, pyramid: Pyramid, *, width: int = 512) -> None:
        super().__init__()
        self.pyramid = pyramid
        below = [0, width // 2, width // 4]  # channels that come up from the coarser scale
        widths = [width, width // 2, width // 4]
        inputs = [channels + extra for channels, extra in zip(pyramid.channels[:0:-1], below, strict=True)]
        self.necks = nn.ModuleList(_neck(i, w) for i, w in zip(inputs, widths, strict=True))
        self.outputs = nn.ModuleList(_output(w) for w in widths)
        self.laterals = nn.ModuleList(_block(w, w // 2, 1) for w in widths[:-1])

    def forward(self, images: Images) -> list[Raw]:
        coarsest, *finer = self.pyramid(images)[:-4:-1]
        necks = [self.necks[0](coarsest)]
        for lateral, neck, level in zip(self.laterals, self.necks[1:], finer, strict=True):
            coarse = functional.interpolate(lateral(necks[-1]), level.shape[-2:], mode="nearest")
            necks.append(neck(torch.cat([coarse, level], dim=1)))
        return [out(neck).unflatten(1, (-1, FIELDS)).float() for out, neck in zip(self.outputs, necks, strict=True)]


def anchors(size: int) -> Float[Tensor, "3 3 2"]:
    """Anchors in pixels of an image of side ``size``, coarse to fine."""
    return torch.tensor(ANCHORS) * (size / ANCHOR_SIZE)


def decode(raw: list[Raw], size: int) -> tuple[Float[Tensor, "batch boxes 4"], Float[Tensor, "batch boxes"]]:
    """Corners (x1, y1, x2, y2) in pixels of an input of side ``size``, and scores: the objectness alone."""
    boxes, scores = zip(
        *(_decode_scale(maps, sizes.to(maps.device), size) for maps, sizes in zip(raw, anchors(size), strict=True)),
        strict=True,
    )
    return torch.cat(boxes, dim=1), torch.cat(scores, dim=1)


def _decode_scale(raw: Raw, sizes: Float[Tensor, "anchors 2"], size: int) -> tuple[Tensor, Tensor]:
    height, width = raw.shape[-2:]
    rows, columns = torch.meshgrid(
        torch.arange(height, device=raw.device), torch.arange(width, device=raw.device), indexing="ij"
    )
    x = (raw[:, :, 0].sigmoid() + columns) * (size / width)
    y = (raw[:, :, 1].sigmoid() + rows) * (size / height)
    half = raw[:, :, 2:4].clamp(max=LARGEST).exp() * sizes[:, :, None, None] / 2
    corners = torch.stack([x - half[:, :, 0], y - half[:, :, 1], x + half[:, :, 0], y + half[:, :, 1]], dim=-1)
    return corners.flatten(1, 3), raw[:, :, 4].sigmoid().flatten(1)


def _block(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1),
    )


def _neck(inputs: int, width: int) -> nn.Sequential:
    """The first five of a head's six convolutions; the next finer scale branches off here."""
    return nn.Sequential(
        _block(inputs, width, 1),
        _block(width, 2 * width, 3),
        _block(2 * width, width, 1),
        _block(width, 2 * width, 3),
        _block(2 * width, width, 1),
    )


def _output(width: int) -> nn.Sequential:
    return nn.Sequential(_block(width, 2 * width, 3), nn.Conv2d(2 * width, len(ANCHORS[0]) * FIELDS, 1))
