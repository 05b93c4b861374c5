"""DICOM headers that are wrong about the bits of a value."""

import io

import numpy as np
import pytest
from dicom_checks import LOW, notes, reason, same
from golden_dicom import CHEST, MARKS, SIGNED, compressed, dicom, with_overlay
from PIL import Image
from pydicom import dcmread
from pydicom.uid import (
    JPEG2000Lossless,
    RLELossless,
)

from imitate.data.pixels import read_gray

# Bits


@pytest.mark.parametrize("bit", [12, 13, 14, 15])
@pytest.mark.parametrize("signed", [0, 1])
def test_bits_that_are_not_stored_are_masked_in_every_syntax(bit: int, signed: int) -> None:
    pixels = SIGNED.view(np.uint16) & 0x0FFF if signed else CHEST
    marked = (pixels | (MARKS > 0).astype(np.uint16) << bit).astype(np.uint16)
    clean = read_gray(dicom(SIGNED if signed else CHEST, PixelRepresentation=signed))
    native = dicom(marked, PixelRepresentation=signed)
    np.testing.assert_array_equal(read_gray(native), clean)
    for syntax in (JPEG2000Lossless, RLELossless):
        content = compressed(dicom(marked, BitsStored=16), syntax, BitsStored=12, HighBit=11)
        if not signed:
            np.testing.assert_array_equal(read_gray(content), clean)
            assert notes(content) == ("bits beyond BitsStored removed",)


def test_a_declared_overlay_is_masked_whatever_the_pixels_look_like() -> None:
    bones = (CHEST >> 11).astype(np.uint16) << 14  # as smooth as the image
    same(with_overlay(CHEST & 0x7FF | bones), CHEST & 0x7FF)
    assert notes(with_overlay(CHEST & 0x7FF | bones)) == ()


LARGE = np.asarray(Image.fromarray(CHEST.astype(np.float32)).resize((400, 480))).astype(np.uint16)


@pytest.mark.parametrize("stored", [8, 9, 10, 11])
def test_bits_in_use_beyond_those_stored_are_kept(stored: int) -> None:
    content = dicom(LARGE, BitsStored=stored)
    same(content, LARGE)
    assert notes(content) == ("more bits in use than BitsStored",)
    signed = LARGE.astype(np.int16) - 2000
    same(dicom(signed, BitsStored=stored, PixelRepresentation=1), signed)
    same(dicom(LARGE.T.copy(), BitsStored=stored), LARGE.T)


@pytest.mark.parametrize("axis", [0, 1])
def test_bits_in_use_are_seen_along_either_axis(axis: int) -> None:
    ramp = np.expand_dims(np.arange(0, 4000, 10, dtype=np.uint16), axis).repeat(50, axis)
    same(dicom(ramp, BitsStored=10), ramp)


def test_stored_bits_that_suffice_are_not_noted() -> None:
    assert (
        notes(dicom(CHEST)) == notes(dicom(CHEST, BitsStored=16)) == notes(dicom(SIGNED, PixelRepresentation=1)) == ()
    )


@pytest.mark.parametrize(("stored", "high"), [(12, 15), (12, 14), (12, 13), (12, 12), (14, 15)])
def test_left_aligned_values_are_shifted(stored: int, high: int) -> None:
    shift = high + 1 - stored
    window = {"WindowCenter": 1900, "WindowWidth": 2400}
    expected = read_gray(dicom(CHEST, **window))
    np.testing.assert_array_equal(read_gray(dicom(CHEST << shift, BitsStored=stored, HighBit=high, **window)), expected)
    signed = SIGNED << np.int16(shift)
    same(dicom(signed, BitsStored=stored, HighBit=high, PixelRepresentation=1), SIGNED)
    if stored == 12:
        below = (CHEST << shift) | np.indices(CHEST.shape)[0] % 2  # an overlay in the low bits
        same(dicom(below.astype(np.uint16), BitsStored=stored, HighBit=high), CHEST)


@pytest.mark.parametrize("high", [0, 5, 10, 16, 99, 15, 14])
def test_a_high_bit_that_the_values_contradict_is_not_believed(high: int) -> None:
    same(dicom(CHEST, HighBit=high), CHEST)


def test_dark_left_aligned_values_are_shifted_for_their_window() -> None:
    dark = (CHEST >> 4) << 4  # below 4096 although left-aligned
    window = {"WindowCenter": 100, "WindowWidth": 180}
    expected = read_gray(dicom(CHEST >> 4, **window))
    np.testing.assert_array_equal(read_gray(dicom(dark, HighBit=15, **window)), expected)


@pytest.mark.parametrize("stored", [0, 17, 200])
def test_an_impossible_number_of_stored_bits_is_not_believed(stored: int) -> None:
    same(dicom(CHEST, BitsStored=stored, HighBit=15), CHEST)


def test_an_unusual_number_of_allocated_bits_is_named() -> None:
    assert reason(dicom(CHEST, BitsAllocated=12)) == "DICOM with an unusual BitsAllocated"


@pytest.mark.parametrize("padding", [65535, 4095 + 2**15])
def test_padding_beyond_the_stored_bits_is_padding(padding: int) -> None:
    pixels = CHEST.copy()
    pixels[:, :6] = padding
    gray = read_gray(dicom(pixels, PixelPaddingValue=padding))
    assert (gray[:, :6] == 0).all()
    np.testing.assert_array_equal(gray[:, 6:], CHEST[:, 6:] - CHEST[:, 6:].min())


def test_padding_without_its_sign_is_padding() -> None:
    pixels = SIGNED.copy()
    pixels[:, :6] = -2048
    content = dicom(pixels, PixelRepresentation=1)
    data = dcmread(io.BytesIO(content))
    data.add_new("PixelPaddingValue", "US", 2**16 - 2048)
    file = io.BytesIO()
    data.save_as(file)
    gray = read_gray(file.getvalue())
    np.testing.assert_array_equal(gray[:, 6:], SIGNED[:, 6:] - SIGNED[:, 6:].min())


def test_a_range_of_padding() -> None:
    pixels = np.where(CHEST > 3000, 3000, CHEST).astype(np.uint16)
    for first, limit in ((3001, 4095), (4095, 3001)):
        gray = read_gray(dicom(CHEST, PixelPaddingValue=first, PixelPaddingRangeLimit=limit))
        assert (gray[CHEST > 3000] == 0).all()
        np.testing.assert_array_equal(gray[CHEST <= 3000], (pixels - LOW)[CHEST <= 3000])


def test_the_length_of_the_pixels_says_the_bits_that_are_allocated() -> None:
    wide = CHEST.astype(np.uint32) * 2**16
    same(dicom(wide, BitsAllocated=None, BitsStored=32), wide)
    odd = (CHEST[:47, :39] // 16).astype(np.uint8)  # an odd number of bytes, which a file rounds up
    same(dicom(odd, BitsAllocated=None, BitsStored=8), odd)
    longer = dicom(np.concatenate([CHEST, CHEST[:1]]), BitsAllocated=None, Rows=len(CHEST))
    assert reason(longer) == "DICOM without BitsAllocated"


@pytest.mark.parametrize("bits", [2, 65])
def test_numbers_of_allocated_bits_beside_the_usual_are_named(bits: int) -> None:
    assert reason(dicom(CHEST, BitsAllocated=bits)) == "DICOM with an unusual BitsAllocated"


def test_an_overlay_among_the_bits_of_left_aligned_values_is_none() -> None:
    content = dicom(CHEST * 16, BitsStored=12, HighBit=15)
    declared = dcmread(io.BytesIO(content))
    declared.add_new((0x6000, 0x0102), "US", 4)
    file = io.BytesIO()
    declared.save_as(file)
    assert notes(file.getvalue()) == notes(content)
    same(file.getvalue(), read_gray(content))
