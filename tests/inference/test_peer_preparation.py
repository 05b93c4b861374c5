"""Images of published encoders, pixel for pixel as their authors' code makes them, by torchvision and Pillow."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from peer_files import published_checkpoint, radiograph
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from imitate.data.augment import evaluation_view
from imitate.data.pixels import to_prepared
from imitate.data.squares import area_average
from imitate.models.peers import build, recognise

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALF = ([0.5] * 3, [0.5] * 3)
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
MRM = ([0.4978] * 3, [0.2449] * 3)
BICUBIC = InterpolationMode.BICUBIC


def coloured(*steps: Callable) -> Callable:
    """Of a picture with three equal channels."""
    return lambda gray: Compose([*steps])(Image.fromarray(gray).convert("RGB"))


def crop(side: int, statistics: tuple, mode: InterpolationMode = InterpolationMode.BILINEAR) -> Callable:
    return coloured(Resize(side, mode), CenterCrop(side), ToTensor(), Normalize(*statistics))


def stretch(side: int, statistics: tuple, mode: InterpolationMode = InterpolationMode.BILINEAR) -> Callable:
    return coloured(Resize((side, side), mode), ToTensor(), Normalize(*statistics))


def padded(gray: np.ndarray, statistics: tuple) -> torch.Tensor:
    height, width = gray.shape
    longer = max(height, width)
    small = area_average(gray, int(width * 256 / longer), int(height * 256 / longer))
    high, wide = small.shape
    top, left = (256 - high) // 2, (256 - wide) // 2
    whole = np.pad(small, ((top, 256 - high - top), (left, 256 - wide - left)))
    inner = Image.fromarray(whole[16:240, 16:240]).convert("RGB")
    return Compose([ToTensor(), Normalize(*statistics)])(inner)


def medclip(gray: np.ndarray) -> torch.Tensor:
    height, width = gray.shape
    side = max(224, height, width)
    whole = Image.new("L", (side, side), 0)
    whole.paste(Image.fromarray(gray), ((side - width) // 2, (side - height) // 2))
    values = np.asarray(whole.resize((224, 224), Image.Resampling.BICUBIC)).astype(np.float32) / 255
    return torch.from_numpy((values - 0.5862785803043838) / 0.27950088968644304).expand(3, -1, -1)


def prior(gray: np.ndarray) -> torch.Tensor:
    return Compose([Resize((224, 224)), ToTensor(), Normalize([0.5062731], [0.2894678])])(Image.fromarray(gray))


def xrv(side: int) -> Callable:
    def prepare(gray: np.ndarray) -> torch.Tensor:
        values = torch.from_numpy(
            np.asarray(
                CenterCrop(min(gray.shape))(Image.fromarray(gray)).resize((side, side), Image.Resampling.BILINEAR)
            ).copy()
        )
        return (2 * values.float() / 255 - 1)[None] * 1024

    return prepare


def chexfound(gray: np.ndarray) -> torch.Tensor:
    seen = coloured(Resize(512, BICUBIC), CenterCrop(512), ToTensor())(gray)
    low, high = seen.amin((1, 2), keepdim=True), seen.amax((1, 2), keepdim=True)
    return Normalize(*IMAGENET)((seen - low) / (high - low))


STATED: dict[str, Callable[[np.ndarray], torch.Tensor]] = {
    "biovil-image": coloured(Resize(512), CenterCrop(480), ToTensor()),
    "biovil-t-image": coloured(Resize(512), CenterCrop(448), ToTensor()),
    "mgca-resnet50": lambda gray: padded(gray, HALF),
    "mgca-vit": lambda gray: padded(gray, HALF),
    "gloria": lambda gray: padded(gray, HALF),
    "carzero": lambda gray: padded(gray, MRM),
    "cxrclip-resnet50": crop(224, IMAGENET),
    "cxrclip-swint": crop(224, HALF),
    "medclip-resnet50": medclip,
    "biomedclip": crop(224, CLIP, BICUBIC),
    "hf-clip-vit-b32": crop(224, CLIP, BICUBIC),
    "medsiglip-448": stretch(448, HALF, BICUBIC),
    "rad-dino": crop(518, ([0.5307] * 3, [0.2583] * 3), BICUBIC),
    "rad-dino-original": crop(518, ([0.5307] * 3, [0.2583] * 3), BICUBIC),
    "medklip": stretch(224, IMAGENET),
    "kad-512": stretch(512, IMAGENET, BICUBIC),
    "kad-224": stretch(224, IMAGENET, BICUBIC),
    "mrm": crop(224, MRM),
    "prior": prior,
    "xrv-densenet121": xrv(224),
    "xrv-resnet50": xrv(512),
    "ark6-swin-base-224": stretch(224, IMAGENET, BICUBIC),
    "ark-plus-swin-large-768": stretch(768, IMAGENET, BICUBIC),
    "chexfound": chexfound,
}


@pytest.mark.parametrize("name", STATED)
def test_an_image_is_what_the_authors_code_makes_of_it(name):
    with torch.device("meta"):
        peer = build(recognise(published_checkpoint(name)))
    wanted = peer.preprocessing
    for size in ((611, 530), (431, 600)):
        gray = radiograph(*size)
        square, _ = to_prepared(gray, wanted.prepared_size, wanted.resize, percentiles=wanted.percentiles)
        seen = evaluation_view(torch.from_numpy(square[None]), wanted)
        if name == "chexfound":
            seen = peer.image.enter(seen)
        expected = STATED[name](gray)
        assert seen.shape == (1, *expected.shape)
        assert (seen[0] - expected).abs().max() <= 1e-4 * max(1.0, float(expected.abs().max()))
        assert peer.image.enter(seen).shape[-1] in (wanted.image_size, 299)
