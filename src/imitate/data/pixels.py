"""From a file to gray values, and from gray values to a prepared image with its geometry."""

import errno
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

from imitate.data import squares
from imitate.data.annotations import Box
from imitate.data.dicom import DAMAGED, ImageError, check_size, is_dicom, quiet, read_dicom
from imitate.data.display import Gray, apply_window, show
from imitate.data.streams import JPEG, read_header
from imitate.data.tone import equalize
from imitate.names import Resize

MIN_SIDE = 16
LOW_CONTRAST = "low contrast"
_PNG = b"\x89PNG\r\n\x1a\n"
_DEEP = ("RGB;16B", "RGBA;16B", "LA;16B")  # Pillow's names of PNG's 16-bit channels


class Geometry(NamedTuple):
    """How an original image of ``width`` x ``height`` lies in its prepared square.

    Rectangles are left, top, right, bottom. ``crop``, in original pixels, is stretched over ``content``, in prepared
    pixels; outside ``content`` is padding.
    """

    width: int
    height: int
    size: int
    crop: tuple[int, int, int, int]
    content: tuple[int, int, int, int]

    def box(self, box: Box, frame: tuple[int, int] | None = None) -> Box | None:
        """``box`` in prepared pixels, clipped to the content; None where nothing is left of it.

        ``frame`` is the (width, height) that the box counts in, by default the original image's own.
        """
        wide, high = frame or box.reference_size or (self.width, self.height)
        x, y, width, height = map(float, box[1:5])
        left, right = self._along(0, self.width / wide, x, x + width)
        top, bottom = self._along(1, self.height / high, y, y + height)
        if not (right > left and bottom > top):
            return None
        return Box(box.label, left, top, right - left, bottom - top)

    def mask(self, mask: Bool[np.ndarray, "height width"]) -> UInt8[np.ndarray, "size size"]:
        """1 where at least half of a prepared pixel is covered; a mask that small keeps its best covered pixels."""
        assert mask.shape == (self.height, self.width), f"mask {mask.shape}, image {(self.height, self.width)}"
        left, top, right, bottom = self.content
        cover = np.zeros((self.size, self.size), np.float32)
        image = Image.fromarray(mask.astype(np.float32))
        image = image.resize((right - left, bottom - top), Image.Resampling.BOX, box=self.crop)
        cover[top:bottom, left:right] = np.asarray(image)
        most = cover.max()
        if not most:  # the filter passes over a line of one pixel between two of its windows
            down, across = np.nonzero(mask[self.crop[1] : self.crop[3], self.crop[0] : self.crop[2]])
            wide, high = self.crop[2] - self.crop[0], self.crop[3] - self.crop[1]
            rows, columns = (down + 0.5) * (bottom - top) / high, (across + 0.5) * (right - left) / wide
            cover[top + rows.astype(int), left + columns.astype(int)] = 1
            most = cover.max()
        return ((cover >= min(0.5, most)) & (most > 0)).astype(np.uint8)

    def _along(self, axis: int, scale: float, *ends: float) -> list[float]:
        """Positions along an axis (0 across, 1 down), times ``scale`` in original pixels, in prepared ones."""
        start, stop = self.crop[axis], self.crop[axis + 2]
        low, high = float(self.content[axis]), float(self.content[axis + 2])
        return [min(max(low + (end * scale - start) * (high - low) / (stop - start), low), high) for end in ends]


def read_gray(
    source: Path | BufferedIOBase | bytes,
    *,
    invert: bool | None = None,
    window: tuple[float, float] | None = None,
    windowed: bool = True,
) -> Gray:
    """The gray values as a viewer shows them, 0 the darkest: uint8 or uint16 as stored, float32 of a DICOM.

    The content decides the format, not the name. Colour becomes luminance (ITU-R 601), except in DICOM, where it is
    refused. No scaled JPEG decoding: what it saves and what it does to the prepared image is in docs/performance.md;
    decoding luminance alone halves the time. ``invert`` and ``window`` (center, width) are for sources that say these
    outside of the file; they overrule a DICOM's header. Without ``windowed`` no window is applied.
    """
    return _read(source, invert, window, windowed)[0]


def read_noted(
    source: Path | BufferedIOBase | bytes,
    *,
    invert: bool | None = None,
    window: tuple[float, float] | None = None,
    windowed: bool = True,
) -> tuple[Gray, tuple[str, ...]]:
    """As ``read_gray``, with notes: short remarks that can be counted, such as "window ignored" or "low contrast"."""
    gray, notes = _read(source, invert, window, windowed)
    return gray, (*notes, LOW_CONTRAST) if has_low_contrast(gray) else notes


def has_low_contrast(gray: Gray) -> bool:
    """Whether 98% of the pixels (about 16,000 are looked at) keep to a quarter of the range between black and white.

    Mostly, one stray value has stretched the range: ``percentiles`` of ``to_prepared`` help. Of the 4,310 radiographs
    of Open-i and of a sample of ChestX-ray14, each uses more than half of its range.
    """
    sample = gray[tuple(slice(None, None, max(1, side // 128)) for side in gray.shape)]
    low, high = np.percentile(sample, (1, 99))
    return bool(high - low < 0.25 * (float(gray.max()) - float(gray.min())))


def _read(
    source: Path | BufferedIOBase | bytes, invert: bool | None, window: tuple[float, float] | None, windowed: bool
) -> tuple[Gray, tuple[str, ...]]:
    if not isinstance(source, Path):
        return _decode(BytesIO(source) if isinstance(source, bytes) else source, invert, window, windowed)
    try:
        if source.is_dir():
            raise ImageError("a folder, not a file")
        if source.exists() and not source.is_file():
            raise ImageError("a pipe or a device, not a file")  # may never end
        with source.open("rb") as file:
            return _decode(file, invert, window, windowed)
    except FileNotFoundError as error:
        raise ImageError("missing file") from error
    except PermissionError as error:
        raise ImageError("file without read permission") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ImageError("a link that leads in a circle") from error
        raise


def to_prepared(
    gray: Gray,
    size: int,
    resize: Resize = "stretch",
    *,
    percentiles: tuple[float, float] | None = None,
    equalized: bool = False,
) -> tuple[UInt8[np.ndarray, "size size"], Geometry]:
    """Crop to the bounding box of non-zero pixels, min-max to 8 bit, resize with an anti-aliasing filter.

    ``stretch`` fills the square whatever the aspect ratio, ``letterbox`` fits the longest side and centres on zeros.
    The other rules are those of published encoders (``squares``), which neither crop nor, of 8 bits, stretch the gray
    values. With ``percentiles`` such as (0.5, 99.5), values beyond these percentiles of the cropped pixels become black
    and white. ``equalized`` then makes the histogram of the whole image flat (``tone.equalize``).
    """
    if equalized:
        gray, percentiles = equalize(_clip(gray, percentiles)), None
    down, across = (np.flatnonzero(gray.any(axis=axis)) for axis in (1, 0))
    if not len(down):
        raise ImageError("black image")
    if "-" in resize:
        eight = squares.to_bytes(_clip(gray, percentiles), full=percentiles is not None)
        square, seen, content = squares.to_square(eight, size, resize)
        return square, Geometry(gray.shape[1], gray.shape[0], size, seen, content)
    left, top, right, bottom = (int(edge) for edge in (across[0], down[0], across[-1] + 1, down[-1] + 1))
    if min(right - left, bottom - top) < MIN_SIDE:
        raise ImageError(f"image under {MIN_SIDE} pixels a side")
    content = _content(right - left, bottom - top, size, resize)
    image = np.zeros((size, size), np.uint8)
    shape = (content[2] - content[0], content[3] - content[1])
    image[content[1] : content[3], content[0] : content[2]] = _resize(
        _clip(gray[top:bottom, left:right], percentiles), shape
    )
    return image, Geometry(gray.shape[1], gray.shape[0], size, (left, top, right, bottom), content)


def _content(width: int, height: int, size: int, resize: Resize) -> tuple[int, int, int, int]:
    if resize == "stretch":
        return 0, 0, size, size
    wide, high = (max(1, round(side * size / max(width, height))) for side in (width, height))
    left, top = (size - wide) // 2, (size - high) // 2
    return left, top, left + wide, top + high


def _clip(gray: Gray, percentiles: tuple[float, float] | None) -> Gray:
    """Unchanged where nothing would be left between the percentiles."""
    if percentiles is None:
        return gray
    low, high = np.percentile(gray, percentiles, method="nearest")
    return gray.clip(low, high) if high > low else gray


def _resize(gray: Gray, shape: tuple[int, int]) -> UInt8[np.ndarray, "high wide"]:
    """Min-max to 0..255 and resize to (width, height); 8-bit input is stretched by table, other after resizing."""
    low, high = float(gray.min()), float(gray.max())
    if not high > low:
        raise ImageError("constant image")
    if gray.dtype == np.uint8:
        image = Image.fromarray(gray)
        if (low, high) != (0, 255):
            table = np.clip((np.arange(256) - low) * 255 / (high - low), 0, 255).round().astype(int)
            image = image.point(table.tolist())
        return np.asarray(image.resize(shape, Image.Resampling.BILINEAR, reducing_gap=3))
    image = Image.fromarray(np.asarray(gray, np.float32))
    small = np.asarray(image.resize(shape, Image.Resampling.BILINEAR, reducing_gap=3))
    return ((small - low) * (255 / (high - low))).clip(0, 255).round().astype(np.uint8)


def _decode(
    file: BufferedIOBase, invert: bool | None, window: tuple[float, float] | None, windowed: bool
) -> tuple[Gray, tuple[str, ...]]:
    head = file.read(132)
    file.seek(0)
    if not head:
        raise ImageError("empty file")
    dicom = is_dicom(head)
    if not dicom and not head.startswith((_PNG, JPEG)):
        raise ImageError("not a DICOM, PNG or JPEG file")
    try:
        with quiet():
            if dicom:
                return read_dicom(file, invert=invert, window=window, voi=windowed)
            return _adjust(_read_picture(file), invert, window if windowed else None)
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("too many pixels") from error
    except Exception as error:  # decoders raise whatever they like over damaged bytes
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: an invalid seek
            raise  # the disk's fault, not the file's
        raise ImageError(_undecoded(file) or DAMAGED) from error


def _undecoded(file: BufferedIOBase) -> str:
    """The reason why a JPEG file that may well be whole was not decoded; empty where there is none such."""
    file.seek(0)
    header = read_header(file.read())
    if header is None or (header.kind, header.precision) == ("JPEG", 8) or header.precision not in (8, 10, 12, 16):
        return ""
    return f"no decoder for {header.kind} of {header.precision} bits outside of DICOM"


def _adjust(gray: Gray, invert: bool | None, window: tuple[float, float] | None) -> tuple[Gray, tuple[str, ...]]:
    if window is None:
        return (gray.max() - gray if invert else gray), ()
    values = gray.astype(np.float32)
    return show(values, [lambda: apply_window(values, *window)], inverted=bool(invert))


def _read_picture(file: BufferedIOBase) -> Gray:
    with _open(file) as image:
        layout = image.tile[0][3]
        if layout in _DEEP:
            return _read_deep(file, image, layout)
        image.draft("L", image.size)
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I"):
            return np.asarray(image).astype(np.uint16)
        return np.asarray(image if image.mode == "L" else image.convert("L"))


def _open(file: BufferedIOBase) -> ImageFile:
    image = Image.open(cast(IO[bytes], file), formats=("PNG", "JPEG"))
    check_size(*image.size)
    return image


def _read_deep(file: BufferedIOBase, image: ImageFile, layout: str) -> Gray:
    """Luminance of a PNG of several channels of 16 bits, of which Pillow keeps the high bytes.

    Read as if the low byte came first, Pillow keeps the low bytes instead; gray with alpha is read as four bytes.
    """
    if layout == "LA;16B":
        high, low = np.moveaxis(_channels(image, "RGBA"), 2, 0)[:2]
        return high * np.uint16(256) + low
    high = _channels(image, layout)
    file.seek(0)
    with _open(file) as again:
        low = _channels(again, layout.replace("16B", "16L"))
    red, green, blue = ((high[..., each] * np.uint32(256) + low[..., each]) for each in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 2**15) >> 16).astype(np.uint16)


def _channels(image: ImageFile, layout: str) -> UInt8[np.ndarray, "height width channels"]:
    image.tile = [(*image.tile[0][:3], layout)]  # type: ignore[list-item]  # Pillow 10 has plain tuples
    ImageOps.exif_transpose(image, in_place=True)
    return np.asarray(image)
