"""An uploaded file as the model and the eye need it; the file itself is not kept."""

from io import BytesIO
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float
from PIL import Image

from imitate.data.dicom import MAX_PIXELS, Gray, ImageError
from imitate.data.pixels import Geometry, read_gray
from imitate.errors import UserError
from imitate.inference.predictor import Predictor
from imitate.inference.radiograph import Radiograph, file_is_coloured

SIDE = 1024  # px, the longest that is shown


class Held(NamedTuple):
    """``radiograph`` with the geometry of the image as shown, ``picture``, a PNG."""

    radiograph: Radiograph
    picture: bytes
    width: int  # of the original
    height: int


def read_upload(content: bytes, predictor: Predictor) -> Held:
    """Content decides, and no name is known. UserError where it is not one gray image of fair size."""
    try:
        gray = read_gray(BytesIO(content))
        if file_is_coloured(BytesIO(content)):
            raise ImageError("a colour picture, not a radiograph")
        return hold(gray, predictor)
    except ImageError as error:
        raise UserError(
            f"cannot use this file: {error.reason}; give one frontal radiograph as DICOM, PNG or JPEG, "
            f"of at most {MAX_PIXELS // 10**6} megapixels"
        ) from error


def hold(gray: Gray, predictor: Predictor) -> Held:
    radiograph = predictor.read(gray)
    shown = Image.fromarray(gray if gray.dtype == np.uint8 else gray.astype(np.float32, copy=False))
    height, width = gray.shape
    shrink = min(1.0, SIDE / max(width, height))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    pixels = np.asarray(shown.resize(size, Image.Resampling.BILINEAR, reducing_gap=3), np.float32)
    low, high = float(pixels.min()), float(pixels.max())
    picture = ((pixels - low) * (255 / max(high - low, 1e-6))).round().astype(np.uint8)
    seen = radiograph._replace(geometry=_shrunk(radiograph.geometry, *size))
    return Held(seen, png(picture), width, height)


def colours(heat: Float[np.ndarray, "height width"]) -> np.ndarray:
    """RGBA: laid over the image with an opacity o, it covers a place by o times the map there."""
    painted = matplotlib.colormaps["inferno"](heat)
    painted[..., 3] = heat
    return (painted * 255).round().astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    content = BytesIO()
    Image.fromarray(pixels).save(content, "PNG", compress_level=3)
    return content.getvalue()


def _shrunk(geometry: Geometry, width: int, height: int) -> Geometry:
    across, down = width / geometry.width, height / geometry.height
    left, top, right, bottom = geometry.crop
    left, top = min(round(left * across), width - 1), min(round(top * down), height - 1)
    right, bottom = max(round(right * across), left + 1), max(round(bottom * down), top + 1)
    return geometry._replace(width=width, height=height, crop=(left, top, right, bottom))
