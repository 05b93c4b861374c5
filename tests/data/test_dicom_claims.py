"""What a DICOM file claims of itself against what it holds: syntax, bits, colour, frames, overlays."""

import io
from typing import Any

import numpy as np
import pytest
from dicom_checks import changed, j2k, notes, reason, same
from golden_dicom import BYTES, CHEST, DEPTH_16, MARKS, compressed, dicom, jpeg
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from imitate.data.dicom import MAX_PIXELS, ImageError, check_size, is_dicom
from imitate.data.pixels import read_gray

GRAY = np.repeat(BYTES[..., None], 3, 2)


def encoded(pixels: np.ndarray, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


# Files


def test_a_dicom_is_recognised_by_its_first_bytes() -> None:
    assert is_dicom(bytes(128) + b"DICM")
    assert is_dicom(b"\x02\x00\x00\x00" + b"x" * 128) and is_dicom(b"\x08\x00\x05\x00")
    for head in (bytes(132), bytes(127) + b"DICMx", b"\x00\x02", b"\x89PNG", b"\xff\xd8\xff", b"\x04\x00"):
        assert not is_dicom(head)


def test_the_largest_image() -> None:
    check_size(8192, MAX_PIXELS // 8192)
    with pytest.raises(ImageError, match="too many pixels"):
        check_size(8192, MAX_PIXELS // 8192 + 1)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_data_set_alone_is_read(syntax: str) -> None:
    whole = dicom(CHEST, syntax)
    same(whole[whole.index(b"\x08\x00\x16\x00") :], CHEST)


def test_several_frames_are_refused_by_the_header() -> None:
    assert reason(dicom(CHEST, NumberOfFrames=2)) == "DICOM of several frames"
    same(dicom(CHEST, NumberOfFrames=1), CHEST)


@pytest.mark.parametrize("name", ["FloatPixelData", "DoubleFloatPixelData"])
def test_pixels_of_real_numbers_are_named(name: str) -> None:
    data = dcmread(io.BytesIO(dicom(CHEST)))
    del data.PixelData
    setattr(data, name, CHEST.astype(np.float32 if name == "FloatPixelData" else np.float64).tobytes())
    file = io.BytesIO()
    data.save_as(file)
    assert reason(file.getvalue()) == "DICOM of floating-point pixels"


# Streams


def test_a_stream_in_two_fragments_is_whole() -> None:
    for stream, syntax in ((jpeg(BYTES), JPEGBaseline8Bit), (j2k(), JPEG2000)):
        data = dcmread(io.BytesIO(dicom(stream, syntax)))
        expected = read_gray(dicom(stream, syntax))
        data.PixelData = encapsulate([stream], fragments_per_frame=2, has_bot=False)
        file = io.BytesIO()
        data.save_as(file)
        np.testing.assert_array_equal(read_gray(file.getvalue()), expected)


def test_a_jpeg_2000_file_in_the_place_of_its_stream_is_read() -> None:
    same(dicom(encoded(BYTES, "JPEG2000"), JPEG2000Lossless), BYTES)


def test_pixels_that_look_like_the_begin_of_a_stream_are_pixels() -> None:
    pixels = DEPTH_16.copy()
    pixels[0, :2] = 0xFFFE, 0xE000
    same(dicom(pixels, BitsStored=16), pixels)


@pytest.mark.parametrize(("dtype", "colour"), [(np.uint8, False), (np.uint16, False), (np.uint8, True)])
def test_the_number_of_segments_says_the_bits_of_a_run_length_image(dtype: Any, colour: bool) -> None:
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0} if colour else {}
    pixels = BYTES.astype(dtype)
    content = compressed(dicom(GRAY if colour else pixels, BitsStored=8 * pixels.itemsize, **tags), RLELossless)
    same(changed(content, BitsAllocated=None), BYTES)
    same(changed(content, BitsAllocated=32), BYTES)


@pytest.mark.parametrize("depth", [8, 16])
def test_the_stream_says_the_bits_of_a_jpeg_2000_image(depth: int) -> None:
    pixels = BYTES if depth == 8 else DEPTH_16
    stream = encoded(pixels, "JPEG2000", no_jp2=True)
    same(changed(dicom(stream, JPEG2000Lossless), BitsAllocated=None, BitsStored=None), pixels)
    for claimed in (8, 16, 32):
        same(
            changed(dicom(stream, JPEG2000Lossless), BitsAllocated=claimed, BitsStored=depth, HighBit=depth - 1), pixels
        )


def test_more_bits_than_16_in_a_stream_are_not_guessed() -> None:
    stream = bytearray(encoded(DEPTH_16, "JPEG2000", no_jp2=True))
    stream[42] = 17 - 1
    assert reason(changed(dicom(bytes(stream), JPEG2000Lossless), BitsAllocated=None)) == "DICOM without BitsAllocated"


# Bits


def test_one_bit_a_pixel() -> None:
    pixels = (CHEST > 2000).astype(np.uint8)
    packed = np.packbits(pixels, bitorder="little")
    tags = {"BitsAllocated": 1, "BitsStored": 1, "Rows": pixels.shape[0], "Columns": pixels.shape[1]}
    same(dicom(packed.reshape(1, -1), **tags), pixels)


def test_64_bits_a_pixel() -> None:
    same(dicom(CHEST.astype(np.uint64), BitsStored=64), CHEST)


def overlaid(pixels: np.ndarray, *places: int, group: int = 0x6000, **tags: Any) -> bytes:
    """A file whose header places an overlay at each bit."""
    data = dcmread(io.BytesIO(dicom(pixels, **tags)))
    for number, place in enumerate(places):
        data.add_new((group + 2 * number, 0x0102), "US", place)
    file = io.BytesIO()
    data.save_as(file)
    return file.getvalue()


SMALL = CHEST & 0x7FF  # without bit 11, rougher than with it


@pytest.mark.parametrize("group", [0x6000, 0x6002, 0x6008, 0x601E])
def test_an_overlay_of_any_group_is_removed(group: int) -> None:
    same(overlaid(CHEST, 11, group=group, BitsStored=11), SMALL)


@pytest.mark.parametrize("group", [0x5FFE, 0x6001, 0x6020, 0x6021])
def test_no_other_group_holds_an_overlay(group: int) -> None:
    same(overlaid(CHEST, 11, group=group, BitsStored=11), CHEST)


@pytest.mark.parametrize(
    ("shift", "high", "own"), [(0, 10, {0, *range(11)}), (4, 14, {0, *range(4, 15)}), (1, 11, {0, *range(1, 12)})]
)
def test_an_overlay_lies_beside_the_bits_of_the_values(shift: int, high: int, own: set[int]) -> None:
    """A position of 0 says that it is in an element of its own; one among the bits of the values cannot be meant."""
    for place in range(16):
        content = overlaid(CHEST << shift, place, BitsStored=11, HighBit=high)
        same(content, CHEST if place in own else SMALL)
    same(overlaid(CHEST << shift, 0, 15, BitsStored=11, HighBit=high), SMALL)


def test_one_bit_beside_an_overlay() -> None:
    drawing = (CHEST > 2000).astype(np.uint8)
    same(overlaid(drawing | BYTES & 32, 5, BitsStored=1), drawing)


@pytest.mark.parametrize("high", [None, 11])
def test_bits_that_were_removed_are_noted(high: int | None) -> None:
    content = changed(dicom(CHEST | MARKS, BitsStored=16), BitsStored=12, HighBit=high)
    same(content, CHEST)
    assert notes(content) in ((), ("bits beyond BitsStored removed",))
    assert notes(changed(dicom(CHEST << 4, BitsStored=16), BitsStored=12, HighBit=15)) == ()


def test_unsigned_values_without_their_sign_stay_unsigned() -> None:
    same(dicom(DEPTH_16, BitsStored=16, PixelRepresentation=None), DEPTH_16)


def test_lengths_that_do_not_say_the_bits() -> None:
    three = np.zeros((*CHEST.shape, 3), np.uint8)
    assert reason(dicom(three, BitsAllocated=None, BitsStored=8)) == "DICOM without BitsAllocated"
    two_more = np.concatenate([BYTES.ravel(), [0, 0]]).astype(np.uint8).reshape(1, -1)
    content = dicom(two_more, BitsAllocated=None, BitsStored=8, Rows=BYTES.shape[0], Columns=BYTES.shape[1])
    assert reason(content) == "DICOM without BitsAllocated"
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    same(dicom(GRAY, BitsAllocated=None, BitsStored=8, **colour), BYTES)


# Colour


@pytest.mark.parametrize("photometric", ["RGB", "YBR_RCT", "YBR_ICT", "YBR_FULL", "YBR_FULL_422"])
def test_every_kind_of_colour_may_be_gray(photometric: str) -> None:
    reversible = {"YBR_RCT": True, "YBR_ICT": False}
    if photometric in reversible:
        stream = encoded(GRAY, "JPEG2000", no_jp2=True, irreversible=not reversible[photometric])
    else:
        stream = encoded(
            GRAY, "JPEG", quality=100, keep_rgb=photometric == "RGB", subsampling=2 * photometric.endswith("2")
        )
    syntax = JPEG2000 if photometric in reversible else JPEGBaseline8Bit
    content = dicom(stream, syntax, SamplesPerPixel=3, PhotometricInterpretation=photometric, PlanarConfiguration=0)
    gray = read_gray(content)
    np.testing.assert_allclose(gray, BYTES - BYTES.min().astype(float), atol=0 if photometric == "YBR_RCT" else 3)


def test_sides_of_a_pixel_may_differ_by_1_percent() -> None:
    assert notes(dicom(CHEST, PixelSpacing=[100, 101])) == notes(dicom(CHEST, PixelSpacing=[100, 99])) == ()
    for other in (102, 98):
        assert notes(dicom(CHEST, PixelSpacing=[100, other])) == ("unequal pixel spacing",)
