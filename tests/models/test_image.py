import pytest
import torch

from imitate.errors import UserError
from imitate.models.image import ImageEncoder


@pytest.mark.parametrize(
    "name, options, strides, stem",
    [
        ("resnet18", {"channels": (8, 16, 32, 64)}, [4, 8, 16, 32], True),
        ("convnext_atto", {}, [4, 8, 16, 32], False),
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 4}, [16, 16, 16, 16], False),
    ],
)
def test_pyramid_contract(name, options, strides, stem):
    encoder = ImageEncoder(name, options=options).eval()
    features = encoder(torch.randn(2, 3, 64, 64))
    assert encoder.strides == strides
    assert [level.shape for level in features.levels] == [
        (2, c, 64 // s, 64 // s) for c, s in zip(encoder.channels, strides, strict=True)
    ]
    assert features.pooled.shape == (2, encoder.width)
    maps = encoder.pyramid(torch.randn(2, 3, 64, 64))
    assert len(maps) == 4 + stem
    if stem:
        assert maps[0].shape == (2, encoder.stem_channels, 32, 32)


def test_pooled_is_the_global_average_of_the_deepest_level():
    encoder = ImageEncoder("resnet18", options={"channels": (8, 16, 32, 64)}).eval()
    features = encoder(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(features.pooled, features.levels[-1].mean((2, 3)))


def test_unknown_network_and_wrong_option_are_told():
    with pytest.raises(UserError, match="resnet18"):
        ImageEncoder("resnet1888")
    with pytest.raises(UserError, match="nonsense"):
        ImageEncoder("resnet18", options={"nonsense": 1})
