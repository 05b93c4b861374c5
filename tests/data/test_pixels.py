import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from archives import bundled, encoded, read, reason
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from imitate.data.dicom import MAX_PIXELS, ImageError
from imitate.data.pixels import read_gray, to_prepared

RAMP = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)  # 12 bit


def test_sixteen_bit_png_keeps_its_depth_and_order() -> None:
    pixels = (RAMP * 21).astype(np.uint16)
    gray = read(encoded(pixels))
    assert gray.dtype == np.uint16
    np.testing.assert_array_equal(gray, pixels)
    image, _ = to_prepared(gray, 48)
    assert (np.diff(image.astype(int), axis=0) >= 0).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_png_mode_is_gray(mode: str) -> None:
    pixels = np.zeros((20, 30), np.uint8)
    pixels[5:, 7:] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    np.testing.assert_array_equal(read(file.getvalue()), pixels)


def test_a_colour_photograph_becomes_luminance_the_right_way_up() -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, :48] = (200, 40, 90)
    pixels[:32, 48:] = (10, 220, 30)
    expected = pixels @ np.array([0.299, 0.587, 0.114])
    gray = read(encoded(pixels, "JPEG", quality=100, subsampling=0))
    assert np.abs(gray - expected).max() < 4
    turned = Image.Exif()
    turned[0x0112] = 6  # shown after a quarter turn clockwise
    assert (
        np.abs(read(encoded(pixels, "JPEG", quality=100, subsampling=0, exif=turned)) - np.rot90(expected, -1)).max()
        < 4
    )


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bundled("MR_small.dcm").read_bytes())
    (tmp_path / "b.dcm").write_bytes(encoded(RAMP))
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png"), read_gray(bundled("MR_small.dcm")))
    np.testing.assert_array_equal(read_gray(tmp_path / "b.dcm"), RAMP)


def test_bad_paths_have_their_reasons(tmp_path: Path) -> None:
    def reported(path: Path) -> str:
        with pytest.raises(ImageError) as caught:
            read_gray(path)
        return caught.value.reason

    assert reported(tmp_path / "absent.png") == "missing file"
    assert reported(tmp_path) == "a folder, not a file"
    (tmp_path / "empty").touch()
    assert reported(tmp_path / "empty") == "empty file"
    (tmp_path / "secret").write_bytes(encoded(RAMP))
    (tmp_path / "secret").chmod(0)
    if os.geteuid():
        assert reported(tmp_path / "secret") == "file without read permission"


def test_black_constant_and_tiny_images_are_refused() -> None:
    assert reason(encoded(np.zeros((99, 99), np.uint8))) == "black image"
    assert reason(encoded(np.full((99, 99), 7, np.uint8))) == "constant image"
    assert reason(encoded(RAMP[:15])) == "image under 16 pixels a side"
    corner = np.zeros((99, 99), np.uint8)
    corner[:90, :3] = 9
    assert reason(encoded(corner)) == "image under 16 pixels a side"


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header)) + b"\0\0\0\0IDAT"


def test_bombs_are_refused_from_their_headers() -> None:
    assert reason(png_header(60000, 60000)) == "too many pixels"
    assert reason(png_header(8193, 8192)) == "too many pixels" and MAX_PIXELS < 8193 * 8192


WHOLE = {
    "png": encoded(np.random.default_rng(0).integers(0, 4096, (64, 48)).astype(np.uint16)),
    "jpeg": encoded(np.random.default_rng(0).integers(0, 256, (64, 48)).astype(np.uint8), "JPEG"),
    "dicom": bundled("MR_small.dcm").read_bytes(),
    "rle": bundled("MR_small_RLE.dcm").read_bytes(),
    "j2k": bundled("MR_small_jp2klossless.dcm").read_bytes(),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.9])
def test_truncated_files_are_reported_as_such(kind: str, fraction: float) -> None:
    assert reason(WHOLE[kind][: int(len(WHOLE[kind]) * fraction)]) in {
        "damaged or truncated image",
        "DICOM without an image",  # cut inside the header
    }


@given(kind=st.sampled_from(["png", "jpeg", "dicom", "rle"]), data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_damage_never_raises_anything_else(kind: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[kind])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        gray = read(bytes(content))
    except ImageError:
        return
    assert gray.ndim == 2 and np.isfinite(gray).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_crop_stretch_and_letterbox(dtype: type, resize: str) -> None:
    gray = np.zeros((100, 120), dtype)
    gray[10:90, 20:60] = np.linspace(50, 200, 40).astype(dtype)
    image, geometry = to_prepared(gray, 64, resize)
    assert geometry.crop == (20, 10, 60, 90)
    assert geometry.content == ((0, 0, 64, 64) if resize == "stretch" else (16, 0, 48, 64))
    left, top, right, bottom = geometry.content
    inside = image[top:bottom, left:right].astype(int)
    assert inside.min() <= 3 and inside.max() >= 252  # the brightest does not wrap to 0
    assert (np.diff(inside, axis=1) >= 0).all()
    assert image.astype(int).sum() == inside.sum()  # zeros around


def test_depths_agree() -> None:
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.integers(3, 250, (25, 20)), np.ones((16, 16), int)).astype(np.uint8)
    eight, _ = to_prepared(coarse, 64)
    sixteen, _ = to_prepared(coarse.astype(np.uint16) * 257, 64)
    assert np.abs(eight.astype(int) - sixteen).max() <= 2


def test_reduction_does_not_alias() -> None:
    stripes = np.zeros((600, 600), np.uint8)
    stripes[:, ::2] = stripes[0] = stripes[:, -1] = 255
    image, _ = to_prepared(stripes, 96)
    assert np.abs(image[4:-4, 4:-4].astype(int) - 127.5).max() < 10


def test_what_is_no_file_is_reported_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for name, reported in (("pipe", "a pipe or"), ("device", "a pipe or"), ("loop", "a link that"), (".", "a folder")):
        with pytest.raises(ImageError, match=reported):
            read_gray(tmp_path / name)


def test_real_radiographs(real_data: Path) -> None:
    for path in sorted((real_data / "open-i" / "images" / "images_normalized").iterdir())[:40]:
        image, _ = to_prepared(read_gray(path), 128)
        assert image.max() > 200 and 5 < image.mean() < 220
