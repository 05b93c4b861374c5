"""DICOM files to gray values: the only module that imports pydicom.

A file that cannot be used raises ImageError; its reason names no file and quotes no header.
"""

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from typing import Any, BinaryIO, cast

import numpy as np
import pydicom
from jaxtyping import Bool, Shaped
from pydicom.encaps import get_frame
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from imitate.errors import UserError

MAX_PIXELS = 2**26  # 67 million, three times the largest detector of chest radiography
MAX_INFLATED = 4 * MAX_PIXELS  # bytes
_BARE_DICOM = (b"\x02\x00", b"\x08\x00")  # little-endian group 2 or 8: a data set without its preamble
_OPTIONAL = (
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit"),
)
_JPEG = b"\xff\xd8\xff"
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}

Gray = Shaped[np.ndarray, "height width"]


class ImageError(UserError):
    """An image that cannot be used; ``reason`` is a few words that can be counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins with these 132 bytes is one, with its preamble or without."""
    return head[128:] == b"DICM" or head[:2] in _BARE_DICOM


def check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError("too many pixels")


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's complaints: they quote header values, which may name a patient."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def read_dicom(file: BufferedIOBase) -> Gray:
    _check_deflated(file)
    header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    if "Rows" not in header or "Columns" not in header:
        raise ImageError("DICOM without an image")
    check_size(header.Columns, header.Rows)
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise ImageError("DICOM of several frames")
    if not str(header.PhotometricInterpretation).startswith("MONOCHROME"):
        raise ImageError("DICOM in colour")
    file.seek(0)
    data = pydicom.dcmread(file, force=True)
    if "PixelData" not in data:  # compressed pixels cut short
        raise ImageError("damaged or truncated image")
    if "TransferSyntaxUID" not in data.file_meta:
        data.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if data.original_encoding[0] else ExplicitVRLittleEndian
        )
    if data.file_meta.TransferSyntaxUID.is_encapsulated:
        _check_stream(get_frame(data.PixelData, 0, number_of_frames=1), data.Columns, data.Rows)
    stored = data.pixel_array
    if stored.ndim != 2:
        raise ImageError("DICOM of several frames")
    return _shown(stored, data)


def _check_deflated(file: BufferedIOBase) -> None:
    """pydicom inflates a deflated data set whole, though a megabyte may hold a thousand."""
    read_preamble(cast(BinaryIO, file), force=True)
    meta = _read_file_meta_info(cast(BinaryIO, file))
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), MAX_INFLATED)
        if len(inflated) == MAX_INFLATED:
            raise ImageError("too many pixels")
    file.seek(0)


def _check_stream(frame: bytes, width: int, height: int) -> None:
    """What the decoders let pass: a stream larger than its DICOM says, and JPEG that ends early."""
    if _declared_size(frame) not in (None, (width, height)):
        raise ImageError("DICOM header and pixels of different size")
    if frame.startswith(_JPEG[:2]) and b"\xff\xd9" not in frame[-32:]:
        raise ImageError("damaged or truncated image")


def _declared_size(frame: bytes) -> tuple[int, int] | None:
    """(width, height) in the header of a JPEG, JPEG-LS or JPEG 2000 stream, which its decoder would allocate."""
    if frame.startswith(b"\xff\x4f\xff\x51"):
        right, bottom, left, top = struct.unpack(">4I", frame[8:24])
        return right - left, bottom - top
    at = 2 if frame.startswith(_JPEG[:2]) else len(frame)
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        if frame[at + 1] in _JPEG_FRAMES:
            height, width = struct.unpack(">2H", frame[at + 5 : at + 9])
            return width, height
        at += 1 if frame[at + 1] == 0xFF else 2 + int.from_bytes(frame[at + 2 : at + 4])
    return None


def _shown(stored: Gray, data: pydicom.Dataset) -> Gray:
    """Modality LUT or rescale, VOI LUT or first window, MONOCHROME1 inverted, padding black (PS3.3 C.7.6.3, C.11)."""
    for keyword in _OPTIONAL:
        if data.get(keyword) in (None, ""):  # present, but without a value
            data.pop(keyword, None)
    if data.get("ModalityLUTSequence"):
        pixels = _look_up(stored, data.ModalityLUTSequence[0], data)
    else:
        pixels = stored.astype(np.float32)
        slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
        if (slope, intercept) != (1, 0):
            pixels = pixels * slope + intercept
    padding = _padding(stored, data)
    for displayed in (_voi(pixels, data), pixels):
        inside = displayed if padding is None else displayed[~padding]
        low, high = (float(edge) for edge in (inside.min(), inside.max())) if inside.size else (0.0, 0.0)
        if high > low:  # else a window that misses every pixel: without it
            break
    if not np.isfinite([low, high]).all():
        raise ImageError("damaged or truncated image")
    gray = high - displayed if data.PhotometricInterpretation == "MONOCHROME1" else displayed - low
    return gray if padding is None else np.where(padding, np.float32(0), gray)


def _padding(stored: Gray, data: pydicom.Dataset) -> Bool[np.ndarray, "height width"] | None:
    if "PixelPaddingValue" not in data:
        return None
    first = data.PixelPaddingValue
    low, high = sorted((first, data.get("PixelPaddingRangeLimit", first)))
    return (stored >= low) & (stored <= high)


def _voi(pixels: Gray, data: pydicom.Dataset) -> Gray:
    """PS3.3 C.11.2; unchanged where there is neither a table nor a valid window."""
    if data.get("VOILUTSequence"):
        return _look_up(pixels, data.VOILUTSequence[0], data)
    centers, widths = (np.atleast_1d(data.get(keyword, [])) for keyword in ("WindowCenter", "WindowWidth"))
    function = data.get("VOILUTFunction", "LINEAR")
    if not len(centers) or not len(widths) or not widths[0] > 0:
        return pixels
    center, width = float(centers[0]), float(widths[0])
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 / width * (pixels - center), -80, 80)))
    if function == "LINEAR":
        center, width = center - 0.5, max(width - 1, 1e-6)
    return np.clip((pixels - center) / width + 0.5, 0, 1)


def _look_up(pixels: Gray, item: pydicom.Dataset, data: pydicom.Dataset) -> Gray:
    """A Modality or VOI LUT, as float32 (pydicom's own wraps indices above 255 of an 8-bit table)."""
    entries, first, _ = item.LUTDescriptor
    entries = entries or 2**16
    table: Any = item.LUTData
    if isinstance(table, bytes):
        order = "<" if data.file_meta.TransferSyntaxUID.is_little_endian else ">"
        table = np.frombuffer(table, np.uint8 if len(table) < 2 * entries else f"{order}u2")
    table = np.asarray(table, np.float32)[:entries]
    return table[np.clip(pixels - first, 0, len(table) - 1).astype(np.intp)]
