"""DICOM files and data sets to gray values, by pydicom.

A file that cannot be used raises ImageError; its reason names no file and quotes no header. Notes are short, countable
remarks about a file that was read, likewise.
"""

import logging
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pydicom
from jaxtyping import Shaped
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    RLELossless,
)

from imitate.data.display import Bits, Gray, apply_modality, find_padding, fits, read_bits, show, smoothest, voi_views
from imitate.data.header import GRAY, is_negative, meant, remarks, text
from imitate.data.streams import is_cut, read_header
from imitate.errors import UserError

MAX_PIXELS = 2**26  # 67 million, three times the largest detector of chest radiography
MAX_INFLATED = 4 * MAX_PIXELS  # bytes
DAMAGED = "damaged or truncated image"
_BARE_DICOM = (b"\x02\x00", b"\x08\x00")  # little-endian group 2 or 8: a data set without its preamble
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_MAX_TINT = 2  # difference between the channels of a gray image, from rounding
_SYNTAXES = {f"1.2.840.10008.1.2.4.11{digit}": "JPEG XL" for digit in "012"}  # unknown to pydicom
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_ITEM = b"\xfe\xff\x00\xe0"  # the first bytes of compressed pixels


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


def read_dicom(
    file: BufferedIOBase, *, invert: bool | None = None, window: tuple[float, float] | None = None, voi: bool = True
) -> tuple[Gray, tuple[str, ...]]:
    """Gray values as a viewer shows them, and notes; ``invert`` and ``window`` overrule the header.

    Without ``voi`` no window and no VOI LUT is applied.
    """
    _check_syntax(file)
    _check_header(pydicom.dcmread(file, stop_before_pixels=True, force=True))
    file.seek(0)
    return _gray(pydicom.dcmread(file, force=True), invert, window, voi)


def read_dataset(data: Dataset, *, voi: bool = True) -> Gray:
    """The gray values of a data set that is open already, which stays as it is."""
    try:
        with quiet():
            data.get("PixelData")  # now, where pydicom put its reading off
            own = _copied(data, Dataset())
            own.file_meta = _copied(getattr(data, "file_meta", {}), FileMetaDataset())
            _check_decoder(UID(own.file_meta.get("TransferSyntaxUID") or ExplicitVRLittleEndian))
            _check_header(own)
            if not any(keyword in own for keyword in _PIXELS):
                raise ImageError("DICOM without its pixels: read it without stop_before_pixels")
            return _gray(own, None, None, voi)[0]
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # pydicom and its decoders raise whatever they like over damaged values
        raise ImageError(DAMAGED) from error


def _copied(elements: Any, own: Any) -> Any:
    """Without the pixels' bytes being copied."""
    for tag, element in elements.items():
        own[tag] = copy(element)
    return own


def _gray(
    data: Dataset, invert: bool | None, window: tuple[float, float] | None, voi: bool
) -> tuple[Gray, tuple[str, ...]]:
    if "PixelData" not in data:  # compressed pixels that are cut short, or none at all
        floating = any(keyword in data for keyword in _PIXELS)
        raise ImageError("DICOM of floating-point pixels" if floating else DAMAGED)
    notes = [*remarks(data), *_complete(data, invert)]
    cells = pixel_array(data, correct_unused_bits=False)
    if data.SamplesPerPixel != 1:
        return show(_gray_channel(cells).astype(np.float32), [], inverted=bool(invert))[0], tuple(notes)
    if cells.ndim != 2:
        raise ImageError("DICOM of several frames")
    values = _read_values(cells, data, notes)
    pixels = apply_modality(values, data)
    padding = find_padding(values, cells, data)
    negative = is_negative(data, notes) if invert is None else invert
    views = voi_views(pixels, data, window) if voi else []
    gray, ignored = show(pixels, views, padding, inverted=negative)
    return gray, (*notes, *ignored)


def read_elements(source: Path | bytes, keywords: Sequence[str]) -> dict[str, str] | None:
    """These elements of a header as text in upper case, empty where absent; None of a file that is no DICOM."""
    with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file, quiet():
        if not is_dicom(file.read(132)):
            return None
        file.seek(0)
        data = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(keywords))
        return {keyword: " ".join(text(data, keyword)) for keyword in keywords}


def _check_syntax(file: BufferedIOBase) -> None:
    """Refuses what nothing here decodes, and a deflated bomb: pydicom inflates a data set whole."""
    read_preamble(cast(BinaryIO, file), force=True)
    syntax = UID(_read_file_meta_info(cast(BinaryIO, file)).get("TransferSyntaxUID") or ExplicitVRLittleEndian)
    if syntax == DeflatedExplicitVRLittleEndian:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), MAX_INFLATED)
        if len(inflated) == MAX_INFLATED:
            raise ImageError("too many pixels")
    _check_decoder(syntax)
    file.seek(0)


def _check_decoder(syntax: UID) -> None:
    try:
        readable = get_decoder(syntax).is_available
    except NotImplementedError:
        readable = False
    if not readable:
        known = _SYNTAXES.get(syntax) or (syntax.name if syntax.is_transfer_syntax else "")
        raise ImageError(f"no decoder for {known or 'an unknown transfer syntax'}")


def _check_header(header: Dataset) -> None:
    if "Rows" not in header and "Columns" not in header:
        raise ImageError("DICOM without an image")
    for keyword in ("Rows", "Columns"):
        if header.get(keyword) is None:
            raise ImageError(f"DICOM without {keyword}")
    check_size(header.Columns, header.Rows)
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise ImageError("DICOM of several frames")
    photometric = _photometric(header)
    if (photometric in _COLOUR and header.get("SamplesPerPixel", 3) != 3) or photometric not in ("", *GRAY, *_COLOUR):
        raise ImageError("DICOM in colour")


def _photometric(header: Dataset) -> str:
    """Upper case; empty where the header does not distinguish black from white."""
    found = str(header.get("PhotometricInterpretation") or "").strip().upper()
    return "" if found.startswith("MONOCHROME") and found not in GRAY else found


def _complete(data: Dataset, invert: bool | None) -> list[str]:
    """Set what the header lacks, and what the pixels contradict, where one value is possible; notes for the former."""
    notes = []

    def default(keyword: str, value: object) -> None:
        if data.get(keyword) not in (None, ""):
            return
        if value is None:
            raise ImageError(f"DICOM without {keyword}")
        setattr(data, keyword, value)
        notes.append(f"without {keyword}")

    data.PhotometricInterpretation = _photometric(data)
    default("SamplesPerPixel", 3 if data.PhotometricInterpretation in _COLOUR else 1)
    implied = meant(data) or (None if invert is None else GRAY[1])
    default("PhotometricInterpretation", implied if data.SamplesPerPixel == 1 else None)
    if data.SamplesPerPixel != 1:
        default("PlanarConfiguration", 0)
    stream = _set_syntax(data)
    cell = _cell(data, stream)
    default("BitsAllocated", cell)
    if stream and cell:
        if cell > data.BitsAllocated:
            data.BitsStored = cell
        data.BitsAllocated = cell
    if data.BitsAllocated not in (1, 8, 16, 32, 64):
        raise ImageError("DICOM with an unusual BitsAllocated")
    default("BitsStored", data.BitsAllocated)
    if not 1 <= data.BitsStored <= data.BitsAllocated:
        data.BitsStored = data.BitsAllocated
    default("PixelRepresentation", 0)
    return notes


def _set_syntax(data: Dataset) -> bytes:
    """Set the transfer syntax that the pixels are in, whatever the file says; their stream, if it is compressed."""
    if "TransferSyntaxUID" not in data.file_meta:
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian  # implicit VR holds the same pixels
    claimed, pixels = data.file_meta.TransferSyntaxUID.is_encapsulated, data.PixelData
    if claimed and not pixels.startswith(_ITEM):
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        return b""
    if not claimed and not (pixels.startswith(_ITEM) and data["PixelData"].is_undefined_length):
        return b""
    stream = get_frame(pixels, 0, number_of_frames=1)
    header = read_header(stream)
    if not claimed:
        if header is None:
            raise ImageError("DICOM with a transfer syntax that is not its own")
        # the decoder of JPEG reads every kind of it, JPEG-LS too
        data.file_meta.TransferSyntaxUID = JPEG2000 if header.kind == "JPEG 2000" else JPEGLosslessSV1
    if header and (header.width, header.height) != (data.Columns, data.Rows):  # the decoders let it pass
        raise ImageError("DICOM header and pixels of different size")
    if is_cut(stream):
        raise ImageError(DAMAGED)
    return stream


def _cell(data: Dataset, stream: bytes) -> int | None:
    """The bits that a decoded sample takes; None where the pixels do not say."""
    if not stream:
        size, rest = divmod(len(data.PixelData), data.Rows * data.Columns * data.SamplesPerPixel)
        return 8 * size if size in (1, 2, 4) and rest <= 1 else None
    if data.file_meta.TransferSyntaxUID == RLELossless:
        size = int.from_bytes(stream[:4], "little") // data.SamplesPerPixel  # segments
        return 8 * size if size in (1, 2, 4) else None
    header = read_header(stream)
    return None if header is None or header.precision > 16 else 8 if header.precision <= 8 else 16


def _read_values(cells: Gray, data: Dataset, notes: list[str]) -> Gray:
    stored, high = data.BitsStored, data.get("HighBit")
    if high is None or not stored <= high < data.BitsAllocated:
        high = stored - 1
    overlays = [place for group in range(0x6000, 0x6020, 2) for place in text(data, (group, 0x0102))]
    own = ("0", *map(str, range(high + 1 - stored, high + 1)))
    bits = Bits(stored, high, overlay=any(place not in own for place in overlays))
    values = read_bits(cells, bits)
    if "without PixelRepresentation" in notes:
        values = smoothest(values, read_bits(cells.view(cells.dtype.str.replace("u", "i")), bits))
    if not fits(values, stored):
        notes.append("more bits in use than BitsStored")
    elif cells.dtype.kind == "u" and high == stored - 1 and not bits.overlay and not fits(cells, stored):
        notes.append("bits beyond BitsStored removed")
    return values


def _gray_channel(cells: Shaped[np.ndarray, "..."]) -> Gray:
    """The one channel that a gray image of three channels repeats; the decoders have made RGB of YBR."""
    red, green, blue = np.moveaxis(cells, -1, 0)
    low, high = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
    if (high - low).max() > _MAX_TINT:
        raise ImageError("DICOM in colour")
    return green
