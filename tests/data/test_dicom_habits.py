"""DICOM headers that are wrong, incomplete or unusual: what is read all the same, what is named, what is noted."""

import io
from typing import Any

import numpy as np
import pytest
from golden_dicom import BYTES, CHEST, MARKS, SIGNED, compressed, dicom, jpeg, table, with_overlay
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from imitate.data.dicom import ImageError
from imitate.data.pixels import read_gray, read_noted

LOW = int(CHEST.min())


def reason(content: bytes, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        read_gray(content, **options)
    return caught.value.reason


def notes(content: bytes, **options: Any) -> tuple[str, ...]:
    return read_noted(content, **options)[1]


def same(content: bytes, expected: np.ndarray, **options: Any) -> None:
    """The same values from the darkest on."""
    np.testing.assert_array_equal(read_gray(content, **options), expected.astype(float) - expected.min())


def changed(content: bytes, **tags: Any) -> bytes:
    data = dcmread(io.BytesIO(content))
    for name, value in tags.items():
        setattr(data, name, value)
    file = io.BytesIO()
    data.save_as(file)
    return file.getvalue()


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


# Compression


def test_padding_after_the_end_of_a_stream() -> None:
    streams = {
        JPEGBaseline8Bit: jpeg(BYTES),
        JPEG2000: _j2k(),
        JPEGLSLossless: _jpegls(),
    }
    for syntax, stream in streams.items():
        clean = read_gray(dicom(stream, syntax))
        for tail in (bytes(2), bytes(64), bytes(5000), b"\xff" * 40, b"padding " * 9):
            np.testing.assert_array_equal(read_gray(dicom(stream + tail, syntax)), clean)
        for cut in (stream[:-2], stream[: len(stream) * 2 // 3] + bytes(64)):
            if syntax == JPEGBaseline8Bit:
                assert reason(dicom(cut, syntax)) == "damaged or truncated image"


def _j2k() -> bytes:
    file = io.BytesIO()
    Image.fromarray(BYTES).save(file, "JPEG2000", no_jp2=True)
    return file.getvalue()


def _jpegls() -> bytes:
    from golden_dicom import FOLDER
    from pydicom.encaps import get_frame

    return get_frame(dcmread(FOLDER / "jpegls_12.dcm").PixelData, 0, number_of_frames=1)


def test_the_stream_says_how_wide_its_samples_are() -> None:
    eight = read_gray(dicom(jpeg(BYTES), JPEGBaseline8Bit))
    for stored in (8, 12, 16):
        wide = dicom(jpeg(BYTES), JPEGBaseline8Bit, BitsAllocated=16, BitsStored=stored)
        np.testing.assert_array_equal(read_gray(wide), eight)
        assert notes(wide) == ()
    narrow = dicom(_jpegls(), JPEGLSLossless, BitsAllocated=8, BitsStored=8)
    same(narrow, CHEST)
    rle = changed(compressed(dicom(CHEST), RLELossless), BitsAllocated=8, BitsStored=8, HighBit=7)
    same(rle, CHEST)


def test_compressed_pixels_in_a_file_that_says_uncompressed() -> None:
    for syntax, stream in ((JPEGBaseline8Bit, jpeg(BYTES)), (JPEG2000, _j2k()), (JPEGLSLossless, _jpegls())):
        content = dicom(stream, syntax)
        swapped = _renamed(content, syntax, ExplicitVRLittleEndian)
        np.testing.assert_array_equal(read_gray(swapped), read_gray(content))
    junk = _renamed(dicom(b"\0" * 50, JPEGBaseline8Bit), JPEGBaseline8Bit, ExplicitVRLittleEndian)
    assert reason(junk) == "DICOM with a transfer syntax that is not its own"


def test_uncompressed_pixels_in_a_file_that_says_compressed() -> None:
    for syntax in (JPEGBaseline8Bit, JPEG2000Lossless, RLELossless):
        same(_renamed(dicom(CHEST), ExplicitVRLittleEndian, syntax), CHEST)
        short = _renamed(dicom(CHEST, Rows=96), ExplicitVRLittleEndian, syntax)
        assert reason(short) == "damaged or truncated image"


def _renamed(content: bytes, before: str, after: str) -> bytes:
    """With another transfer syntax in the meta group, whose length changes with it."""
    old, new = (text.encode() + b"\0" * (len(text) % 2) for text in (before, after))
    entry = b"\x02\x00\x10\x00UI"
    at = content.index(entry + len(old).to_bytes(2, "little") + old)
    size = int.from_bytes(content[140:144], "little") + len(new) - len(old)
    return (
        content[:140] + size.to_bytes(4, "little") + content[144:at] + entry
        + len(new).to_bytes(2, "little") + new + content[at + 8 + len(old) :]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.110", "JPEG XL"),
        ("1.2.840.10008.1.2.4.111", "JPEG XL"),
        ("1.2.840.10008.1.2.4.112", "JPEG XL"),
        ("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level"),
        ("1.2.840.10008.1.2.4.94", "JPIP Referenced"),
        ("1.2.840.113619.5.2", "an unknown transfer syntax"),
        ("Nobody^Here", "an unknown transfer syntax"),
    ],
)
def test_compressions_without_a_decoder_are_named(syntax: str, name: str) -> None:
    assert reason(_renamed(dicom(CHEST), ExplicitVRLittleEndian, syntax)) == f"no decoder for {name}"


# Attributes that are absent


@pytest.mark.parametrize("value", [None, ""])
def test_usual_values_replace_absent_attributes(value: Any) -> None:
    for name in ("SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation"):
        content = _without(dicom(CHEST, BitsStored=16, HighBit=15), name, empty=value == "")
        same(content, CHEST)
        assert notes(content) == (f"without {name}",)
    same(_without(dicom(CHEST), "HighBit", empty=value == ""), CHEST)
    for stream, syntax in ((jpeg(BYTES), JPEGBaseline8Bit), (_j2k(), JPEG2000)):
        content = dicom(stream, syntax)
        for name in ("BitsAllocated", "BitsStored"):
            np.testing.assert_array_equal(read_gray(_without(content, name)), read_gray(content))
    eight = _without(dicom(BYTES), "BitsAllocated", empty=value == "")
    same(eight, BYTES)


def _without(content: bytes, name: str, *, empty: bool = False) -> bytes:
    data = dcmread(io.BytesIO(content))
    if empty:
        data[name].value = None
    else:
        delattr(data, name)
    file = io.BytesIO()
    data.save_as(file)
    return file.getvalue()


def test_attributes_that_cannot_be_guessed_are_named() -> None:
    for name in ("Rows", "Columns", "PhotometricInterpretation"):
        assert reason(_without(dicom(CHEST), name)) == f"DICOM without {name}"
    both = _without(_without(dicom(CHEST), "Rows"), "Columns")
    assert reason(both) == "DICOM without an image"
    assert reason(_without(dicom(CHEST[:47, :39], Rows=30), "BitsAllocated")) == "DICOM without BitsAllocated"
    assert reason(dicom(CHEST, PhotometricInterpretation="MONOCHROME")) == "DICOM without PhotometricInterpretation"


def test_black_and_white_may_be_told_otherwise() -> None:
    for shape, expected in (("IDENTITY", CHEST), ("INVERSE", -CHEST.astype(int))):
        content = dicom(CHEST, PhotometricInterpretation=None, PresentationLUTShape=shape)
        same(content, expected)
        assert notes(content) == ("without PhotometricInterpretation",)
    same(dicom(CHEST, PhotometricInterpretation=None), CHEST, invert=False)
    same(dicom(CHEST, PhotometricInterpretation=None), -CHEST.astype(int), invert=True)


def test_signs_are_seen_in_the_pixels() -> None:
    for stored in (12, 13, 16):
        same(dicom(SIGNED, BitsStored=stored, PixelRepresentation=None), SIGNED)
        same(dicom(CHEST, BitsStored=stored, PixelRepresentation=None), CHEST)
    big = dicom(SIGNED.astype(">i2"), ExplicitVRBigEndian, BitsStored=16, PixelRepresentation=None)
    same(big, SIGNED)


def test_floating_point_pixels_are_named() -> None:
    data = dcmread(io.BytesIO(dicom(CHEST)))
    del data.PixelData
    data.FloatPixelData = CHEST.astype(np.float32).tobytes()
    file = io.BytesIO()
    data.save_as(file)
    assert reason(file.getvalue()) == "DICOM of floating-point pixels"
    del data.FloatPixelData
    file = io.BytesIO()
    data.save_as(file)
    assert reason(file.getvalue()) == "damaged or truncated image"


# Black and white


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2", "monochrome1 ", "Monochrome2"])
@pytest.mark.parametrize("shape", [None, "IDENTITY", "INVERSE", "LIN OD", "inverse"])
def test_either_attribute_inverts(photometric: str, shape: str | None) -> None:
    content = dicom(CHEST, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    first, inverse = "1" in photometric, str(shape).upper() == "INVERSE"
    same(content, -CHEST.astype(int) if first or inverse else CHEST)
    contradicts = shape is not None and shape != "LIN OD" and first != inverse
    assert notes(content) == (("PresentationLUTShape contradicts PhotometricInterpretation",) if contradicts else ())
    same(content, CHEST, invert=False)
    same(content, -CHEST.astype(int), invert=True)
    assert notes(content, invert=True) == ()


# Colour


def coloured(pixels: np.ndarray, photometric: str = "RGB", **tags: Any) -> bytes:
    tags = {"PlanarConfiguration": 0, "SamplesPerPixel": 3, "PhotometricInterpretation": photometric, **tags}
    return dicom(pixels, **tags)


GRAY = np.repeat(BYTES[..., None], 3, 2)


def test_three_equal_channels_are_gray() -> None:
    same(coloured(GRAY), BYTES)
    planes = np.ascontiguousarray(GRAY.transpose(2, 0, 1)).reshape(GRAY.shape)
    same(coloured(planes, PlanarConfiguration=1), BYTES)
    same(coloured(GRAY, SamplesPerPixel=None), BYTES)
    same(coloured(GRAY), -BYTES.astype(int), invert=True)
    ybr = np.stack([BYTES, np.full_like(BYTES, 128), np.full_like(BYTES, 128)], 2)
    same(coloured(ybr, "YBR_FULL"), BYTES)
    same(coloured(GRAY, "MONOCHROME2"), BYTES)
    assert notes(coloured(GRAY, PlanarConfiguration=None)) == ("without PlanarConfiguration",)
    same(coloured(GRAY, PlanarConfiguration=None), BYTES)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_colour_is_refused(channel: int) -> None:
    tinted = GRAY.copy()
    tinted[20, 7, channel] += 2
    read_gray(coloured(tinted))  # rounding
    for step in (3, -3):
        tinted[20, 7, channel] = int(GRAY[20, 7, channel]) + step
        assert reason(coloured(tinted)) == "DICOM in colour"
    assert reason(dicom(CHEST, PhotometricInterpretation="PALETTE COLOR")) == "DICOM in colour"
    assert reason(dicom(BYTES, PhotometricInterpretation="RGB")) == "DICOM in colour"


def test_three_samples_of_unknown_meaning_are_named() -> None:
    assert reason(coloured(GRAY, PhotometricInterpretation=None)) == "DICOM without PhotometricInterpretation"


# Notes


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"PresentationIntentType": "FOR PROCESSING"}, "for processing"),
        ({"PresentationIntentType": "FOR PRESENTATION"}, None),
        ({"PatientOrientation": ["L", "F"]}, None),
        ({"PatientOrientation": ["R", "F"]}, "mirrored (patient orientation)"),
        ({"PatientOrientation": ["RP", "FL"]}, "mirrored (patient orientation)"),
        ({"PatientOrientation": ["P", "F"]}, None),
        ({"PatientOrientation": ["A", "F"]}, None),
        ({"PatientOrientation": ["L", "H"]}, "upside down (patient orientation)"),
        ({"PatientOrientation": ["R", "H"]}, "rotated (patient orientation)"),
        ({"PatientOrientation": ["F", "L"]}, "rotated (patient orientation)"),
        ({"PatientOrientation": ["H", "R"]}, "rotated (patient orientation)"),
        ({"PatientOrientation": "R"}, "mirrored (patient orientation)"),
        ({"PatientOrientation": ""}, None),
        ({"PixelSpacing": [0.14, 0.14]}, None),
        ({"PixelSpacing": [0.14, 0.141]}, None),
        ({"PixelSpacing": [0.14, 0.2]}, "unequal pixel spacing"),
        ({"ImagerPixelSpacing": [0.2, 0.14]}, "unequal pixel spacing"),
        ({"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.2, 0.1]}, "unequal pixel spacing"),
        ({"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [0.2, 0.1]}, "unequal pixel spacing"),
        ({"PixelAspectRatio": [1, 2]}, "unequal pixel spacing"),
        ({"PixelAspectRatio": [3, 3]}, None),
    ],
)
def test_what_the_header_says_is_noted_and_changes_no_pixel(tags: dict[str, Any], expected: str | None) -> None:
    content = dicom(CHEST, **tags)
    assert notes(content) == (() if expected is None else (expected,))
    same(content, CHEST)


def test_malformed_remarks_do_not_cost_the_image() -> None:
    content = dicom(CHEST, PixelSpacing=["0.125", "0.125"]).replace(b"0.125", b"a,b.c")
    assert notes(content) == ()
    same(content, CHEST)


def test_implicit_vr_is_read_alike() -> None:
    tags: dict[str, Any] = {"WindowCenter": 1900, "WindowWidth": 2400, "PixelPaddingValue": 0}
    np.testing.assert_array_equal(
        read_gray(dicom(CHEST, ImplicitVRLittleEndian, **tags)), read_gray(dicom(CHEST, **tags))
    )
