"""An uploaded file as the model and the eye need it; the file itself is not kept."""

import gzip
import math
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image

from imitate.data.dicom import MAX_PIXELS, Gray, ImageError, is_dicom
from imitate.data.pixels import Geometry, read_gray
from imitate.errors import UserError
from imitate.inference.base import Seen
from imitate.inference.predictor import Predictor
from imitate.inference.radiograph import Radiograph, file_is_coloured
from imitate.inference.tones import preparing
from imitate.serve.schema import Pixels

SIDE = 1024  # px, the longest of the picture, which the model's maps are laid over
MAP_SIDE = 320  # px, the longest of a map as a picture
FULL_SIDE = 4096  # px, the longest of the pixels that a viewer windows; browsers refuse larger canvases
DEEPEST = 2**16 - 1
SAME = 0.01  # of the range: what two ways to the same gray values may differ by


@dataclass
class Held:
    """``radiograph`` with the geometry of ``picture``, a PNG; ``pixels`` are ``raw``, row by row, compressed."""

    radiograph: Radiograph
    picture: bytes
    pixels: Pixels
    raw: bytes
    width: int  # of the original
    height: int
    seen: Seen | None = None  # its vectors, once they are computed

    @property
    def size(self) -> int:
        return len(self.picture) + len(self.raw)


def read_upload(content: bytes, predictor: Predictor) -> Held:
    """Content decides, and no name is known. UserError where it is not one gray image of fair size."""
    try:
        gray = read_gray(BytesIO(content))
        if file_is_coloured(BytesIO(content)):
            raise ImageError("a colour picture, not a radiograph")
        if not is_dicom(content[:132]):
            return hold(gray, predictor)
        whole = read_gray(BytesIO(content), window=(0, math.inf))
        equalized = preparing(predictor.encoder.preprocessing)["equalized"]
        return hold(gray, predictor, whole, read_gray(BytesIO(content), windowed=False) if equalized else None)
    except ImageError as error:
        raise UserError(
            f"cannot use this file: {error.reason}; give one frontal radiograph as DICOM, PNG or JPEG, "
            f"of at most {MAX_PIXELS // 10**6} megapixels"
        ) from error


def hold(gray: Gray, predictor: Predictor, whole: Gray | None = None, unwindowed: Gray | None = None) -> Held:
    """``gray`` is shown first; ``whole`` is the same without the window of its header. The model sees ``gray``, or
    ``unwindowed``, if it learnt from equalised images.
    """
    radiograph = predictor.read(gray if unwindowed is None else unwindowed)
    height, width = gray.shape
    picture = _shrunk(gray, SIDE).astype(np.float32, copy=False)
    low, high = float(picture.min()), float(picture.max())
    picture = ((picture - low) * (255 / max(high - low, 1e-6))).round().astype(np.uint8)
    seen = radiograph._replace(geometry=_scaled(radiograph.geometry, *picture.shape[::-1]))
    pixels, raw = _pixels(gray, gray if whole is None else whole)
    return Held(seen, png(picture), pixels, gzip.compress(raw, 1, mtime=0), width, height)


def _pixels(gray: Gray, whole: Gray) -> tuple[Pixels, bytes]:
    """Of ``whole`` with a window in which it looks like ``gray``; of ``gray`` where there is none."""
    values, low, high = gray, float(gray.min()), float(gray.max())
    step = tuple(slice(None, None, max(1, side // SIDE)) for side in gray.shape)
    some, wide = gray[step], whole[step]
    inside = (some > low) & (some < high)
    if whole is not gray and inside.any():
        first, last = np.argmin(wide[inside]), np.argmax(wide[inside])
        (x0, y0), (x1, y1) = ((float(wide[inside][at]), float(some[inside][at])) for at in (first, last))
        unit = (x1 - x0) / max(y1 - y0, 1e-6)
        ends = x0 - (y0 - low) * unit, x1 + (high - y1) * unit
        windowed = ((wide - ends[0]) / max(ends[1] - ends[0], 1e-6)).clip(0, 1)
        if np.abs(windowed - (some - low) / (high - low)).max() <= SAME:
            values, low, high = whole, *ends
    values = _shrunk(values, FULL_SIDE)
    if values.dtype != np.uint8:
        top = float(values.max())
        exact = top <= DEEPEST and (values.dtype == np.uint16 or bool((values == np.rint(values)).all()))
        scale = 1 if exact else DEEPEST / max(top, 1e-6)
        low, high = low * scale, high * scale
        values = np.rint(values * np.float32(scale)).astype("<u2")
    shown = Pixels(
        width=values.shape[1],
        height=values.shape[0],
        bits=8 if values.itemsize == 1 else 16,
        low=round(low),
        high=max(round(high), round(low) + 1),
    )
    return shown, values.tobytes()


def _shrunk(gray: Gray, side: int) -> Shaped[np.ndarray, "_ _"]:
    """At most so many pixels on each side."""
    height, width = gray.shape
    shrink = min(1.0, side / max(width, height))
    if shrink == 1:
        return gray
    picture = Image.fromarray(gray if gray.dtype == np.uint8 else gray.astype(np.float32, copy=False))
    return np.asarray(picture.resize(_times(width, height, shrink), Image.Resampling.BILINEAR, reducing_gap=3))


def coarse(radiograph: Radiograph) -> Radiograph:
    """With a geometry that is large enough for its maps, which are smooth."""
    geometry = radiograph.geometry
    shrink = min(1.0, MAP_SIDE / max(geometry.width, geometry.height))
    return radiograph._replace(geometry=_scaled(geometry, *_times(geometry.width, geometry.height, shrink)))


def colours(heat: Float[np.ndarray, "height width"]) -> np.ndarray:
    """RGBA: laid over the image with an opacity o, it covers a place by o times the map there."""
    import matplotlib

    height = np.arange(256)
    table = (matplotlib.colormaps["inferno"](height) * 255).round().astype(np.uint8)
    table[:, 3] = height
    return np.asarray(table[(heat * 255).round().astype(np.uint8)])


def png(pixels: np.ndarray) -> bytes:
    content = BytesIO()
    Image.fromarray(pixels).save(content, "PNG", compress_level=3)
    return content.getvalue()


def _times(width: int, height: int, shrink: float) -> tuple[int, int]:
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def _scaled(geometry: Geometry, width: int, height: int) -> Geometry:
    across, down = width / geometry.width, height / geometry.height
    left, top, right, bottom = geometry.crop
    left, top = min(round(left * across), width - 1), min(round(top * down), height - 1)
    right, bottom = max(round(right * across), left + 1), max(round(bottom * down), top + 1)
    return geometry._replace(width=width, height=height, crop=(left, top, right, bottom))
