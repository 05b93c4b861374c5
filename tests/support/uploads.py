"""Files as people hand them over: those that can be used, and those that can't."""

import io
from pathlib import Path

import numpy as np
import pydicom
from archives import encoded
from PIL import Image

from imitate.synthetic.cases import draw_case
from imitate.synthetic.files import save_dicom
from imitate.synthetic.phantom import render

UIDS = ("1.2.3", "1.2.3.4", "1.2.3.4.5")


def picture(height: int = 90, width: int = 80) -> np.ndarray:
    return render(draw_case(3, 0), height, width).image


def dicom(folder: Path, **changes: object) -> bytes:
    """A DICOM file; ``changes`` by keyword, after which it may no longer be one that can be used."""
    save_dicom(folder / "image.dcm", picture(), draw_case(3, 0), uids=UIDS)
    data = pydicom.dcmread(folder / "image.dcm")
    for keyword, value in changes.items():
        setattr(data, keyword, value)
    content = io.BytesIO()
    data.save_as(content)
    return content.getvalue()


def several_frames(folder: Path) -> bytes:
    return dicom(folder, NumberOfFrames=3, PixelData=picture().tobytes() * 3)


def photograph() -> bytes:
    across = np.linspace(0, 255, 96, dtype=np.uint8)
    return encoded(
        np.stack([np.tile(across, (96, 1)), np.tile(across[:, None], (1, 96)), np.full((96, 96), 40, np.uint8)], 2),
        "JPEG",
    )


def enormous() -> bytes:
    """400 megapixels in a file of 50 kB."""
    content = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(content, "PNG")
    return content.getvalue()
