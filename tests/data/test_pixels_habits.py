"""Pictures of 16 bits and several channels, what a source says outside of the file, percentiles and low contrast."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_dicom import BYTES, CHEST, FOLDER, dicom, jpeg
from PIL import Image, PngImagePlugin

from imitate.data.dicom import ImageError
from imitate.data.pixels import has_low_contrast, read_gray, read_noted, to_prepared

DEEP = CHEST * np.uint16(17) + np.uint16(3)
GRAY, GRAY_ALPHA, RGB, RGBA = 0, 4, 2, 6


def png(pixels: np.ndarray, colour: int, *, interlaced: bool = False, extra: bytes = b"") -> bytes:
    """Of 16 bits a channel, which Pillow does not write for more than one."""
    passes = [pixels]
    if interlaced:
        starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
        passes = [pixels[top::down, left::across] for top, left, down, across in starts]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for part in passes for row in part if row.size)
    size = (pixels.shape[1], pixels.shape[0])
    header = struct.pack(">IIBBBBB", *size, 16, colour, 0, 0, interlaced)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + chunks[0] + extra + chunks[1] + chunks[2]


def channels(*planes: np.ndarray) -> np.ndarray:
    return np.stack(planes, 2)


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_of_several_channels_keeps_16_bits(interlaced: bool) -> None:
    alpha = np.roll(DEEP, 5)
    for pixels, colour in (
        (DEEP, GRAY),
        (channels(DEEP, alpha), GRAY_ALPHA),
        (channels(DEEP, DEEP, DEEP), RGB),
        (channels(DEEP, DEEP, DEEP, alpha), RGBA),
    ):
        gray = read_gray(png(pixels, colour, interlaced=interlaced))
        assert gray.dtype == np.uint16
        np.testing.assert_array_equal(gray, DEEP)


def test_colour_of_16_bits_becomes_luminance() -> None:
    red, green, blue = (np.roll(DEEP, shift) for shift in (0, 100, 500))
    expected = 0.299 * red + 0.587 * green + 0.114 * blue
    for content in (png(channels(red, green, blue), RGB), png(channels(red, green, blue, blue), RGBA)):
        assert np.abs(read_gray(content) - expected).max() < 1
    white = np.full_like(DEEP, 65535)
    np.testing.assert_array_equal(read_gray(png(channels(white, white, white), RGB)), white)


def test_a_turned_png_of_16_bits_is_turned_whole() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    extra = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    for pixels, colour in ((channels(DEEP, DEEP, DEEP), RGB), (channels(DEEP, DEEP), GRAY_ALPHA), (DEEP, GRAY)):
        np.testing.assert_array_equal(read_gray(png(pixels, colour, extra=extra)), np.rot90(DEEP, -1))


def test_a_damaged_png_of_16_bits_is_named() -> None:
    whole = png(channels(DEEP, DEEP, DEEP), RGB)
    with pytest.raises(ImageError, match="damaged or truncated image"):
        read_gray(whole[: len(whole) // 2])


def test_bytes_files_and_paths_are_read_alike(tmp_path: Path) -> None:
    content = jpeg(BYTES)
    (tmp_path / "image").write_bytes(content)
    for source in (io.BytesIO(content), tmp_path / "image"):
        np.testing.assert_array_equal(read_gray(source), read_gray(content))
    with pytest.raises(ImageError, match="empty file"):
        read_gray(b"")


def jpeg_of(marker: int, precision: int) -> bytes:
    """A JPEG file whose header names another kind."""
    content = jpeg(BYTES)
    at = content.index(b"\xff\xc0")
    return content[: at + 1] + bytes([marker]) + content[at + 2 : at + 4] + bytes([precision]) + content[at + 5 :]


@pytest.mark.parametrize(
    ("marker", "precision", "expected"),
    [
        (0xC1, 12, "no decoder for JPEG of 12 bits outside of DICOM"),
        (0xC3, 16, "no decoder for lossless JPEG of 16 bits outside of DICOM"),
        (0xF7, 12, "no decoder for JPEG-LS of 12 bits outside of DICOM"),
        (0xC5, 8, "no decoder for JPEG of a rare kind of 8 bits outside of DICOM"),
    ],
)
def test_a_jpeg_that_is_not_decoded_is_named(marker: int, precision: int, expected: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_gray(jpeg_of(marker, precision))
    assert caught.value.reason == expected


@pytest.mark.parametrize("keep", [0.6, 0.05])
def test_a_cut_jpeg_is_damaged(keep: float) -> None:
    content = jpeg(BYTES)
    with pytest.raises(ImageError, match="^damaged or truncated image$"):
        read_gray(content[: int(len(content) * keep)])


# What a source says outside of the file


@pytest.mark.parametrize("pixels", [BYTES, DEEP])
def test_invert_and_window_apply_to_pictures(pixels: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    content, wide = file.getvalue(), pixels.astype(int)
    inverted = read_gray(content, invert=True)
    assert inverted.dtype == pixels.dtype
    np.testing.assert_array_equal(inverted, wide.max() - wide)
    np.testing.assert_array_equal(read_gray(content, invert=False), pixels)
    scale = int(pixels.max()) / 256
    window = (120 * scale, 150 * scale)
    shown = np.clip((wide - (window[0] - 0.5)) / (window[1] - 1) + 0.5, 0, 1)
    for inverse, expected in ((None, shown - shown.min()), (True, shown.max() - shown)):
        gray, notes = read_noted(content, invert=inverse, window=window)
        np.testing.assert_allclose(gray, expected, atol=1e-6)
        assert notes == ()
    gray, notes = read_noted(content, window=(-900, 10))
    np.testing.assert_array_equal(gray, wide - wide.min())
    assert notes == ("window ignored",)


# Contrast


def outlier(dtype: Any = np.uint16) -> np.ndarray:
    pixels = CHEST.repeat(4, 0).repeat(4, 1).astype(dtype)
    pixels[60, 70] = 65535
    return pixels


def test_percentiles_keep_the_contrast_beside_a_stray_value() -> None:
    clean = CHEST.repeat(4, 0).repeat(4, 1)
    expected, geometry = to_prepared(clean, 64)
    flat, _ = to_prepared(outlier(), 64)
    assert np.ptp(np.percentile(flat, (1, 99))) < 20
    for dtype in (np.uint16, np.float32):
        image, same = to_prepared(outlier(dtype), 64, percentiles=(0, 99.9))
        assert same == geometry and np.abs(image.astype(int) - expected).max() <= 6


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_percentiles_become_black_and_white(dtype: Any) -> None:
    ramp = np.arange(1, 226).reshape(15, 15).repeat(2, 0).repeat(2, 1).astype(dtype)
    image, _ = to_prepared(ramp, 30, percentiles=(10, 80))
    low, high = np.percentile(ramp, (10, 80), method="nearest")
    assert (image[ramp <= low] == 0).all() and (image[ramp >= high] == 255).all()
    inside = (ramp > low) & (ramp < high)
    np.testing.assert_allclose(image[inside], (ramp[inside].astype(float) - low) * 255 / (float(high) - low), atol=0.51)


def test_percentiles_of_the_whole_range_are_the_default() -> None:
    for pixels in (BYTES, CHEST, CHEST.astype(np.float32)):
        np.testing.assert_array_equal(to_prepared(pixels, 40, percentiles=(0, 100))[0], to_prepared(pixels, 40)[0])


def test_percentiles_between_which_nothing_lies_are_ignored() -> None:
    pixels = np.full((40, 40), 7, np.uint8)
    pixels[3, 4] = 200
    np.testing.assert_array_equal(to_prepared(pixels, 32, percentiles=(1, 99))[0], to_prepared(pixels, 32)[0])


def test_percentiles_are_those_of_the_crop() -> None:
    border = np.zeros((200, 200), np.uint16)
    border[80:128, 80:120] = CHEST
    expected, _ = to_prepared(CHEST, 40, percentiles=(5, 95))
    np.testing.assert_array_equal(to_prepared(border, 40, percentiles=(5, 95))[0], expected)


@pytest.mark.parametrize(("part", "low"), [(0.24, True), (0.26, False)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("stray", [0, 200])
def test_low_contrast_is_less_than_a_quarter_of_the_range(part: float, low: bool, dtype: Any, stray: int) -> None:
    start = 10 if stray == 200 else 190 - 200 * part
    pixels = np.linspace(start, start + 200 * part * 100 / 98, 10000).reshape(100, 100)
    pixels[0, 0] = stray
    pixels[50, 50] = 200 - stray
    assert has_low_contrast(pixels.astype(dtype) if dtype != np.uint8 else pixels.round().astype(np.uint8)) == low


def test_low_contrast_of_a_large_image_counts_every_pixel_of_the_range() -> None:
    pixels = np.linspace(100, 200, 700 * 500).reshape(700, 500).astype(np.uint16)
    assert not has_low_contrast(pixels) and not has_low_contrast(pixels.T)
    pixels[333, 77] = 60000
    assert has_low_contrast(pixels)


@pytest.mark.parametrize("axis", [0, 1])
def test_low_contrast_of_a_small_image_counts_every_row(axis: int) -> None:
    pixels = np.full((40, 40), 100, np.uint8)
    np.moveaxis(pixels, axis, 0)[1::2] = np.linspace(0, 255, 40).astype(np.uint8)
    assert not has_low_contrast(pixels)


def test_low_contrast_is_noted() -> None:
    assert read_noted(dicom(outlier(), BitsStored=16))[1] == ("low contrast",)
    assert read_noted(FOLDER / "jpegls_12.dcm")[1] == ()
    file = io.BytesIO()
    Image.fromarray(outlier()).save(file, "PNG")
    assert read_noted(file.getvalue())[1] == ("low contrast",)
    assert not has_low_contrast(np.full((30, 30), 5, np.uint8))


def test_a_png_with_text_is_read(recwarn: pytest.WarningsRecorder) -> None:
    info, file = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("Comment", "x" * 100)
    Image.fromarray(BYTES).save(file, "PNG", pnginfo=info)
    np.testing.assert_array_equal(read_gray(file.getvalue()), BYTES)
    assert not recwarn.list
