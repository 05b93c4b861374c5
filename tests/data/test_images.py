import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_voi_lut
from pydicom.uid import JPEG2000, ExplicitVRLittleEndian, JPEGBaseline8Bit

from imitate.data.images import MAX_PIXELS, ImageError, read_gray, to_prepared

RAMP = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)  # 12 bit


def bundled(name: str) -> Path:
    return Path(str(get_testdata_file(name, download=False)))


def dicom(pixels: np.ndarray | bytes, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> bytes:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
    data.PatientName = "Nobody^Here"
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    if isinstance(pixels, bytes):
        data.PixelData, data.BitsAllocated, data.BitsStored = encapsulate([pixels]), 8, 8
    else:
        data.PixelData, data.BitsAllocated = pixels.tobytes(), 8 * pixels.itemsize
        data.BitsStored = 8 if pixels.itemsize == 1 else 12
        data.Rows, data.Columns = pixels.shape[-2:]
    for name, value in tags.items():
        setattr(data, name, value)
    data.HighBit = data.BitsStored - 1
    data["PixelData"].VR = "OB" if data.BitsAllocated == 8 else "OW"
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def picture(pixels: np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def read(content: bytes) -> np.ndarray:
    return read_gray(io.BytesIO(content))


def reason(content: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        to_prepared(read(content), 32)
    return caught.value.reason


@pytest.mark.parametrize("form", ["implicit", "bigendian", "expb", "RLE", "jp2klossless", "jpeg_ls_lossless", "padded"])
def test_every_lossless_transfer_syntax_gives_the_same_pixels(form: str) -> None:
    expected = read_gray(bundled("MR_small.dcm"))
    assert expected.shape == (64, 64) and expected.dtype == np.float32
    np.testing.assert_array_equal(read_gray(bundled(f"MR_small_{form}.dcm")), expected)


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG2000.dcm", "693_J2KI.dcm", "image_dfl.dcm", "CT_small.dcm"])
def test_other_syntaxes_and_depths_are_read(name: str) -> None:
    gray = read_gray(bundled(name))
    header = dcmread(bundled(name), stop_before_pixels=True)
    assert gray.shape == (header.Rows, header.Columns)
    assert gray.min() == 0 and len(np.unique(gray)) > 9


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SC_rgb_rle.dcm", "DICOM in colour"),
        ("examples_palette.dcm", "DICOM in colour"),
        ("SC_ybr_full_422_uncompressed.dcm", "DICOM in colour"),
        ("rtdose.dcm", "DICOM of several frames"),
        ("examples_ybr_color.dcm", "DICOM of several frames"),
        ("test-SR.dcm", "DICOM without an image"),
        ("MR_truncated.dcm", "damaged or truncated image"),
        ("badVR.dcm", "damaged or truncated image"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", "DICOM header and pixels of different size"),
        ("README.txt", "not a DICOM, PNG or JPEG file"),
    ],
)
def test_unfit_dicom_is_refused_with_its_reason(name: str, expected: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_gray(bundled(name))
    assert caught.value.reason == expected


def test_a_dicom_without_preamble_is_read() -> None:
    whole = dicom(RAMP)
    bare = whole[whole.index(b"\x08\x00\x16\x00UI") :]
    np.testing.assert_array_equal(read(bare), read(whole))


def test_monochrome1_is_inverted() -> None:
    negative = dicom(4095 - RAMP, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read(negative), read(dicom(RAMP)))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("slope", [1, 0.5])
def test_windows_agree_with_the_standard(function: str, slope: float) -> None:
    tags = {"WindowCenter": [700, 5], "WindowWidth": [800, 7], "VOILUTFunction": function}
    content = dicom(RAMP, RescaleSlope=slope, RescaleIntercept=-100, **tags)
    expected = apply_voi_lut(RAMP.astype(float) * slope - 100, dcmread(io.BytesIO(content)))
    gray = read(content)
    np.testing.assert_allclose(gray / gray.max(), (expected - expected.min()) / np.ptp(expected), atol=1e-5)
    inverted = read(
        dicom(RAMP, RescaleSlope=slope, RescaleIntercept=-100, PhotometricInterpretation="MONOCHROME1", **tags)
    )
    np.testing.assert_allclose(inverted, gray.max() - gray, atol=1e-5)


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": 0, "WindowWidth": 0},
        {"WindowCenter": "", "WindowWidth": ""},
        {"WindowCenter": 100},
        {"WindowCenter": 60000, "WindowWidth": 10},
    ],
)
def test_a_window_that_shows_nothing_is_left_out(window: dict[str, Any]) -> None:
    np.testing.assert_array_equal(read(dicom(RAMP, **window)), RAMP)


@pytest.mark.parametrize(("depth", "peak"), [(8, 255), (12, 4095)])
@pytest.mark.parametrize("as_words", [True, False])
def test_a_voi_table_maps_every_value(depth: int, peak: int, as_words: bool) -> None:
    item = Dataset()
    table = np.linspace(peak, 0, 4096).round().astype("<u2")
    item.LUTDescriptor = [4000, 96, depth]
    item.add_new("LUTData", "OW" if as_words else "US", table[:4000].tobytes() if as_words else table[:4000].tolist())
    expected = table[np.clip(RAMP.astype(int) - 96, 0, 3999)].astype(int)
    np.testing.assert_array_equal(read(dicom(RAMP, VOILUTSequence=[item])), expected - expected.min())


def test_signed_pixels_and_padding() -> None:
    pixels = RAMP.astype(np.int16) - 500
    pixels[:8] = -2000
    gray = read(dicom(pixels, PixelRepresentation=1, BitsStored=16, PixelPaddingValue=-2000))
    assert gray[:8].max() == 0
    np.testing.assert_array_equal(gray[8:], RAMP[8:] - RAMP[8, 0])
    bright = RAMP.copy()
    bright[:, :5] = 4095  # white padding must neither win the contrast nor survive the inversion
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        gray = read(dicom(bright, PixelPaddingValue=4095, PhotometricInterpretation=photometric))
        assert gray[:, :5].max() == 0 and gray.max() == RAMP[-1, -1] - RAMP[0, 5]


def test_sixteen_bit_png_keeps_its_depth_and_order() -> None:
    pixels = (RAMP * 21).astype(np.uint16)
    gray = read(picture(pixels))
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
    gray = read(picture(pixels, "JPEG", quality=100, subsampling=0))
    assert np.abs(gray - expected).max() < 4
    turned = Image.Exif()
    turned[0x0112] = 6  # shown after a quarter turn clockwise
    assert (
        np.abs(read(picture(pixels, "JPEG", quality=100, subsampling=0, exif=turned)) - np.rot90(expected, -1)).max()
        < 4
    )


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(dicom(RAMP))
    (tmp_path / "b.dcm").write_bytes(picture(RAMP))
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png"), read_gray(tmp_path / "b.dcm"))


def test_bad_paths_have_their_reasons(tmp_path: Path) -> None:
    def told(path: Path) -> str:
        with pytest.raises(ImageError) as caught:
            read_gray(path)
        return caught.value.reason

    assert told(tmp_path / "absent.png") == "missing file"
    assert told(tmp_path) == "a folder, not a file"
    (tmp_path / "empty").touch()
    assert told(tmp_path / "empty") == "empty file"
    (tmp_path / "secret").write_bytes(picture(RAMP))
    (tmp_path / "secret").chmod(0)
    if os.geteuid():
        assert told(tmp_path / "secret") == "file without read permission"


def test_black_constant_and_tiny_images_are_refused() -> None:
    assert reason(picture(np.zeros((99, 99), np.uint8))) == "black image"
    assert reason(picture(np.full((99, 99), 7, np.uint8))) == "constant image"
    assert reason(dicom(np.full((99, 99), 7, np.uint16))) == "black image"
    assert reason(picture(RAMP[:15])) == "image under 16 pixels a side"
    corner = np.zeros((99, 99), np.uint8)
    corner[:90, :3] = 9
    assert reason(picture(corner)) == "image under 16 pixels a side"


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header)) + b"\0\0\0\0IDAT"


def test_bombs_are_refused_from_their_headers() -> None:
    assert reason(png_header(60000, 60000)) == "too many pixels"
    assert reason(png_header(8193, 8192)) == "too many pixels" and MAX_PIXELS < 8193 * 8192
    assert reason(dicom(RAMP, Rows=65535, Columns=65535)) == "too many pixels"
    stream = bytearray(picture(RAMP.astype(np.uint8), "JPEG2000", no_jp2=True))
    stream[8:16] = struct.pack(">2I", 60000, 60000)
    assert reason(dicom(bytes(stream), JPEG2000, Rows=64, Columns=48)) == "DICOM header and pixels of different size"


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000])
def test_a_stream_that_ends_early_inside_a_whole_dicom(syntax: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 48)).astype(np.uint8)
    stream = picture(noise, "JPEG") if syntax == JPEGBaseline8Bit else picture(noise, "JPEG2000", no_jp2=True)
    assert read(dicom(stream, syntax, Rows=64, Columns=48)).shape == (64, 48)
    assert reason(dicom(stream[: len(stream) // 2], syntax, Rows=64, Columns=48)) == "damaged or truncated image"


WHOLE = {
    "png": picture(np.random.default_rng(0).integers(0, 4096, (64, 48)).astype(np.uint16)),
    "jpeg": picture(np.random.default_rng(0).integers(0, 256, (64, 48)).astype(np.uint8), "JPEG"),
    "dicom": dicom(RAMP),
    "rle": bundled("MR_small_RLE.dcm").read_bytes(),
    "j2k": bundled("MR_small_jp2klossless.dcm").read_bytes(),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_files_are_told_as_such(kind: str, share: float) -> None:
    assert reason(WHOLE[kind][: int(len(WHOLE[kind]) * share)]) in {
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


def test_headers_reach_no_log(caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> None:
    for name in ("badVR.dcm", "MR_truncated.dcm", "JPGExtended.dcm"):
        try:
            read_gray(bundled(name))
        except ImageError as error:
            assert name not in str(error) and "1A" not in str(error)
    assert not caplog.records and not recwarn.list


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_crop_stretch_and_fit(dtype: type, fit: str) -> None:
    gray = np.zeros((100, 120), dtype)
    gray[10:90, 20:60] = np.linspace(50, 200, 40).astype(dtype)
    image, geometry = to_prepared(gray, 64, fit)
    assert geometry.crop == (20, 10, 60, 90)
    assert geometry.content == ((0, 0, 64, 64) if fit == "squash" else (16, 0, 48, 64))
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


def test_real_radiographs(real_data: Path) -> None:
    for path in sorted((real_data / "open-i" / "images" / "images_normalized").iterdir())[:40]:
        image, _ = to_prepared(read_gray(path), 128)
        assert image.max() > 200 and 5 < image.mean() < 220
