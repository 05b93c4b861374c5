"""DICOM: transfer syntaxes, depths, the way to displayed values, and what is refused."""

import io
import resource
import struct
from typing import Any

import numpy as np
import pytest
from archives import bundled, encoded, read, reason
from corruption import deflated_bomb
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_voi_lut
from pydicom.uid import JPEG2000, ExplicitVRLittleEndian, JPEGBaseline8Bit

from imitate.data.dicom import ImageError
from imitate.data.pixels import read_gray

RAMP = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)  # 12 bit


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
def test_a_window_that_shows_nothing_is_excluded(window: dict[str, Any]) -> None:
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


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000])
def test_a_stream_that_ends_early_inside_a_whole_dicom(syntax: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 48)).astype(np.uint8)
    stream = encoded(noise, "JPEG") if syntax == JPEGBaseline8Bit else encoded(noise, "JPEG2000", no_jp2=True)
    assert read(dicom(stream, syntax, Rows=64, Columns=48)).shape == (64, 48)
    assert reason(dicom(stream[: len(stream) // 2], syntax, Rows=64, Columns=48)) == "damaged or truncated image"


def test_headers_reach_no_log(caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> None:
    for name in ("badVR.dcm", "MR_truncated.dcm", "JPGExtended.dcm"):
        try:
            read_gray(bundled(name))
        except ImageError as error:
            assert name not in str(error) and "1A" not in str(error)
    assert not caplog.records and not recwarn.list


def test_bombs_are_refused_from_their_headers() -> None:
    assert reason(dicom(RAMP, Rows=65535, Columns=65535)) == "too many pixels"
    stream = bytearray(encoded(RAMP.astype(np.uint8), "JPEG2000", no_jp2=True))
    stream[8:16] = struct.pack(">2I", 60000, 60000)
    assert reason(dicom(bytes(stream), JPEG2000, Rows=64, Columns=48)) == "DICOM header and pixels of different size"


def test_a_deflated_bomb_is_not_inflated() -> None:
    content = deflated_bomb(dicom(RAMP))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(content) < 2**21 and reason(content) == "too many pixels"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700_000  # KiB; whole, over a gigabyte


def test_a_constant_dicom_is_black() -> None:
    assert reason(dicom(np.full((99, 99), 7, np.uint16))) == "black image"
