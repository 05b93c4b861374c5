"""What tests say of a DICOM file: its values, its notes, why it is excluded."""

import io
from typing import Any

import numpy as np
import pytest
from golden_dicom import BYTES, CHEST
from PIL import Image
from pydicom import dcmread

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


def j2k() -> bytes:
    file = io.BytesIO()
    Image.fromarray(BYTES).save(file, "JPEG2000", no_jp2=True)
    return file.getvalue()
