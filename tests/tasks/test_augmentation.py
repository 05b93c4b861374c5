from collections.abc import Callable

import pytest
import torch

from imitate.config import ImitateConfig
from imitate.data.augment import normalise
from imitate.tasks import augmentation
from imitate.tasks.augmentation import cropped_view, distorted_view, jittered_view

CONFIG = ImitateConfig(prepared_size=40, image_size=32)
IMAGES = torch.randint(0, 256, (64, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(9))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("view", [cropped_view, jittered_view, distorted_view])
def test_a_view_is_a_function_of_the_generator(view: Callable[..., torch.Tensor]) -> None:
    first = view(IMAGES, CONFIG, generator())
    assert first.shape == (64, 3, 32, 32)
    assert torch.equal(first, view(IMAGES, CONFIG, generator()))
    assert not torch.equal(first, view(IMAGES, CONFIG, generator(1)))


def test_crops_are_windows_of_their_image_and_reach_both_ends() -> None:
    ramp = torch.arange(40)[:, None] + torch.arange(40) * 4
    images = ramp.to(torch.uint8).expand(600, 40, 40).contiguous()
    crops = (augmentation._crop(images, 32, generator()) * 255).round().long()
    corners = crops[:, 0, 0]
    assert torch.equal(crops - corners[:, None, None], (ramp[:32, :32]).expand(600, 32, 32))
    assert len(corners.unique()) > 35
    assert {int(corners.min()), int(corners.max())} == {0, 8 + 8 * 4}


def test_a_crop_without_margin_is_the_image() -> None:
    config = ImitateConfig(prepared_size=40, image_size=40)
    expected = normalise(IMAGES.float() / 255, config)
    torch.testing.assert_close(cropped_view(IMAGES, config, generator()), expected)


def test_jitter_keeps_a_fifth_and_the_range() -> None:
    gray = IMAGES.float() / 255
    jittered = augmentation._jitter(gray, generator())
    assert jittered.min() >= 0
    assert jittered.max() <= 1
    same = (jittered == gray).all(2).all(1).float().mean()
    assert 0.05 < same < 0.4


def test_blur_keeps_flat_images_and_smooths_each_by_its_own_draw() -> None:
    flat = torch.full((4, 32, 32), 0.3)
    torch.testing.assert_close(augmentation._blur(flat, generator()), flat)
    spread = augmentation._blur(IMAGES[:1].float().expand(16, 40, 40) / 255, generator()).std((1, 2))
    assert len(spread.unique()) > 8
    assert (spread < IMAGES[0].float().std() / 255 + 1e-4).all()
