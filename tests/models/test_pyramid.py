import copy

import pytest
import torch

from imitate.models.image import ImageEncoder
from imitate.models.pyramid import STRIDES, Pyramid


def moved(module: torch.nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize(
    ("name", "options", "size", "sides"),
    [
        ("resnet10t", {}, 64, [32, 16, 8, 4, 2]),
        ("resnet10t", {}, 72, [36, 18, 9, 5, 3]),  # not a multiple of 32
        ("convnext_atto", {}, 64, [16, 8, 4, 2]),  # no stem of stride 2
        ("vit_tiny_patch16_224", {"img_size": 64}, 64, [16, 8, 4, 2]),  # one stride
    ],
)
def test_any_network_gives_strides_4_to_32(name: str, options: dict[str, int], size: int, sides: list[int]) -> None:
    pyramid = Pyramid(ImageEncoder(name, options=options))
    maps = pyramid(torch.randn(2, 3, size, size))
    assert [tuple(level.shape[-2:]) for level in maps] == [(side, side) for side in sides]
    assert [level.shape[1] for level in maps[-4:]] == pyramid.channels


def test_levels_of_the_right_stride_are_passed_on_as_they_are() -> None:
    encoder, images = ImageEncoder("resnet10t").eval(), torch.randn(1, 3, 64, 64)
    for ours, theirs in zip(Pyramid(encoder)(images), encoder.pyramid(images), strict=True):
        assert torch.equal(ours, theirs)


def test_frozen_moves_nothing_drifting_only_statistics_trained_everything() -> None:
    encoder, images = ImageEncoder("resnet10t"), torch.randn(4, 3, 64, 64)
    before = copy.deepcopy(encoder.state_dict())
    after = {}
    for adaptation in ("frozen", "drifting", "trained"):
        pyramid = Pyramid(copy.deepcopy(encoder), adaptation).train()
        head = torch.nn.Conv2d(pyramid.channels[-1], 1, 1)
        optimizer = torch.optim.SGD([*head.parameters(), *pyramid.parameters()], lr=0.1)
        head(pyramid(images)[-1]).sum().backward()
        optimizer.step()
        after[adaptation] = moved(pyramid.encoder, before)
    assert after["frozen"] == set()
    statistics = {name for name in before if "running" in name or "num_batches" in name}
    assert after["drifting"] == statistics
    assert statistics < after["trained"]


def test_strides() -> None:
    assert STRIDES == (4, 8, 16, 32)
