"""One fused warp against torchvision's operations, one at a time."""

import math
from typing import NamedTuple

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


@pytest.mark.parametrize("horizontal, vertical", [(1, 0), (0, 1), (1, 1)])
def test_flips_are_torchvisions(horizontal, vertical):
    images, view = smooth_images(), draw(horizontal_flip=horizontal, vertical_flip=vertical)
    for image, found, (top, left) in zip(images, warp(images, view, CONFIG), shift_of(view), strict=True):
        crop = image[top : top + 48, left : left + 48].float().unsqueeze(0)
        crop = v2.functional.horizontal_flip(crop) if horizontal else crop
        crop = v2.functional.vertical_flip(crop) if vertical else crop
        torch.testing.assert_close(found[:1] * 255, crop, atol=1e-3, rtol=0)


class Operations(NamedTuple):
    """What the same random numbers mean for torchvision."""

    offsets: torch.Tensor  # left, top
    horizontal: torch.Tensor
    vertical: torch.Tensor
    degrees: torch.Tensor
    zoom: torch.Tensor
    corners: torch.Tensor  # moved inwards by these fractions of half a side

    def __call__(self, image: torch.Tensor, i: int) -> torch.Tensor:
        """The published order, one operation at a time: crop, flips, rotation, zoom, perspective."""
        bilinear = v2.InterpolationMode.BILINEAR
        left, top = self.offsets[i].tolist()
        image = image[:, top : top + 48, left : left + 48]
        image = v2.functional.horizontal_flip(image) if self.horizontal[i] else image
        image = v2.functional.vertical_flip(image) if self.vertical[i] else image
        image = v2.functional.rotate(image, float(self.degrees[i]), interpolation=bilinear)
        zoom = 1 / float(self.zoom[i])
        image = v2.functional.affine(image, angle=0, translate=[0, 0], scale=zoom, shear=[0, 0], interpolation=bilinear)
        start = torch.tensor([[0.0, 0], [48, 0], [48, 48], [0, 48]])
        end = start + (24 - start) * self.corners[i]
        return v2.functional.perspective(image, start.tolist(), end.tolist(), interpolation=bilinear)


def operations(batch: int, seed: int, settings: AugmentConfig) -> Operations:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(batch, *shape, generator=generator)

    offsets = (uniform(2) * 17).floor().int()
    horizontal, vertical = uniform() < settings.horizontal_flip, uniform() < settings.vertical_flip
    degrees, zoom = (2 * uniform() - 1) * settings.rotation, 1 + (2 * uniform() - 1) * settings.scale
    corners = uniform(4, 2) * settings.perspective * (uniform(1, 1) < settings.perspective_probability)
    return Operations(offsets, horizontal, vertical, degrees, zoom, corners)


def test_the_warp_is_torchvisions_operations_one_after_the_other():
    """Inside of what torchvision sees; it blackens what comes from beyond the crop."""
    changes = dict(horizontal_flip=0.5, vertical_flip=0.5, rotation=30, scale=0.2)
    settings = PLAIN.model_copy(update={**changes, "perspective": 0.4, "perspective_probability": 0.7})
    images = smooth_images(1).expand(24, -1, -1)
    view = draw_views(24, settings, CONFIG, torch.Generator().manual_seed(5))
    apply = operations(24, 5, settings)
    found, ones = warp(images, view, CONFIG)[:, :1] * 255, torch.ones(1, 64, 64)
    compared = 0
    for i, ours in enumerate(found):
        expected, seen = apply(images[i : i + 1].float(), i), apply(ones, i)
        inside = F.avg_pool2d(seen[None], 5, 1, 2)[0] > 0.999
        compared += int(inside.sum())
        assert (ours - expected)[inside].abs().mean() < 1.5, apply
    assert compared > 24 * 48 * 48 / 4
    assert (apply.horizontal != apply.vertical).any() and (apply.degrees < -5).any() and (apply.degrees > 5).any()


def test_what_is_drawn_is_uniform_and_as_probable_as_asked():
    def homographies(**changes):
        return draw(4000, **changes).homography.double()

    def is_uniform(values, low, high):
        edges = torch.linspace(0, 1, 9, dtype=torch.float64)
        fractions = torch.histc((values - low) / (high - low), 8, 0, 1) / len(values)
        quantiles = torch.quantile((values - low) / (high - low), edges)
        return bool((quantiles - edges).abs().max() < 0.03 and (fractions - 1 / 8).abs().max() < 0.03)

    turned, zoomed = homographies(rotation=20), homographies(scale=0.25)
    assert is_uniform(torch.atan2(turned[:, 1, 0], turned[:, 0, 0]).rad2deg(), -20, 20)
    assert is_uniform(zoomed[:, 0, 0], 0.75, 1.25) and torch.equal(zoomed[:, 0, 0], zoomed[:, 1, 1])
    flipped = homographies(horizontal_flip=0.2, vertical_flip=0.7)
    for axis, expected in ((0, 0.2), (1, 0.7)):
        assert float((flipped[:, axis, axis] < 0).double().mean()) == pytest.approx(expected, abs=0.03)
    settings = PLAIN.model_copy(update={"perspective": 0.5, "perspective_probability": 0.3})
    whole = CONFIG.model_copy(update={"image_size": 64})  # no crop: the homography is the perspective alone
    leaning = draw_views(4000, settings, whole, torch.Generator().manual_seed(0)).homography.double()
    moved = leaning[(leaning - torch.eye(3)).abs().amax((1, 2)) > 1e-4]
    assert len(moved) / 4000 == pytest.approx(0.3, abs=0.03)
    corner = torch.tensor([-32.0, -32, 1], dtype=torch.float64).view(3, 1).expand(len(moved), 3, 1)
    x, y, z = torch.linalg.solve(moved, corner).squeeze(2).unbind(1)
    assert is_uniform(x / z + 32, 0, 16) and is_uniform(y / z + 32, 0, 16)
    assert float(draw(4000, autocontrast=0.25).autocontrast.double().mean()) == pytest.approx(0.25, abs=0.03)


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


def test_autocontrast_stretches_the_finished_view_where_it_is_chosen():
    images = torch.cat([smooth_images(3) // 2, torch.full((1, 64, 64), 70, dtype=torch.uint8)])
    chosen = torch.tensor([True, False, True, True])
    view = draw(4, rotation=20)._replace(autocontrast=chosen)
    gray = warp(images, view, CONFIG)[:, 0]
    plain = warp(images, view._replace(autocontrast=torch.zeros(4, dtype=torch.bool)), CONFIG)[:, 0]
    low, high = plain.amin((1, 2), keepdim=True), plain.amax((1, 2), keepdim=True)
    torch.testing.assert_close(gray[[0, 2]], ((plain - low) / (high - low))[[0, 2]])
    torch.testing.assert_close(gray[[0, 2]].amin((1, 2)), torch.zeros(2))
    torch.testing.assert_close(gray[[0, 2]].amax((1, 2)), torch.ones(2))
    assert torch.equal(gray[1], plain[1])
    constant = warp(images[3:], draw(1, autocontrast=1), CONFIG)[0, 0]
    torch.testing.assert_close(constant, torch.full((48, 48), 70 / 255))  # torchvision leaves a constant image, too


def test_evaluation_view_is_the_normalised_centre():
    config = CONFIG.model_copy(update={"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 2.0)})
    images = smooth_images()
    centre = images[:, 8:56, 8:56].float() / 255
    found = evaluation_view(images, config)
    torch.testing.assert_close(found, normalise(centre, config))
    torch.testing.assert_close(found[:, 2], (centre - 0.3) / 2)


def test_gray_values_are_scaled_to_the_encoder_s_range_before_they_are_normalised():
    gray = torch.tensor([[[0.0, 0.25, 1.0]]])
    for black, white in ((0, 255), (-1, 1), (0.5, 1), (0, 1)):
        config = CONFIG.model_copy(update={"range": (black, white), "mean": (0.5, 0, 0), "std": (2.0, 1, 1)})
        scaled = torch.tensor([black, 0.75 * black + 0.25 * white, white])
        found = normalise(gray, config)[0, :, 0]
        torch.testing.assert_close(found, torch.stack([(scaled - 0.5) / 2, scaled, scaled]))


@pytest.mark.parametrize("shift, contrast", [((0.3, 0), 0.7), ((0.3, 0.3), 0.0)])
def test_less_than_half_a_gray_value_is_not_stretched(shift, contrast):
    """A pixel brighter by one gray value, read between its neighbours: by .7 of one, or by .49."""
    images = torch.full((1, 64, 64), 100, dtype=torch.uint8)
    images[0, 32, 32] = 101
    if not shift[1]:
        images[0, :, 32] = 101
    homography = torch.eye(3)[None].clone()
    homography[0, :2, 2] = torch.tensor(shift)
    found = warp(images, ViewDraw(homography, torch.ones(1, dtype=torch.bool)), CONFIG)[0, 0]
    assert bool(found.max() - found.min() > 0.9) == bool(contrast)


@pytest.mark.parametrize("batch", [1, 5])
def test_the_published_recipe_gives_finite_views(batch):
    view = draw_views(batch, AugmentConfig(), CONFIG, torch.Generator().manual_seed(1))
    images = warp(torch.randint(0, 256, (batch, 64, 64), dtype=torch.uint8), view, CONFIG)
    assert images.shape == (batch, 3, 48, 48) and torch.isfinite(images).all()


def test_a_smaller_side_is_the_mean_of_the_views_pixels():
    config = ImitateConfig(prepared_size=40, image_size=32)
    images = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    draw = draw_views(3, AugmentConfig(), config, torch.Generator().manual_seed(1))
    whole, small = warp(images, draw, config), warp(images, draw, config, side=16)
    torch.testing.assert_close(small, whole.unflatten(3, (16, 2)).unflatten(2, (16, 2)).mean((3, 5)))
    assert torch.equal(warp(images, draw, config, side=32), whole)
