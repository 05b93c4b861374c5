"""Image files that several tests build, and what reading them gives."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian

from imitate.data.dicom import ImageError
from imitate.data.pixels import read_gray, to_prepared


def bundled(name: str) -> Path:
    """A file that comes with pydicom."""
    return Path(str(get_testdata_file(name, download=False)))


def encoded(pixels: np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def write_dicom(path: Path, pixels: np.ndarray, *, stored: int = 8, **values: object) -> Path:
    """``stored`` bits a pixel; further header values by keyword."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    allocated = 8 if stored == 8 else 16
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = allocated, stored, stored - 1, 0
    data.PixelData = pixels.astype(f"<u{allocated // 8}").tobytes() + b"\0" * (pixels.size % 2 if stored == 8 else 0)
    for keyword, value in values.items():
        setattr(data, keyword, value)
    data.save_as(path, enforce_file_format=True)
    return path


def read(content: bytes) -> np.ndarray:
    return read_gray(io.BytesIO(content))


def reason(content: bytes) -> str:
    """Why this file cannot be prepared."""
    with pytest.raises(ImageError) as caught:
        to_prepared(read(content), 32)
    return caught.value.reason
