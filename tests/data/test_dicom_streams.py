"""Compressed DICOM files: damaged, mislabelled, or of a kind without a decoder."""

import numpy as np
import pytest
from dicom_checks import changed, j2k, notes, reason, same
from golden_dicom import BYTES, CHEST, compressed, dicom, jpeg
from pydicom import dcmread
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from imitate.data.pixels import read_gray

# Compression


def test_padding_after_the_end_of_a_stream() -> None:
    streams = {
        JPEGBaseline8Bit: jpeg(BYTES),
        JPEG2000: j2k(),
        JPEGLSLossless: _jpegls(),
    }
    for syntax, stream in streams.items():
        clean = read_gray(dicom(stream, syntax))
        for tail in (bytes(2), bytes(64), bytes(5000), b"\xff" * 40, b"padding " * 9):
            np.testing.assert_array_equal(read_gray(dicom(stream + tail, syntax)), clean)
        for cut in (stream[:-2], stream[: len(stream) * 2 // 3] + bytes(64)):
            if syntax == JPEGBaseline8Bit:
                assert reason(dicom(cut, syntax)) == "damaged or truncated image"


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
    for syntax, stream in ((JPEGBaseline8Bit, jpeg(BYTES)), (JPEG2000, j2k()), (JPEGLSLossless, _jpegls())):
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
