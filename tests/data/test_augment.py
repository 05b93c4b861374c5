"""One fused warp against torchvision's operations, one at a time."""

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from imitate.config import AugmentConfig, ImitateConfig
from imitate.data.augment import ViewDraw, draw_views, evaluation_view, normalise, warp

CONFIG = ImitateConfig(prepared_size=64, image_size=48, mean=(0, 0, 0), std=(1, 1, 1))
PLAIN = AugmentConfig(
    horizontal_flip=0, vertical_flip=0, rotation=0, scale=0, perspective=0, perspective_probability=0, autocontrast=0
)


def smooth_images(batch: int = 3) -> torch.Tensor:
    torch.manual_seed(0)
    noise = F.interpolate(torch.rand(batch, 1, 8, 8), size=64, mode="bicubic").squeeze(1)
    return (noise.clamp(0, 1) * 255).to(torch.uint8)


def draw(batch: int = 3, seed: int = 0, **changes) -> ViewDraw:
    settings = PLAIN.model_copy(update=changes)
    return draw_views(batch, settings, CONFIG, torch.Generator().manual_seed(seed))


def shift_of(view: ViewDraw) -> list[tuple[int, int]]:
    return [(round(float(h[1, 2])) + 8, round(float(h[0, 2])) + 8) for h in view.homography]


def test_a_plain_view_is_an_exact_crop():
    images, view = smooth_images(), draw()
    for image, found, (top, left) in zip(images, warp(images, view, CONFIG), shift_of(view), strict=True):
        torch.testing.assert_close(found[0] * 255, image[top : top + 48, left : left + 48].float(), atol=1e-3, rtol=0)


def test_crops_cover_all_offsets_evenly():
    offsets = torch.tensor(shift_of(draw(20_000)))
    counts = torch.bincount(offsets.flatten(), minlength=17)
    assert len(counts) == 17 and counts.min() > 0.85 * counts.float().mean()


def test_flips_are_torchvisions():
    images = smooth_images()
    both = draw(horizontal_flip=1, vertical_flip=1)
    plain = warp(images, both._replace(homography=both.homography * torch.tensor([[1.0], [1], [1]])), CONFIG)
    crop = torch.stack([i[t : t + 48, s : s + 48].float() for i, (t, s) in zip(images, shift_of(both), strict=True)])
    torch.testing.assert_close(plain[:, 0] * 255, crop.flip(1, 2), atol=1e-3, rtol=0)


def test_rotation_is_torchvisions_inside_the_crop():
    """Compared where both see the image: torchvision blackens what comes from beyond the crop."""
    images, view = smooth_images(), draw(rotation=30)
    y, x = torch.meshgrid(*(torch.arange(48) - 23.5,) * 2, indexing="ij")
    inside = x.hypot(y) < 22
    for image, found, h, (top, left) in zip(
        images, warp(images, view, CONFIG), view.homography, shift_of(view), strict=True
    ):
        crop = image[top : top + 48, left : left + 48].float().unsqueeze(0)
        angle = math.degrees(math.atan2(float(h[1, 0]), float(h[0, 0])))
        expected = v2.functional.rotate(crop, angle, interpolation=v2.InterpolationMode.BILINEAR)
        torch.testing.assert_close(found[0][inside] * 255, expected[0][inside], atol=0.05, rtol=0)


def test_perspective_is_torchvisions():
    """Without a crop the homography is the perspective alone: it carries the view's moved corners to the image's."""
    images, config = smooth_images(1), CONFIG.model_copy(update={"image_size": 64})
    settings = PLAIN.model_copy(update={"perspective": 0.5, "perspective_probability": 1})
    view = draw_views(1, settings, config, torch.Generator().manual_seed(3))
    corners = torch.tensor([[-32.0, -32], [32, -32], [32, 32], [-32, 32]])
    moved = torch.linalg.solve(view.homography[0], F.pad(corners, (0, 1), value=1).T).T
    moved = moved[:, :2] / moved[:, 2:]
    assert ((moved.abs() <= 32) & (moved.abs() >= 16)).all()
    start, end = ((points + 32).tolist() for points in (corners, moved))
    bilinear = v2.InterpolationMode.BILINEAR
    expected = v2.functional.perspective(images.float(), start, end, interpolation=bilinear)[0]
    seen = v2.functional.perspective(torch.ones(1, 64, 64), start, end, interpolation=bilinear)[0]
    inside = F.avg_pool2d(seen[None], 5, 1, 2)[0] > 0.999
    found = warp(images, view, config)[0, 0] * 255
    assert inside.float().mean() > 0.3
    torch.testing.assert_close(found[inside], expected[inside], atol=8, rtol=0)
    assert (found - expected)[inside].abs().mean() < 1


def test_autocontrast_stretches_to_the_full_range_and_leaves_constants_alone():
    images = torch.cat([smooth_images(2) // 2, torch.full((1, 64, 64), 70, dtype=torch.uint8)])
    gray = warp(images, draw(autocontrast=1), CONFIG)[:, 0]
    torch.testing.assert_close(gray[:2].amin((1, 2)), torch.zeros(2))
    torch.testing.assert_close(gray[:2].amax((1, 2)), torch.ones(2))
    assert torch.isfinite(gray[2]).all()


def test_evaluation_view_is_the_normalised_centre():
    config = CONFIG.model_copy(update={"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 2.0)})
    images = smooth_images()
    centre = images[:, 8:56, 8:56].float() / 255
    found = evaluation_view(images, config)
    torch.testing.assert_close(found, normalise(centre, config))
    torch.testing.assert_close(found[:, 2], (centre - 0.3) / 2)


@pytest.mark.parametrize("batch", [1, 5])
def test_the_published_recipe_gives_finite_views(batch):
    view = draw_views(batch, AugmentConfig(), CONFIG, torch.Generator().manual_seed(1))
    images = warp(torch.randint(0, 256, (batch, 64, 64), dtype=torch.uint8), view, CONFIG)
    assert images.shape == (batch, 3, 48, 48) and torch.isfinite(images).all()
