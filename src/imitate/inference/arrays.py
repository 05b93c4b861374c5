"""Arrays and tensors as gray images: what each shape means, and what becomes of the values. Nothing imports torch."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from imitate.data.dicom import Gray, ImageError, check_size

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
CHANNELS = (1, 3, 4)  # gray, RGB, RGBA
COLOURED = 24  # a pixel whose channels differ by more is coloured
COLOURED_FRACTION = 0.05  # more than a marker or a logo over a radiograph


@runtime_checkable
class Tensor(Protocol):
    """One of torch, which is not imported for it."""

    def detach(self) -> Any: ...

    def cpu(self) -> Any: ...


def as_array(source: object) -> np.ndarray | None:
    """An array, a tensor of torch on any device, or another array of two dimensions or more; None of all else."""
    if isinstance(source, np.ndarray):
        return source
    found: Any = source
    try:
        if isinstance(source, Tensor):
            found = source.detach().cpu()
            found = found.float() if "bfloat16" in str(found.dtype) else found
            return np.asarray(found.numpy())
        if hasattr(source, "__array__") and getattr(source, "ndim", 0) > 1:
            return np.asarray(found)
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise ImageError(f"a {type(source).__name__} that gives no array") from error
    return None


def split(array: Shaped[np.ndarray, "..."]) -> list[np.ndarray]:
    """The images of an array, each (height, width) or (height, width, channels).

    (H, W) and (H, W, C) are one image, (N, H, W), (N, H, W, C) and (N, C, H, W) are N of them, C is 1, 3 or 4. What may
    be three images or one in colour, (3, H, W), is refused, and so is (4, H, W).
    """
    shape = array.shape
    if array.ndim == 2 or (array.ndim == 3 and shape[2] in CHANNELS):
        return [array]
    if array.ndim == 3 and shape[0] in (3, 4):
        raise ImageError(
            f"an array of shape {shape} may be {shape[0]} images or one of {shape[0]} channels: give list(array) for "
            "images, and for one in colour its channels last, as (height, width, 3)"
        )
    if array.ndim == 3 or (array.ndim == 4 and shape[3] in CHANNELS):
        return list(array)
    if array.ndim == 4 and shape[1] in CHANNELS:
        return list(np.moveaxis(array, 1, -1))
    raise ImageError(f"an array of shape {shape} is not (height, width), (height, width, 3) or (images, height, width)")


def to_gray(image: Shaped[np.ndarray, "..."]) -> tuple[Gray, bool]:
    """One image of ``split``, and whether it is coloured.

    Any numbers, in any range; the lowest becomes 0 where some are negative. Colour becomes luminance (ITU-R 601), and
    transparency is ignored. 8 and 16 bits stay as they are, all else becomes float32.
    """
    check_size(image.shape[1], image.shape[0])
    if image.dtype.kind not in "buif":
        raise ImageError(f"values of type {image.dtype}, which are no numbers")
    image = image[..., :3] if image.shape[2:] == (4,) else image
    if image.shape[2:] == (3,) and image.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(image)).convert("L")), is_coloured(image)
    with np.errstate(all="ignore"):
        gray = image @ LUMINANCE if image.shape[2:] == (3,) else image.reshape(image.shape[:2])
        if gray.dtype in (np.uint8, np.uint16):
            return gray, False
        gray = gray.astype(np.float32)
        gray = gray - gray.min() if gray.size and gray.min() < 0 else gray
    if not np.isfinite(gray).all():
        raise ImageError("values that are not finite numbers")
    return gray, False


def is_coloured(picture: UInt8[np.ndarray, "height width 3"]) -> bool:
    return bool((np.ptp(picture, axis=2) > COLOURED).mean() > COLOURED_FRACTION)
