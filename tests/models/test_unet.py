import pytest
import torch

from imitate.models.image import ImageEncoder
from imitate.models.pyramid import Pyramid
from imitate.models.unet import UNet


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("resnet10t", {}, 64),
        ("resnet10t", {}, 72),
        ("convnext_atto", {}, 64),
        ("vit_tiny_patch16_224", {"img_size": 64}, 64),
    ],
)
def test_one_logit_a_pixel_over_any_network(name: str, options: dict[str, int], size: int) -> None:
    network = UNet(Pyramid(ImageEncoder(name, options=options)), width=32).eval()
    assert network(torch.randn(2, 3, size, size)).shape == (2, size, size)


def test_a_pixel_of_the_stem_reaches_the_logits() -> None:
    network = UNet(Pyramid(ImageEncoder("resnet10t")), width=32).eval()
    first = network.decoder.blocks[3].conv1[0]
    assert first.in_channels == 32 // 4 + network.pyramid.stem_channels
    images = torch.randn(1, 3, 64, 64)
    before = network(images)
    with torch.no_grad():
        first.weight[:, 32 // 4 :] = 0  # the stem's part of the skip connection
    assert not torch.allclose(before, network(images))


def test_published_widths() -> None:
    network = UNet(Pyramid(ImageEncoder("resnet10t")))
    assert [block.conv2[0].out_channels for block in network.decoder.blocks] == [256, 128, 64, 32, 16]


def test_gradients_reach_the_decoder_and_not_the_frozen_encoder() -> None:
    network = UNet(Pyramid(ImageEncoder("resnet10t")), width=32).train()
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is None for parameter in network.pyramid.parameters())
    assert all(parameter.grad is not None for parameter in network.decoder.parameters())


def test_a_narrow_decoder_ends_at_one_channel() -> None:
    network = UNet(Pyramid(ImageEncoder("resnet10t")), width=8)
    assert [block.conv2[0].out_channels for block in network.decoder.blocks] == [8, 4, 2, 1, 1]
    assert network.head.kernel_size == (3, 3) and network.head.in_channels == network.head.out_channels == 1
    images = torch.randn(1, 3, 64, 64)
    expected = network.eval().head(network.decoder([images, *network.pyramid(images)]))[:, 0]
    torch.testing.assert_close(network(images), expected)
