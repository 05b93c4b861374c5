"""DICOM files that lack attributes, contradict themselves or are in colour; what is noted of them."""

import io
from typing import Any

import numpy as np
import pytest
from dicom_checks import j2k, notes, reason, same
from golden_dicom import BYTES, CHEST, SIGNED, dicom, jpeg
from pydicom import dcmread
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from imitate.data.pixels import read_gray

# Attributes that are absent


@pytest.mark.parametrize("value", [None, ""])
def test_usual_values_replace_absent_attributes(value: Any) -> None:
    for name in ("SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation"):
        content = _without(dicom(CHEST, BitsStored=16, HighBit=15), name, empty=value == "")
        same(content, CHEST)
        assert notes(content) == (f"without {name}",)
    same(_without(dicom(CHEST), "HighBit", empty=value == ""), CHEST)
    for stream, syntax in ((jpeg(BYTES), JPEGBaseline8Bit), (j2k(), JPEG2000)):
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


def test_black_and_white_may_be_given_otherwise() -> None:
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
