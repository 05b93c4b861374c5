"""Limits and exact values on the way from a file to a prepared image."""

import errno
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imitate.data.annotations import Box
from imitate.data.dicom import ImageError
from imitate.data.pixels import Geometry, has_low_contrast, read_gray, to_prepared
from imitate.names import Resize


def ramp(height: int, width: int, dtype: Any = np.uint8) -> np.ndarray:
    return (np.arange(height * width).reshape(height, width) % 200 + 20).astype(dtype)


# Geometry


def test_a_box_without_height_or_width_is_lost() -> None:
    geometry = Geometry(200, 100, 50, crop=(100, 0, 200, 100), content=(0, 0, 50, 50))
    for box in (Box("", 150, 50, 9, 0), Box("", 150, 50, 0, 9), Box("", 150, -9, 9, 9), Box("", 150, 100, 9, 9)):
        assert geometry.box(box) is None


def test_a_prepared_pixel_is_marked_from_half_of_it() -> None:
    geometry = Geometry(32, 16, 16, crop=(0, 0, 32, 16), content=(0, 0, 16, 16))
    mask = np.zeros((16, 32), bool)
    mask[:, 0:3] = True  # one whole prepared column, half of the next
    mask[:8, 8:10] = True
    found = geometry.mask(mask)
    assert found[:, :2].all() and found[:8, 4].all() and found.sum() == 2 * 16 + 8
    assert not geometry.mask(np.zeros((16, 32), bool)).any()


@pytest.mark.parametrize("turned", [False, True])
def test_a_side_of_16_pixels_is_enough_wherever_it_lies(turned: bool) -> None:
    for side, start in ((16, 0), (16, 30), (15, 0), (15, 30)):
        gray = np.zeros((80, 90), np.uint8)
        gray[start : start + side, 20:70] = ramp(side, 50)
        gray = gray.T if turned else gray
        if side == 16:
            crop = to_prepared(gray, 32)[1].crop
            assert crop == ((start, 20, start + 16, 70) if turned else (20, start, 70, start + 16))
        else:
            with pytest.raises(ImageError, match="image under 16 pixels a side"):
                to_prepared(gray, 32)


@pytest.mark.parametrize(
    ("shape", "resize", "content"),
    [
        ((20, 100), "stretch", (0, 0, 50, 50)),
        ((20, 100), "letterbox", (0, 20, 50, 30)),
        ((100, 20), "letterbox", (20, 0, 30, 50)),
        ((100, 30), "letterbox", (17, 0, 32, 50)),
        ((4000, 16), "letterbox", (24, 0, 25, 50)),  # never thinner than a pixel
        ((16, 4000), "letterbox", (0, 24, 50, 25)),
    ],
)
def test_where_an_image_lies_in_its_square(shape: tuple[int, int], resize: Resize, content: Any) -> None:
    image, geometry = to_prepared(ramp(*shape), 50, resize)
    assert geometry.content == content and geometry.crop == (0, 0, shape[1], shape[0])
    left, top, right, bottom = content
    assert image.sum() == image[top:bottom, left:right].sum() > 0


def test_images_are_stretched_unless_stated_otherwise() -> None:
    assert to_prepared(ramp(20, 60), 32)[1].content == (0, 0, 32, 32)


# Values


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("low", "high"), [(0, 255), (1, 255), (0, 254), (7, 99), (3, 250)])
def test_the_range_is_spread_over_256_levels(dtype: Any, low: int, high: int) -> None:
    gray = np.resize(np.arange(low, high + 1), (32, 32)).astype(dtype)
    gray[-1] = gray[:, -1] = gray[0] = gray[:, 0] = high  # no black border
    gray[5, 5] = low
    image, _ = to_prepared(gray, 32)
    exact = (gray.astype(float) - low) * 255 / (high - low)
    assert np.abs(image - exact).max() <= 0.5 + 1e-4 and image.min() == 0 and image.max() == 255


def test_the_brightest_of_large_numbers_does_not_wrap_to_black() -> None:
    gray = np.full((64, 64), 2.0**24, np.float32)
    gray[1::2] += 2  # the next number of 32 bits
    gray[::7] -= 1
    image, _ = to_prepared(gray, 24)
    assert image[gray[:24, :24] > 0].min() >= 0 and (image == 0).mean() < 0.5


@pytest.mark.parametrize(("dark", "bright", "low"), [(90, 0, True), (150, 0, False), (0, 90, True), (0, 150, False)])
def test_one_percent_at_either_end_is_not_looked_at(dark: int, bright: int, low: bool) -> None:
    pixels = np.linspace(100, 110, 10000)
    pixels[:dark], pixels[10000 - bright :] = 0, 210
    pixels[5000], pixels[6000] = 0, 210
    assert has_low_contrast(pixels.reshape(100, 100)) == low


# Pictures


def test_a_colour_jpeg_gives_the_luminance_that_it_stores() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    with Image.open(file) as image:
        image.draft("YCbCr", image.size)
        stored = np.asarray(image)[..., 0]
    np.testing.assert_array_equal(read_gray(file.getvalue()), stored)


def test_luminance_of_16_bits_is_rounded() -> None:
    colours = [(1, 1, 0), (0, 0, 1), (1, 0, 0), (0, 1, 0), (2, 0, 0), (65535, 0, 0), (0, 65535, 0), (0, 0, 65535)]
    raw = b"".join(b"\0" + np.array(colours, ">u2").tobytes() for _ in range(2))
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 8, 2, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    gray = read_gray(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    exact = [round(red * 0.299 + green * 0.587 + blue * 0.114) for red, green, blue in colours]
    assert gray.tolist() == [exact] * 2


@pytest.mark.parametrize("precision", [10, 12, 16])
def test_a_depth_of_jpeg_that_is_not_decoded_is_named(precision: int) -> None:
    stream = b"\xff\xd8\xff\xc1" + struct.pack(">HB2HB", 11, precision, 20, 20, 1) + b"\1\x11\0"
    with pytest.raises(ImageError, match=f"^no decoder for JPEG of {precision} bits outside of DICOM$"):
        read_gray(stream)


@pytest.mark.parametrize("precision", [2, 7, 9, 11, 13, 17, 200])
def test_a_depth_that_no_jpeg_has_is_damage(precision: int) -> None:
    stream = b"\xff\xd8\xff\xc1" + struct.pack(">HB2HB", 11, precision, 20, 20, 1) + b"\1\x11\0"
    with pytest.raises(ImageError, match="^damaged or truncated image$"):
        read_gray(stream)


class Failing(io.BytesIO):
    """A file on a disk that fails after the first bytes."""

    def __init__(self, error: OSError) -> None:
        file = io.BytesIO()
        Image.fromarray(ramp(40, 40)).save(file, "PNG")
        super().__init__(file.getvalue())
        self.error, self.reads = error, 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        if self.reads == 3:
            raise self.error
        return super().read(size)


def test_a_failing_disk_is_not_a_damaged_image() -> None:
    with pytest.raises(OSError, match="I/O"):
        read_gray(Failing(OSError(errno.EIO, "I/O error")))
    for error in (OSError("cannot identify"), OSError(errno.EINVAL, "seek")):
        with pytest.raises(ImageError, match="damaged or truncated image"):
            read_gray(Failing(error))
