"""Other groups' ways into a square, beside torchvision's transforms of a picture and plain loops."""

import numpy as np
import pytest
from peer_files import radiograph
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize
from torchvision.transforms.functional import center_crop

from imitate.data.dicom import ImageError
from imitate.data.pixels import to_prepared
from imitate.data.squares import area_average, to_bytes

SHAPES = [(60, 41), (41, 63), (40, 40), (130, 97)]
MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


@pytest.mark.parametrize("width, height", SHAPES)
@pytest.mark.parametrize("name", MODES)
def test_crop_is_torchvisions_resize_and_centre_crop(width, height, name):
    gray = radiograph(width, height)
    square, geometry = to_prepared(gray, 32, f"crop-{name}")
    picture = CenterCrop(32)(Resize(32, MODES[name])(Image.fromarray(gray)))
    assert np.array_equal(square, np.asarray(picture))
    assert geometry.content == (0, 0, 32, 32) and geometry.crop[2] - geometry.crop[0] == pytest.approx(
        min(width, height), abs=1
    )
    inner = np.asarray(center_crop(Resize(32, MODES[name])(Image.fromarray(gray)), 28))
    assert np.array_equal(square[2:30, 2:30], inner)  # so that a centre crop of the square is one of the image


@pytest.mark.parametrize("width, height", SHAPES)
@pytest.mark.parametrize("name", MODES)
def test_stretch_is_the_whole_image(width, height, name):
    gray = radiograph(width, height)
    picture = Resize((32, 32), MODES[name])(Image.fromarray(gray))
    assert np.array_equal(to_prepared(gray, 32, f"stretch-{name}")[0], np.asarray(picture))


@pytest.mark.parametrize("width, height", SHAPES)
def test_pad_area_is_the_mean_of_the_pixels_below_each_in_the_middle_of_black(width, height):
    gray = radiograph(width, height)
    square, geometry = to_prepared(gray, 32, "pad-area")
    longer = max(width, height)
    wide, high = int(width * 32 / longer), int(height * 32 / longer)
    left, top = (32 - wide) // 2, (32 - high) // 2
    assert geometry.content == (left, top, left + wide, top + high)
    expected = np.zeros((32, 32))
    for y in range(high):
        for x in range(wide):
            total = 0.0
            for v in range(int(y * height / high), min(height, int((y + 1) * height / high) + 1)):
                for u in range(int(x * width / wide), min(width, int((x + 1) * width / wide) + 1)):
                    down = min(v + 1, (y + 1) * height / high) - max(v, y * height / high)
                    across = min(u + 1, (x + 1) * width / wide) - max(u, x * width / wide)
                    total += max(down, 0) * max(across, 0) * gray[v, u]
            expected[top + y, left + x] = total / (height / high) / (width / wide)
    assert np.abs(square - expected).max() <= 0.5 + 1e-3


def test_what_has_to_grow_is_interpolated():
    gray = radiograph(20, 16)
    assert np.array_equal(
        area_average(gray, 32, 25), np.asarray(Image.fromarray(gray).resize((32, 25), Image.Resampling.BILINEAR))
    )


@pytest.mark.parametrize("width, height", [*SHAPES, (49, 30)])
def test_pad_lanczos_keeps_the_ratio_in_the_middle_of_black(width, height):
    gray = radiograph(width, height)
    square, _ = to_prepared(gray, 32, "pad-lanczos")
    ratio = 32 / max(width, height)
    small = Image.fromarray(gray).resize((int(width * ratio), int(height * ratio)), Image.Resampling.LANCZOS)
    whole = Image.new("L", (32, 32))
    whole.paste(small, ((32 - small.width) // 2, (32 - small.height) // 2))
    assert np.array_equal(square, np.asarray(whole))


@pytest.mark.parametrize("width, height", [*SHAPES, (20, 12)])
def test_frame_pads_before_it_resizes_and_middle_cuts(width, height):
    gray = radiograph(width, height)
    side = max(32, width, height)
    whole = Image.new("L", (side, side), 0)
    whole.paste(Image.fromarray(gray), ((side - width) // 2, (side - height) // 2))
    framed, geometry = to_prepared(gray, 32, "frame-bicubic")
    assert np.array_equal(framed, np.asarray(whole.resize((32, 32), Image.Resampling.BICUBIC)))
    assert geometry.crop == (0, 0, width, height)
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    cut = Image.fromarray(gray).crop((left, top, left + side, top + side)).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(to_prepared(gray, 32, "middle-bilinear")[0], np.asarray(cut))


def test_8_bits_stay_as_they_are_unless_they_are_stretched_and_others_are_stretched():
    gray = (radiograph(40, 40) // 2 + 20).astype(np.uint8)
    assert np.array_equal(to_bytes(gray, full=False), gray)
    assert (to_bytes(gray, full=True).min(), to_bytes(gray, full=True).max()) == (0, 255)
    deep = gray.astype(np.uint16) * 16
    assert (to_bytes(deep, full=False).min(), to_bytes(deep, full=False).max()) == (0, 255)
    with pytest.raises(ImageError, match="constant"):
        to_bytes(np.full((4, 4), 3, np.uint8), full=False)
    assert to_prepared(gray, 40, "stretch-bilinear", percentiles=(0, 100))[0].max() == 255
