"""One radiograph as people hand it over: a path, an open file, a picture, an array."""

import logging
from collections.abc import Iterable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from imitate.data.dicom import MAX_PIXELS, Gray, ImageError
from imitate.data.pixels import Geometry, read_gray, to_prepared
from imitate.errors import UserError
from imitate.names import Resize

log = logging.getLogger(__name__)
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
COLOURED = 24  # a pixel whose channels differ by more is coloured
COLOURED_SHARE = 0.05  # more than a marker or a logo over a radiograph


class Radiograph(NamedTuple):
    """A prepared image and where it came from."""

    name: str
    pixels: UInt8[np.ndarray, "size size"]
    geometry: Geometry


Source = str | Path | BufferedIOBase | Image.Image | np.ndarray | Radiograph
"""A DICOM, PNG or JPEG file; an open one; a picture; an array (height, width) or (height, width, 3)."""


def radiographs(
    sources: Source | Iterable[Source],
    *,
    size: int,
    resize: Resize,
    percentiles: tuple[float, float] | None = None,
    equalized: bool = False,
) -> Iterator[Radiograph]:
    """One or many, each read when it is its turn; those without a path are named by their number."""
    if isinstance(sources, Source):
        sources = [sources]
    for number, source in enumerate(sources):
        name = str(number)
        yield radiograph(source, size=size, resize=resize, percentiles=percentiles, equalized=equalized, name=name)


def radiograph(
    source: Source,
    *,
    size: int,
    resize: Resize,
    percentiles: tuple[float, float] | None = None,
    equalized: bool = False,
    name: str = "image",
) -> Radiograph:
    """Read and prepare. UserError names the image, the reason and what would do."""
    if isinstance(source, Radiograph):
        return source
    if isinstance(source, str | Path):
        name = str(source)
    try:
        gray = _gray(source, name, windowed=not equalized)
        return Radiograph(name, *to_prepared(gray, size, resize, percentiles=percentiles, equalized=equalized))
    except ImageError as error:
        raise UserError(
            f"cannot use {name}: {error.reason}; give one frontal radiograph as DICOM, PNG or JPEG, "
            f"of at most {MAX_PIXELS // 10**6} megapixels"
        ) from error


def to_original(square: Float[np.ndarray, "size size"], geometry: Geometry) -> Float[np.ndarray, "height width"]:
    """A map over the prepared square as one over the original image; 0 where the square shows nothing of it."""
    left, top, right, bottom = geometry.crop
    content = Image.fromarray(square.astype(np.float32)).crop(geometry.content)
    whole = np.zeros((geometry.height, geometry.width), np.float32)
    stretched = content.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    whole[top:bottom, left:right] = np.asarray(stretched)
    return whole


def _gray(source: str | Path | BufferedIOBase | Image.Image | np.ndarray, name: str, *, windowed: bool) -> Gray:
    if isinstance(source, np.ndarray):
        return _gray_array(source, name)
    if isinstance(source, Image.Image):
        return _gray_picture(source, name)
    source = Path(source) if isinstance(source, str) else source
    gray = read_gray(source, windowed=windowed)
    if file_is_coloured(source):
        _warn(name)
    return gray


def _gray_picture(picture: Image.Image, name: str) -> Gray:
    _check_size(picture.width, picture.height)
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in {"1", "L", "LA"}:
        return np.asarray(picture.convert("L"))
    if picture.mode.startswith(("I", "F")):
        return _gray_array(np.asarray(picture), name)
    return _gray_array(np.asarray(picture.convert("RGB")), name)


def _gray_array(array: np.ndarray, name: str) -> Gray:
    """Any range of values; the lowest becomes 0 where some are negative. Colour becomes luminance (ITU-R 601)."""
    if array.ndim not in {2, 3} or array.shape[2:] not in {(), (1,), (3,)}:
        raise ImageError(f"an array of shape {array.shape} is not (height, width) or (height, width, 3)")
    _check_size(array.shape[1], array.shape[0])
    if array.dtype.kind not in "buif" or not np.isfinite(array).all():
        raise ImageError("values that are not finite numbers")
    if array.shape[2:] == (3,) and array.dtype == np.uint8:
        if _is_coloured(array):
            _warn(name)
        return np.asarray(Image.fromarray(array).convert("L"))
    gray = array @ LUMINANCE if array.shape[2:] == (3,) else array.reshape(array.shape[:2])
    if gray.dtype not in (np.uint8, np.uint16):
        gray = gray.astype(np.float32)
    return gray - gray.min() if gray.size and gray.min() < 0 else gray


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError("too many pixels")


def file_is_coloured(source: Path | BufferedIOBase) -> bool:
    """Judged on a small copy, which of a JPEG is decoded small."""
    if isinstance(source, BufferedIOBase):
        source.seek(0)
    try:
        with Image.open(source, formats=("PNG", "JPEG")) as picture:  # type: ignore[arg-type]
            if picture.mode in {"1", "L", "LA", "I", "I;16", "I;16B"}:
                return False
            picture.draft("RGB", (256, 256))
            return _is_coloured(np.asarray(picture.convert("RGB").resize((64, 64))))
    except Image.UnidentifiedImageError:
        return False  # DICOM


def _is_coloured(picture: UInt8[np.ndarray, "height width 3"]) -> bool:
    return bool((np.ptp(picture, axis=2) > COLOURED).mean() > COLOURED_SHARE)


def _warn(name: str) -> None:
    log.warning("%s is a colour picture, read as gray: is it a radiograph?", name)
