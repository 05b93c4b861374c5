"""Small DICOM files with the habits of vendors against dcmtk and gdcm, and golden hashes of prepared pixels."""

import hashlib

import golden_dicom
import numpy as np
import PIL
import pytest

from imitate.data.pixels import read_gray, read_noted, to_prepared

EXPECTED = np.load(golden_dicom.FOLDER / "expected.npz")
NOTES = {
    "window_misses": {"window ignored"},
    "window_misses_border": {"window ignored"},
    "bits_stored_10": {"more bits in use than BitsStored"},
    "missing_attributes": {"without SamplesPerPixel", "without BitsStored", "without PixelRepresentation"},
    "overlay_bit_14_j2k": {"bits beyond BitsStored removed"},
    "missing_sign": {"without PixelRepresentation"},
    "inverse_shape": {"PresentationLUTShape contradicts PhotometricInterpretation"},
}
# SHA-256 of what ``prepared_digest`` prepares, by Pillow's major version; recorded with 10.0.1, 10.4.0, 11.0.0, 11.3.0,
# 12.0.0, 12.2.0, 12.3.0 and 13.0.0.
PREPARED = dict.fromkeys(("10", "11", "12", "13"), "6bc3edef43b35eca9404be81cb0c2ed15b1237b11d44e878a35480bc4de0267d")


@pytest.mark.parametrize("name", golden_dicom.CASES)
def test_display_values_agree_with_dcmtk(name: str) -> None:
    gray, notes = read_noted(golden_dicom.FOLDER / f"{name}.dcm")
    inside = golden_dicom.INSIDE.get(name, np.ones(gray.shape, bool))
    scaled, expected = ((image - image[inside].min()) / np.ptp(image[inside].astype(float))
                        for image in (gray.astype(float), EXPECTED[name].astype(float)))  # fmt: skip
    tolerance = golden_dicom.LOSSY.get(name, golden_dicom.ROUNDING)
    np.testing.assert_allclose(scaled[inside], expected[inside], rtol=0, atol=tolerance)
    assert gray.min() == 0 and (gray[~inside] == 0).all()
    assert set(notes) == NOTES.get(name, set())


@pytest.mark.skipif(not golden_dicom.have_tools(), reason="dcmtk or libgdcm-tools is not installed")
@pytest.mark.parametrize("name", golden_dicom.CASES)
def test_expected_values_come_from_dcmtk(name: str) -> None:
    np.testing.assert_array_equal(golden_dicom.render(name), EXPECTED[name])


@pytest.mark.parametrize("name", [name for name, case in golden_dicom.CASES.items() if not case.compression])
def test_files_are_those_of_the_builder(name: str) -> None:
    """Decoded pixels are compared: encoders of other versions may write other bytes."""
    built = golden_dicom.CASES[name].build()
    np.testing.assert_array_equal(read_gray(built), read_gray(golden_dicom.FOLDER / f"{name}.dcm"))


def prepared_digest() -> str:
    """Of a JPEG, and of every type of gray values, prepared at two sizes."""
    jpeg = (golden_dicom.FOLDER / "jpeg_padding.dcm").read_bytes()
    images = [read_gray(jpeg[jpeg.index(b"\xff\xd8\xff") :])]
    noise = (np.arange(301 * 233, dtype=np.uint64) * 2654435761 % 2**32 >> 16).reshape(301, 233)
    images += [(noise >> 8).astype(np.uint8), noise.astype(np.uint16), noise.astype(np.float32) / 7]
    prepared = [to_prepared(image, size)[0] for image in images for size in (32, 97)]
    return hashlib.sha256(b"".join(image.tobytes() for image in prepared)).hexdigest()


def test_prepared_pixels_do_not_move_with_pillow() -> None:
    version, digest = PIL.__version__.split(".")[0], prepared_digest()
    if version not in PREPARED and digest not in PREPARED.values():
        pytest.skip(f"Pillow {PIL.__version__} prepares other pixels than all recorded versions: record {digest}")
    assert digest == PREPARED.get(version, digest)
