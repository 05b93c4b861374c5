"""DICOM files whose tables and windows are wrong or unusual: what is shown."""

from typing import Any

import numpy as np
import pytest
from dicom_checks import LOW, notes, same
from golden_dicom import BYTES, CHEST, SIGNED, dicom, table
from pydicom import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
)

from imitate.data.pixels import read_gray

# Tables


@pytest.mark.parametrize("first", [0, 1, LOW + 1, 900, 3000])
def test_a_modality_table_that_starts_above_the_darkest_value(first: int) -> None:
    values = np.linspace(10, 4095, 2000).round()
    expected = values[np.clip(CHEST.astype(int) - first, 0, 1999)]
    same(dicom(CHEST, ModalityLUTSequence=table(values, first, 12)), expected)
    same(dicom(CHEST.astype(np.uint32), BitsStored=32, ModalityLUTSequence=table(values, first, 12)), expected)


@pytest.mark.parametrize("first", [-2000, -1500, -1, 5])
def test_a_modality_table_that_starts_below_zero(first: int) -> None:
    values = np.linspace(4000, 7, 3000).round()
    expected = values[np.clip(SIGNED.astype(int) - first, 0, 2999)]
    same(dicom(SIGNED, PixelRepresentation=1, ModalityLUTSequence=table(values, first, 12, signed=True)), expected)


@pytest.mark.parametrize("entries", [256, 255])
def test_a_table_of_bytes_packed_into_words(entries: int) -> None:
    values = np.arange(entries)[::-1].astype(np.uint8)
    item = Dataset()
    item.LUTDescriptor = [entries, 3, 8]
    item.add_new("LUTData", "US", np.frombuffer(bytes([*values, 0][: entries + entries % 2]), "<u2").tolist())
    expected = values[np.clip(BYTES.astype(int) - 3, 0, entries - 1)].astype(int)
    same(dicom(BYTES, ModalityLUTSequence=[item]), expected)
    same(dicom(BYTES, VOILUTSequence=[item]), expected)


def test_a_short_table_of_more_than_8_bits_is_not_unpacked() -> None:
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 12]
    item.add_new("LUTData", "US", list(range(2048)))
    same(dicom(CHEST, ModalityLUTSequence=[item]), np.minimum(CHEST, 2047))


def test_a_table_of_the_largest_length_has_0_entries_by_its_descriptor() -> None:
    values = (65535 - np.arange(2**16)).astype("<u2")
    item = Dataset()
    item.LUTDescriptor = [0, 0, 16]
    item.add_new("LUTData", "OW", values.tobytes())
    same(dicom(CHEST * np.uint16(17), BitsStored=16, VOILUTSequence=[item]), -CHEST.astype(int) * 17)


def test_a_big_endian_table() -> None:
    values = np.linspace(0, 4000, 4096).round().astype(">u2")
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 12]
    item.add_new("LUTData", "OW", values.tobytes())
    content = dicom(CHEST.astype(">u2"), ExplicitVRBigEndian, VOILUTSequence=[item])
    same(content, values[CHEST].astype(int))


def test_the_first_value_of_a_voi_table_may_lack_its_sign() -> None:
    values = np.linspace(0, 4000, 2500).round()
    content = dicom(CHEST, RescaleSlope=1, RescaleIntercept=-2000, VOILUTSequence=table(values, 2**16 - 1000, 12))
    same(content, values[np.clip(CHEST.astype(int) - 1000, 0, 2499)])


# Windows


BRIGHT = (CHEST.astype(np.uint32) * 6 + 12000).astype(np.uint16)


def edge(value: int, rows: int) -> np.ndarray:
    pixels = BRIGHT.copy()
    pixels[:rows] = value
    return pixels


@pytest.mark.parametrize("pixels", [edge(0, 1), edge(0, 10), edge(3000, 5), edge(60000, 3)])
@pytest.mark.parametrize("window", [(3174, 2426), (1, 1), (50000, 100), (20000, 2)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_that_leaves_next_to_nothing_is_ignored(pixels: np.ndarray, window: Any, photometric: str) -> None:
    tags = {"BitsStored": 16, "PhotometricInterpretation": photometric}
    content = dicom(pixels, WindowCenter=window[0], WindowWidth=window[1], **tags)
    np.testing.assert_array_equal(read_gray(content), read_gray(dicom(pixels, **tags)))
    assert "window ignored" in notes(content)
    assert "window ignored" in notes(dicom(pixels, **tags), window=window)


@pytest.mark.parametrize(("levels", "ignored"), [(15, True), (16, False)])
def test_a_window_must_leave_16_levels(levels: int, ignored: bool) -> None:
    steps = np.linspace(0, 4095, levels).round()
    values = steps[np.clip(np.arange(4096) * levels // 4096, 0, levels - 1)]
    ramp = np.linspace(0, 4095, CHEST.size).round().astype(np.uint16).reshape(CHEST.shape)
    content = dicom(ramp, VOILUTSequence=table(values, 0, 12))
    same(content, ramp if ignored else values[ramp])
    assert notes(content) == (("window ignored",) if ignored else ())


@pytest.mark.parametrize(("percent", "ignored"), [(97.5, False), (98.5, True)])
@pytest.mark.parametrize("bright", [0.1, 0.5, 0.9])
def test_a_window_must_leave_2_percent_of_the_pixels(percent: float, ignored: bool, bright: float) -> None:
    ramp = np.arange(200 * 100, dtype=np.uint16).reshape(100, 200)
    width = ramp.size * (1 - percent / 100)
    start = ramp.size * percent / 100 * (1 - bright)
    content = dicom(ramp, BitsStored=16, WindowCenter=start + width / 2, WindowWidth=width)
    assert ("window ignored" in notes(content)) == ignored


def test_a_large_image_is_judged_by_a_sample() -> None:
    rows = np.linspace(0, 4095, 700).round().astype(np.uint16)
    ramp = np.repeat(rows[:, None], 600, 1)
    for pixels in (ramp, ramp.T.copy()):
        assert notes(dicom(pixels, WindowCenter=2000, WindowWidth=1000)) == ()
        assert notes(dicom(pixels, WindowCenter=2000, WindowWidth=20)) == ("window ignored",)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_small_image_is_judged_by_every_row(axis: int) -> None:
    pixels = np.zeros((40, 40), np.uint16)
    np.moveaxis(pixels, axis, 0)[1::2] = np.linspace(0, 4000, 40).astype(np.uint16)
    assert notes(dicom(pixels, WindowCenter=2000, WindowWidth=3000)) == ()


@pytest.mark.parametrize("signed", [False, True])
def test_a_table_longer_than_a_signed_number_holds(signed: bool) -> None:
    values = np.arange(40000)[::-1]
    same(dicom(CHEST, VOILUTSequence=table(values, 0, 16, signed=signed)), -CHEST.astype(int))


def test_padding_does_not_count_as_saturated() -> None:
    ramp = np.arange(40 * 100, dtype=np.uint16).reshape(100, 40)
    ramp[:97] = 4095
    inside = ramp[97:].astype(float)
    gray = read_gray(dicom(ramp, PixelPaddingValue=4095, WindowCenter=3940, WindowWidth=120))
    assert notes(dicom(ramp, PixelPaddingValue=4095, WindowCenter=3940, WindowWidth=120)) == ()
    assert gray[:97].max() == 0
    np.testing.assert_allclose(gray[97:] / gray.max(), (inside - inside.min()) / np.ptp(inside), atol=0.02)


def test_an_image_of_few_values_keeps_its_window() -> None:
    pixels = np.repeat(np.array([[100, 200], [300, 400]], np.uint16), 32, 0).repeat(32, 1)
    gray = read_gray(dicom(pixels, WindowCenter=200, WindowWidth=100))
    np.testing.assert_allclose(np.unique(gray), [0, 50 / 99, 1], atol=1e-6)
    same(dicom(pixels, WindowCenter=1000, WindowWidth=10), pixels)
    assert notes(dicom(pixels, WindowCenter=200, WindowWidth=100)) == ()


def test_a_table_that_leaves_nothing_gives_way_to_the_window() -> None:
    flat, window = table(np.full(4096, 7), 0, 12), {"WindowCenter": 1900, "WindowWidth": 2400}
    for tables in (flat, [Dataset()]):
        content = dicom(CHEST, VOILUTSequence=tables, **window)
        np.testing.assert_array_equal(read_gray(content), read_gray(dicom(CHEST, **window)))
        assert notes(content) == () and notes(dicom(CHEST, VOILUTSequence=tables)) == ("window ignored",)


def test_an_unreadable_window_is_none() -> None:
    content = dicom(CHEST, WindowCenter=1234.5, WindowWidth=2400)
    broken = content.replace(b"1234.5", b"12x4,5")
    assert broken != content
    same(broken, CHEST)


def test_a_slope_of_zero_is_none() -> None:
    same(dicom(CHEST, RescaleSlope=0, RescaleIntercept=5), CHEST)


def test_a_window_from_outside_overrules_the_header() -> None:
    inside, outside = (1900, 2400), (1200, 1500)
    content = dicom(CHEST, WindowCenter=inside[0], WindowWidth=inside[1], VOILUTFunction="SIGMOID")
    expected = dicom(CHEST, WindowCenter=outside[0], WindowWidth=outside[1])
    np.testing.assert_array_equal(read_gray(content, window=outside), read_gray(expected))
