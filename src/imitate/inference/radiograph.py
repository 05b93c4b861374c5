"""One radiograph as people hand it over: a path, a file, a picture, an array, a DICOM data set. No torch is needed."""

import errno
import logging
import os
from contextlib import AbstractContextManager, ExitStack
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from imitate.data.dicom import DAMAGED, MAX_PIXELS, Dataset, Gray, ImageError, check_size, read_dataset
from imitate.data.pixels import Geometry, read_gray, to_prepared
from imitate.errors import UserError
from imitate.inference.arrays import Tensor, as_array, is_coloured, split, to_gray
from imitate.names import Resize

log = logging.getLogger(__name__)


class Radiograph(NamedTuple):
    """A prepared image and where it came from."""

    name: str
    pixels: UInt8[np.ndarray, "size size"]
    geometry: Geometry


@runtime_checkable
class File(Protocol):
    """An open file of bytes."""

    def read(self, size: int = ..., /) -> Any: ...


Source = (
    str
    | os.PathLike[str]
    | bytes
    | File
    | AbstractContextManager[Any]
    | Image.Image
    | np.ndarray
    | Tensor
    | Dataset
    | Radiograph
)
"""A DICOM, PNG or JPEG file by its path or its content, open, or to be opened by fsspec; a picture of Pillow; an array
or a tensor of torch, by the shapes of ``arrays.split``; a data set of pydicom; what ``Predictor.read`` has read."""


class UnusableImage(UserError):
    """An image that cannot be used: which, and why in a few words."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        where = f"images[{name}]" if name.isdigit() else name
        super().__init__(
            f"cannot use {where}: {reason}; give one frontal radiograph as "
            f"DICOM, PNG or JPEG, of at most {MAX_PIXELS // 10**6} megapixels"
        )

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """By its arguments, as it comes out of another process."""
        return type(self), (self.name, self.reason)


def radiograph(
    source: object,
    *,
    size: int,
    resize: Resize,
    percentiles: tuple[float, float] | None = None,
    equalized: bool = False,
    name: str = "image",
) -> Radiograph:
    """Read a ``Source`` and prepare it. UnusableImage names it, the reason and what would do."""
    if isinstance(source, Radiograph):
        if len(source.pixels) != size:
            reason = f"it was read for a model of {len(source.pixels)} pixels a side, this one has {size}"
            raise UnusableImage(source.name, reason)
        return source
    name = name_of(source) or name
    try:
        gray = _gray(source, name, windowed=not equalized)
        return Radiograph(name, *to_prepared(gray, size, resize, percentiles=percentiles, equalized=equalized))
    except ImageError as error:
        raise UnusableImage(name, error.reason) from error


def name_of(source: object) -> str:
    """The path of a file, also of an open one, of a picture and of a data set that were read from one; else empty."""
    if isinstance(source, str | os.PathLike):
        return str(os.fsdecode(source))
    wanted: tuple[str, ...] = ()
    if isinstance(source, Image.Image | Dataset):
        wanted = ("filename",)
    elif isinstance(source, File | AbstractContextManager):
        wanted = ("name", "path")
    found = (getattr(source, each, None) for each in wanted)
    return next((os.fsdecode(each) for each in found if each and isinstance(each, str | os.PathLike)), "")


def to_original(square: Float[np.ndarray, "size size"], geometry: Geometry) -> Float[np.ndarray, "height width"]:
    """A map over the prepared square as one over the original image; 0 where the square shows nothing of it."""
    left, top, right, bottom = geometry.crop
    content = Image.fromarray(square.astype(np.float32)).crop(geometry.content)
    whole = np.zeros((geometry.height, geometry.width), np.float32)
    stretched = content.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    whole[top:bottom, left:right] = np.asarray(stretched)
    return whole


def _gray(source: object, name: str, *, windowed: bool) -> Gray:
    if isinstance(source, Dataset):
        return read_dataset(source, voi=windowed)
    if isinstance(source, Image.Image):
        return _gray_picture(source, name)
    if (array := as_array(source)) is not None:
        return _gray_array(array, name)
    with ExitStack() as stack:
        file = _file(source, stack)
        gray = _read(file, windowed)
        if file_is_coloured(file):
            _warn(name)
        return gray


def _read(file: Path | BufferedIOBase, windowed: bool) -> Gray:
    try:
        return read_gray(file, windowed=windowed)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise ImageError("a path that is too long to be one") from error


def _file(source: object, stack: ExitStack) -> Path | BufferedIOBase:
    """A path, or an open file that can be read from its beginning."""
    if isinstance(source, str) and "://" in source:
        raise ImageError("an address, not a file: give fsspec.open(address)")
    if isinstance(source, str | os.PathLike):
        if "\0" in str(source):
            raise ImageError("a path with a null byte")
        return Path(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return BytesIO(source)
    file: Any = source
    try:
        if not hasattr(file, "read") and hasattr(file, "__enter__"):  # what fsspec.open gives
            file = stack.enter_context(file)
        if not hasattr(file, "read"):
            raise ImageError(f"{type(source).__name__} is no image")
        if getattr(file, "closed", False):
            raise ImageError("a closed file")
        seekable = hasattr(file, "seekable") and file.seekable()
        if seekable:
            file.seek(0)
        if isinstance(file, BufferedIOBase) and seekable and file.readable():
            return file
        content = file.read()
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError("missing file") from error
    except PermissionError as error:
        raise ImageError("file without read permission") from error
    except (AttributeError, TypeError, ValueError) as error:  # io.UnsupportedOperation, too
        raise ImageError('a file that cannot be read: open it with "rb"') from error
    if not isinstance(content, bytes):
        raise ImageError('a file of text: open it with "rb"')
    return BytesIO(content)


def _gray_picture(picture: Image.Image, name: str) -> Gray:
    check_size(picture.width, picture.height)
    try:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode in {"1", "L", "LA"}:
            return np.asarray(picture.convert("L"))
        deep = picture.mode.startswith(("I", "F"))
        array = np.asarray(picture if deep else picture.convert("RGB"))
    except MemoryError:
        raise
    except Exception as error:  # Pillow reads the file only now, and raises whatever it likes
        raise ImageError(f"{DAMAGED}, or a closed one") from error
    return _gray_array(array, name)


def _gray_array(array: np.ndarray, name: str) -> Gray:
    images = split(array)
    if len(images) != 1:
        raise ImageError(f"an array of {len(images)} images where one is expected")
    gray, coloured = to_gray(images[0])
    if coloured:
        _warn(name)
    return gray


def file_is_coloured(source: Path | BufferedIOBase) -> bool:
    """Judged on a small copy, which of a JPEG is decoded small."""
    if isinstance(source, BufferedIOBase):
        source.seek(0)
    try:
        with Image.open(source, formats=("PNG", "JPEG")) as picture:  # type: ignore[arg-type]
            if picture.mode in {"1", "L", "LA", "I", "I;16", "I;16B"}:
                return False
            picture.draft("RGB", (256, 256))
            return is_coloured(np.asarray(picture.convert("RGB").resize((64, 64))))
    except Image.UnidentifiedImageError:
        return False  # DICOM


def _warn(name: str) -> None:
    log.warning("%s is a colour image and is converted to gray: is it a radiograph?", name)
