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


def uniform(drawn: torch.Generator, low: float = 0, high: float = 1) -> torch.Tensor:
    return low + (high - low) * torch.rand(64, 1, 1, generator=drawn)


def test_jitter_is_brightness_then_contrast_around_the_image_s_own_mean() -> None:
    gray, drawn = IMAGES.float() / 255, generator()
    brightness, contrast = uniform(drawn, 0.6, 1.4), uniform(drawn, 0.6, 1.4)
    bright = (gray * brightness).clip(0, 1)
    means = torch.stack([image.mean() for image in bright])[:, None, None]
    changed = (means + contrast * (bright - means)).clip(0, 1)
    expected = torch.where(uniform(drawn) < 0.8, changed, gray)
    torch.testing.assert_close(augmentation._jitter(gray, generator()), expected)


def test_half_of_the_distorted_views_are_blurred_and_half_are_mirrored() -> None:
    drawn = generator()
    gray = augmentation._jitter(augmentation._crop(IMAGES, 32, drawn), drawn)
    blurs = uniform(drawn) < 0.5
    gray = torch.where(blurs, augmentation._blur(gray, drawn), gray)
    mirrors = uniform(drawn) < 0.5
    expected = normalise(torch.where(mirrors, gray.flip(-1), gray), CONFIG)
    torch.testing.assert_close(distorted_view(IMAGES, CONFIG, generator()), expected)
    assert 16 < blurs.sum() < 48 and 16 < mirrors.sum() < 48


def test_a_blur_is_gaussian_of_a_tenth_to_two_pixels() -> None:
    points = torch.zeros(64, 33, 33)
    points[:, 16, 16] = 1
    blurred = augmentation._blur(points, generator()).double()
    deviations = uniform(generator(), 0.1, 2.0).double()[:, 0, 0]
    for shift in (1, 2):
        ratio = blurred[:, 16, 16 + shift] / blurred[:, 16, 16]
        torch.testing.assert_close(ratio, torch.exp(-0.5 * (shift / deviations) ** 2), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(blurred.sum((1, 2)), torch.ones(64).double(), rtol=1e-5, atol=0)


def test_blur_keeps_flat_images_and_smooths_each_by_its_own_draw() -> None:
    flat = torch.full((4, 32, 32), 0.3)
    torch.testing.assert_close(augmentation._blur(flat, generator()), flat)
    spread = augmentation._blur(IMAGES[:1].float().expand(16, 40, 40) / 255, generator()).std((1, 2))
    assert len(spread.unique()) > 8
    assert (spread < IMAGES[0].float().std() / 255 + 1e-4).all()
