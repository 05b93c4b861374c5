import pytest
import torch

from imitate.models.image import ImageEncoder
from imitate.models.pyramid import Pyramid
from imitate.models.upernet import UPerNet


@pytest.mark.parametrize(("name", "options"), [("resnet10t", {}), ("vit_tiny_patch16_224", {"img_size": 64})])
def test_two_heads_of_one_logit_a_pixel_over_any_network(name: str, options: dict[str, int]) -> None:
    network = UPerNet(Pyramid(ImageEncoder(name, options=options)), width=16).eval()
    images = torch.randn(2, 3, 64, 64)
    main, beside = network.heads(images)
    assert main.shape == beside.shape == (2, 64, 64) and torch.equal(network(images), main)
    assert not torch.allclose(main, beside)


def test_the_auxiliary_head_sees_stride_16_alone_and_the_frozen_encoder_has_no_gradient() -> None:
    network = UPerNet(Pyramid(ImageEncoder("resnet10t")), width=16)
    assert network.auxiliary[0].in_channels == network.pyramid.channels[2]
    network.train().heads(torch.randn(2, 3, 64, 64))[1].sum().backward()
    assert all(parameter.grad is not None for parameter in network.auxiliary.parameters())
    assert all(parameter.grad is None for parameter in (*network.decoder.parameters(), *network.pyramid.parameters()))
