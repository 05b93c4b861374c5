"""From cells to displayed values on arrays of a few numbers; expected values by hand from PS3.3 C.7.6.3 and C.11."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from imitate.data.display import (
    Bits,
    apply_modality,
    apply_window,
    find_padding,
    fits,
    read_bits,
    show,
    smoothest,
    voi_views,
)

SYNTAX = SimpleNamespace(TransferSyntaxUID=SimpleNamespace(is_little_endian=True))


class Header(dict[str, Any]):
    """As much of a data set as is read: elements by name, as attributes too."""

    file_meta = SYNTAX

    def __getattr__(self, name: str) -> Any:
        return self[name]


def table(first: int, values: Any, depth: int = 16) -> list[Any]:
    entries = np.asarray(values)
    return [SimpleNamespace(LUTDescriptor=[len(entries), first, depth], LUTData=entries.tolist())]


# Bits


@pytest.mark.parametrize(("dtype", "stored"), [(np.uint8, 5), (np.uint16, 12), (np.uint32, 20)])
def test_an_unsigned_value_fits_below_a_power_of_two(dtype: Any, stored: int) -> None:
    assert fits(np.array([[0, 2**stored - 1]], dtype), stored)
    assert not fits(np.array([[0, 2**stored]], dtype), stored)


@pytest.mark.parametrize(("dtype", "stored"), [(np.int8, 5), (np.int16, 12), (np.int32, 20)])
def test_a_signed_value_fits_between_two_powers_of_two(dtype: Any, stored: int) -> None:
    half = 2 ** (stored - 1)
    assert fits(np.array([[-half, half - 1]], dtype), stored)
    assert not fits(np.array([[0, half]], dtype), stored)
    assert not fits(np.array([[-half - 1, 0]], dtype), stored)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32])
def test_values_that_fill_their_cells_are_read_as_they_are(dtype: Any) -> None:
    limits, bits = np.iinfo(dtype), 8 * np.dtype(dtype).itemsize
    cells = np.array([[limits.min, limits.max], [0, 1]], dtype)
    np.testing.assert_array_equal(read_bits(cells, Bits(bits, bits - 1, overlay=True)), cells)


@pytest.mark.parametrize("low", [1, 2, 4, 8])
def test_values_with_low_bits_that_fit_are_not_shifted(low: int) -> None:
    cells = (np.arange(20, dtype=np.uint16).reshape(4, 5) << 4) + np.uint16(low)
    np.testing.assert_array_equal(read_bits(cells, Bits(12, 15, overlay=False)), cells)
    np.testing.assert_array_equal(read_bits(cells - np.uint16(low), Bits(12, 15, overlay=False)), cells >> 4)
    cells[0, 0] = 2**15 + low  # does not fit: the low bits are not the values'
    np.testing.assert_array_equal(read_bits(cells, Bits(12, 15, overlay=False)), cells >> 4)


def test_a_high_bit_beyond_the_cell_shifts_nothing() -> None:
    cells = np.arange(0, 640, 32, dtype=np.uint16).reshape(4, 5)
    np.testing.assert_array_equal(read_bits(cells, Bits(12, 16, overlay=False)), cells)


@pytest.mark.parametrize("overlay", [True, False])
def test_other_bits_are_removed_where_they_are_an_overlay_or_make_the_image_rough(overlay: bool) -> None:
    smooth = np.arange(20, dtype=np.uint16).reshape(4, 5) + np.uint16(2040)  # over bit 11: cutting it makes a jump
    assert (read_bits(smooth, Bits(11, 10, overlay=overlay)) == (smooth & 2047 if overlay else smooth)).all()
    rough = np.where(np.indices((4, 5)).sum(0) % 2, smooth | 2**14, smooth).astype(np.uint16)
    np.testing.assert_array_equal(read_bits(rough, Bits(12, 11, overlay=overlay)), smooth)
    signed = rough.astype(np.int16) - np.int16(4096)
    np.testing.assert_array_equal(read_bits(signed, Bits(13, 12, overlay=True)), smooth.astype(int) - 4096)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_smoothest_image_is_that_of_the_smallest_steps_along_both_axes(axis: int) -> None:
    rough, even = np.zeros((2, 4, 4), np.uint8)
    np.moveaxis(rough, axis, 0)[1::2] = 9
    np.moveaxis(even, 1 - axis, 0)[1::2] = 8
    assert smoothest(rough, even) is even and smoothest(even, rough) is even
    assert smoothest(even, even.copy()) is even and smoothest(rough, even * 0, even) is not even


# Padding


@pytest.mark.parametrize("ends", [(3, 6), (6, 3)])
def test_a_range_of_padding_includes_its_ends(ends: tuple[int, int]) -> None:
    values = np.arange(10, dtype=np.uint16).reshape(2, 5)
    padding = find_padding(values, values, {"PixelPaddingValue": ends[0], "PixelPaddingRangeLimit": ends[1]})
    assert padding is not None and values[padding].tolist() == [3, 4, 5, 6]
    other = np.full_like(values, 3)  # only single values are looked for in the cells
    assert (find_padding(values, other, {"PixelPaddingValue": 3, "PixelPaddingRangeLimit": 6}) == padding).all()


@pytest.mark.parametrize(
    ("dtype", "cell", "written"),
    [(np.uint16, 63536, -2000), (np.int16, -2000, 63536), (np.int16, -2000, -2000), (np.uint8, 255, -1), (np.int8, -1, 255)],
)  # fmt: skip
def test_a_padding_value_may_have_another_sign_than_the_cells(dtype: Any, cell: int, written: int) -> None:
    cells = np.array([[cell, 1], [2, cell]], dtype)
    for values in (cells, cells & np.array(15, dtype)):
        padding = find_padding(values, cells, {"PixelPaddingValue": written})
        assert padding is not None and padding.tolist() == [[True, False], [False, True]]


def test_no_padding_without_its_value() -> None:
    cells = np.zeros((2, 2), np.uint16)
    assert find_padding(cells, cells, {}) is find_padding(cells, cells, {"PixelPaddingValue": ""}) is None


# Modality


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, [0, 1, 1000]),
        ({"RescaleSlope": "", "RescaleIntercept": None}, [0, 1, 1000]),
        ({"RescaleSlope": 2}, [0, 2, 2000]),
        ({"RescaleIntercept": 1}, [1, 2, 1001]),
        ({"RescaleSlope": 1, "RescaleIntercept": -1024}, [-1024, -1023, -24]),
        ({"RescaleSlope": 0.5, "RescaleIntercept": 10}, [10, 10.5, 510]),
        ({"RescaleSlope": 0, "RescaleIntercept": 5}, [5, 6, 1005]),
    ],
)
def test_rescale_is_slope_times_value_plus_intercept(header: dict[str, Any], expected: list[float]) -> None:
    values = apply_modality(np.array([[0, 1, 1000]], np.uint16), header)
    assert values.dtype == np.float32 and values.tolist() == [expected]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32])
@pytest.mark.parametrize("first", [-3, 0, 2])
def test_a_table_gives_its_ends_to_what_lies_beyond(dtype: Any, first: int) -> None:
    limits, values = np.iinfo(dtype), [50, 40, 70, 60]
    cells = np.array([[limits.min, *range(max(first, limits.min), first + 4), limits.max]], dtype)
    expected = [values[min(max(int(cell) - first, 0), 3)] for cell in cells[0]]
    found = apply_modality(cells, Header(ModalityLUTSequence=table(first, values)))
    assert found.dtype == np.float32 and found.tolist() == [expected]


@pytest.mark.parametrize(("depth", "length"), [(8, 4), (9, 2), (7, 4)])
def test_words_hold_two_entries_of_8_bits(depth: int, length: int) -> None:
    item = SimpleNamespace(LUTDescriptor=[4, 0, depth], LUTData=[0x0201, 0x0403])
    found = apply_modality(np.array([[0, 1, 2, 3]], np.uint8), Header(ModalityLUTSequence=[item]))
    assert found.tolist() == [[1, 2, 3, 4] if length == 4 else [0x0201, 0x0403, 0x0403, 0x0403]]
    item.LUTData = [5, 6, 7, 8]
    found = apply_modality(np.array([[0, 1, 2, 3]], np.uint8), Header(ModalityLUTSequence=[item]))
    assert found.tolist() == [[5, 6, 7, 8]]


@pytest.mark.parametrize(
    ("first", "pixels", "expected"),
    [
        (2**16 - 2, [-3, -2, -1, 0], [10, 10, 20, 30]),  # -2 without its sign
        (2**15, [-(2**15), 1 - 2**15, -5, 9], [10, 20, 30, 30]),
        (2**15 - 1, [-1, 2**15 - 1, 2**15, 2**15 + 1], [10, 10, 20, 30]),
        (2**15, [0, 2**15, 2**15 + 1, 2**15 + 2], [10, 10, 20, 30]),
        (900, [-5, 900, 901, 902], [10, 10, 20, 30]),
        (-2, [-3, -2, -1, 0], [10, 10, 20, 30]),
        (40, [0.5, 40.5, 41.9, 99.5], [10, 10, 20, 30]),
    ],
)
def test_the_first_value_of_a_voi_table(first: int, pixels: list[float], expected: list[int]) -> None:
    (view,) = voi_views(np.array([pixels], np.float32), Header(VOILUTSequence=table(first, [10, 20, 30])), None)
    assert view().tolist() == [expected]


# Windows


def test_windows_of_the_standard() -> None:
    """C.11.2.1.2.1 (linear: 2048, 4096 maps 0 to black and 4095 to white), C.11.2.1.3.1 and C.11.2.1.3.2."""
    linear = apply_window(np.array([[-1.0, 0, 2047.5, 4095, 4096]]), 2048, 4096)
    assert linear.tolist() == [[0, 0, 0.5, 1, 1]]
    exact = apply_window(np.array([[-1.0, 0, 1024, 2048, 4096, 5000]]), 2048, 4096, "LINEAR_EXACT")
    assert exact.tolist() == [[0, 0, 0.25, 0.5, 1, 1]]
    sigmoid = apply_window(np.array([[-1e9, 75.0, 100, 125, 1e9]]), 100, 100, "SIGMOID")
    np.testing.assert_allclose(sigmoid, [[0, 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1]], rtol=1e-12, atol=1e-30)


@pytest.mark.parametrize(
    ("width", "expected"), [(1, [0, 0, 1, 1]), (0.5, [0, 0, 1, 1]), (1.5, [0, 0, 1, 1]), (2, [0, 0, 1, 1]), (3, [0, 0.25, 0.75, 1])]
)  # fmt: skip
def test_a_window_of_width_1_is_a_step(width: float, expected: list[float]) -> None:
    """Half a value below the center, where the standard puts it."""
    assert apply_window(np.array([[3.0, 4, 5, 6]]), 5, width).tolist() == [expected]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"WindowCenter": 5, "WindowWidth": 2}, [0, 0, 1, 1]),
        ({"WindowCenter": 5, "WindowWidth": 2, "VOILUTFunction": ""}, [0, 0, 1, 1]),
        ({"WindowCenter": 5, "WindowWidth": 2, "VOILUTFunction": "LINEAR_EXACT"}, [0, 0, 0.5, 1]),
        ({"WindowCenter": [5, 1], "WindowWidth": [2, 99]}, [0, 0, 1, 1]),
        ({"WindowCenter": 5, "WindowWidth": 0.5}, [0, 0, 1, 1]),
        ({"WindowCenter": 5, "WindowWidth": 0}, None),
        ({"WindowCenter": 5, "WindowWidth": -1}, None),
        ({"WindowCenter": 5}, None),
        ({"WindowWidth": 5}, None),
        ({"WindowCenter": "a", "WindowWidth": 5}, None),
        ({"WindowCenter": [], "WindowWidth": []}, None),
    ],
)
def test_the_window_of_a_header(header: dict[str, Any], expected: list[float] | None) -> None:
    pixels = np.array([[3.0, 4, 5, 6]])
    assert [view().tolist() for view in voi_views(pixels, header, None)] == ([[expected]] if expected else [])
    assert [view().tolist() for view in voi_views(pixels, header, (4, 2))] == [[[0, 1, 1, 1]]]


def test_a_table_is_shown_before_a_window() -> None:
    header = Header(VOILUTSequence=table(0, [7, 8, 9]) + table(0, [1, 1, 1]), WindowCenter=1, WindowWidth=2)
    found = [view().tolist() for view in voi_views(np.array([[0.0, 1, 2]]), header, None)]
    assert found == [[[7, 8, 9]], [[0, 1, 1]]]


# What is shown


RAMP = np.arange(400, dtype=np.float32).reshape(20, 20)


def shown(
    *views: np.ndarray, pixels: np.ndarray = RAMP, padding: np.ndarray | None = None, inverted: bool = False
) -> Any:
    return show(pixels, [lambda view=view: view for view in views], padding, inverted=inverted)  # type: ignore[misc]


def levels(*counts: int) -> np.ndarray:
    """An image of 20 x 20 that holds each level as often as asked, the lowest 0 and the highest 1."""
    assert sum(counts) == 400
    return np.repeat(np.linspace(0, 1, len(counts)), counts).reshape(20, 20)


@pytest.mark.parametrize(
    ("view", "notes"),
    [
        (levels(*[25] * 16), ()),
        (levels(*[25] * 14, 50), ("window ignored",)),  # 15 levels
        (levels(196, *[1] * 8, 196), ("window ignored",)),
        (levels(196, *[0] * 200, *[1] * 14, *[0] * 40, 190), ()),
        (levels(192, *[1] * 16, 192), ()),
        (levels(392, *[1] * 8), ("window ignored",)),
        (levels(376, *[1] * 23, 1), ()),
    ],
)
def test_a_view_needs_16_levels(view: np.ndarray, notes: tuple[str, ...]) -> None:
    gray, found = shown(view)
    assert found == notes
    np.testing.assert_array_equal(gray, RAMP if notes else view)


@pytest.mark.parametrize("dark", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("ends", "notes"), [(980, ()), (981, ("window ignored",)), (979, ())])
def test_a_view_may_have_98_percent_of_its_pixels_at_its_ends(dark: float, ends: int, notes: tuple[str, ...]) -> None:
    low = round(ends * dark)
    view = np.concatenate([np.zeros(low), np.linspace(0.1, 0.9, 1000 - ends), np.ones(ends - low)]).reshape(40, 25)
    pixels = np.arange(1000, dtype=np.float32).reshape(40, 25)
    assert shown(view, pixels=pixels)[1] == notes
    padded = np.concatenate([view, np.zeros((10, 25))]), np.concatenate([pixels, np.zeros((10, 25))])
    assert shown(padded[0], pixels=padded[1], padding=np.arange(50)[:, None] >= np.full(25, 40))[1] == notes


def test_the_darkest_is_0_the_brightest_or_inverted_and_padding_is_0() -> None:
    pixels, padding = RAMP + 5, RAMP >= 395
    for options in ({}, {"padding": padding}):
        inside = ~options.get("padding", padding & False)
        gray, inverse = (shown(pixels=pixels, inverted=inverted, **options)[0] for inverted in (False, True))
        np.testing.assert_array_equal(gray, np.where(inside, RAMP, 0))
        np.testing.assert_array_equal(inverse, np.where(inside, RAMP[inside].max() - RAMP, 0))
    assert shown(pixels=pixels)[1] == ()


def test_an_image_of_padding_alone_is_black() -> None:
    gray, notes = shown(RAMP / 2, padding=np.ones(RAMP.shape, bool))
    assert not gray.any() and notes == () and gray.shape == RAMP.shape


def test_an_image_of_few_values_is_shown_in_the_first_view_with_contrast() -> None:
    pixels = (RAMP >= 200).astype(np.float32) * 100
    flat, first, second = np.zeros_like(pixels), pixels / 10, pixels / 20
    assert shown(flat, first, second, pixels=pixels)[0].max() == 10
    assert shown(flat, first, pixels=pixels)[1] == ()
    gray, notes = shown(flat, pixels=pixels)
    assert gray.max() == 100 and notes == ("window ignored",)
    assert shown(flat, RAMP, first, pixels=pixels)[0].max() == 399  # a rich view goes before one of few values
    assert not shown(pixels=np.full_like(pixels, 7))[0].any()


def test_a_view_that_fails_is_passed_over() -> None:
    def broken() -> np.ndarray:
        raise IndexError

    gray, notes = show(RAMP, [broken, lambda: RAMP * 2], inverted=False)
    assert gray.max() == 798 and notes == ()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    pixels = RAMP.copy()
    pixels[3, 3] = value
    with pytest.raises(ValueError, match="not finite"):
        shown(pixels=pixels)
    assert shown(pixels=pixels, padding=~np.isfinite(pixels))[0].max() == 399
