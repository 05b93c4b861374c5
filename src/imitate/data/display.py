"""From the cells of a DICOM image to the values that a viewer shows (PS3.3 C.7.6.3 and C.11)."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped

WINDOW_IGNORED = "window ignored"
# A window that leaves fewer of 256 levels, or more of the pixels black or white, is not used. The 4,310 radiographs of
# Open-i and of a sample of ChestX-ray14, windowed by their publishers, keep at least 140 levels; at most 37% of an
# image's pixels are at either end.
MIN_LEVELS = 16
MAX_SATURATED = 0.98
_SAMPLE = 128  # a window is judged from about as many rows and columns

Gray = Shaped[np.ndarray, "height width"]
Mask = Bool[np.ndarray, "height width"]
View = Callable[[], Gray]


class Bits(NamedTuple):
    """How a value lies in its cell."""

    stored: int
    high: int  # the position of its highest bit
    overlay: bool  # whether the header places an overlay into the other bits


def read_bits(cells: Gray, bits: Bits) -> Gray:
    """The values in ``cells``, whose dtype is signed or unsigned as the values are.

    Headers are often wrong here, so the pixels decide: a value at the bottom of its cell is not shifted, and where
    more bits are in use than the header says, the smoother image is taken. Cutting off bits that belong to the values
    makes them wrap around; keeping bits that do not makes them jump.
    """
    width = 8 * cells.itemsize
    shift = bits.high + 1 - bits.stored
    if shift and shift <= width - bits.stored:
        low_bits = int(np.bitwise_or.reduce(cells, axis=None)) & (2**shift - 1)
        if not (low_bits and fits(cells, bits.stored)):
            cells = cells >> shift
    if fits(cells, bits.stored):
        return cells
    masked = (cells << (width - bits.stored)) >> (width - bits.stored)
    return masked if bits.overlay else smoothest(masked, cells)


def fits(cells: Gray, stored: int) -> bool:
    if cells.dtype.kind == "u":
        return int(cells.max()) < 2**stored
    return int(cells.max()) < 2 ** (stored - 1) and int(cells.min()) >= -(2 ** (stored - 1))


def smoothest(*images: Gray) -> Gray:
    """The image of the smallest total variation, the first where several have it."""

    def variation(image: Gray) -> float:
        return float(sum(np.abs(np.diff(image.astype(np.float64), axis=axis)).sum() for axis in (0, 1)))

    return min(images, key=variation)


def find_padding(values: Gray, cells: Gray, header: Any) -> Mask | None:
    first = _get(header, "PixelPaddingValue")
    if first is None:
        return None
    low, high = sorted((int(first), int(_get(header, "PixelPaddingRangeLimit", first))))
    padding = (values >= low) & (values <= high)
    if low == high:  # often written without its sign, or with bits that are not stored
        whole = np.array(low).astype(cells.dtype)
        if values is not cells or whole != low:
            padding |= cells == whole
    return padding


def apply_modality(values: Gray, header: Any) -> Gray:
    """Modality LUT or rescale, as float32."""
    if header.get("ModalityLUTSequence"):
        return _look_up(values, header.ModalityLUTSequence[0], header)
    slope = float(_get(header, "RescaleSlope", 1)) or 1.0  # 0 would leave nothing
    intercept = float(_get(header, "RescaleIntercept", 0))
    pixels = values.astype(np.float32)
    return pixels if (slope, intercept) == (1, 0) else pixels * slope + intercept


def voi_views(pixels: Gray, header: Any, window: tuple[float, float] | None) -> list[View]:
    """How ``pixels`` may be shown: ``window``, else the VOI LUT and the first window of the header (PS3.3 C.11.2)."""
    if window:
        return [lambda: apply_window(pixels, *window)]
    views: list[View] = []
    if header.get("VOILUTSequence"):
        views.append(lambda: _look_up(pixels, header.VOILUTSequence[0], header))
    try:
        center, width = (float(np.atleast_1d(_get(header, f"Window{key}"))[0]) for key in ("Center", "Width"))
    except (TypeError, ValueError, IndexError):  # absent or unreadable
        return views
    if width > 0:
        views.append(lambda: apply_window(pixels, center, width, str(header.get("VOILUTFunction") or "LINEAR")))
    return views


def apply_window(pixels: Gray, center: float, width: float, function: str = "LINEAR") -> Gray:
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 / width * (pixels - center), -80, 80)))
    if function == "LINEAR":
        center, width = center - 0.5, max(width - 1, 1e-6)
    return np.clip((pixels - center) / width + 0.5, 0, 1)


def show(
    pixels: Gray, views: Sequence[View], padding: Mask | None = None, *, inverted: bool
) -> tuple[Gray, tuple[str, ...]]:
    """The first view that leaves enough of the image, else ``pixels``; its darkest value becomes 0, as does padding.

    ``pixels`` that hold no more themselves, such as a drawing of two values, are shown in the first view with any
    contrast.
    """
    if padding is not None and padding.all():
        return np.zeros(pixels.shape, np.float32), ()
    shown, low, high, place = _choose(views, pixels, padding)
    if not np.isfinite([low, high]).all():
        raise ValueError("values that are not finite")
    gray = high - shown if inverted else shown - low
    notes = (WINDOW_IGNORED,) if views and place == len(views) else ()
    return gray if padding is None else np.where(padding, np.float32(0), gray), notes


def _choose(views: Sequence[View], pixels: Gray, padding: Mask | None) -> tuple[Gray, float, float, int]:
    """A view, its range outside the padding, and its place (``len(views)``: the pixels themselves)."""
    fallback = None
    for place, view in enumerate([*views, lambda: pixels]):
        try:
            shown = view()
        except (AttributeError, IndexError, TypeError, ValueError, OverflowError):  # a damaged table
            continue
        inside = shown if padding is None else shown[~padding]
        low, high = float(inside.min()), float(inside.max())
        if high > low and _is_rich(shown, low, high, padding):
            return shown, low, high, place
        if fallback is None and high > low:
            fallback = shown, low, high, place
    return fallback or (pixels, low, high, len(views))


def _is_rich(shown: Gray, low: float, high: float, padding: Mask | None) -> bool:
    step = tuple(slice(None, None, max(1, side // _SAMPLE)) for side in shown.shape)
    sample = shown[step] if padding is None else shown[step][~padding[step]]
    levels = np.rint((sample - low) * (255 / (high - low)))
    return len(np.unique(levels)) >= MIN_LEVELS and bool(np.isin(levels, (0, 255)).mean() <= MAX_SATURATED)


def _look_up(pixels: Gray, item: Any, header: Any) -> Gray:
    """A Modality or VOI LUT, as float32 (pydicom's own wraps indices above 255 of an 8-bit table)."""
    entries, first, depth = (int(value) for value in item.LUTDescriptor)
    entries = entries or 2**16
    data: Any = item.LUTData
    if isinstance(data, bytes):
        order = "<" if header.file_meta.TransferSyntaxUID.is_little_endian else ">"
        table = np.frombuffer(data, np.uint8 if len(data) < 2 * entries else f"{order}u2")
    else:
        table = np.asarray(data)
        if depth <= 8 and len(table) == (entries + 1) // 2:  # two entries of 8 bits a word
            table = table.astype("<u2").view(np.uint8)
    table = table[:entries].astype(np.float32)
    if pixels.dtype.kind == "f":
        if first >= 2**15 and pixels.min() < 0:  # written without its sign
            first -= 2**16
        return table[np.clip(pixels - first, 0, len(table) - 1).astype(np.intp)]
    wide = pixels.astype(np.int32) if pixels.itemsize < 4 else pixels.astype(np.int64)
    return table[np.clip(wide - first, 0, len(table) - 1)]


def _get(header: Any, keyword: str, default: Any = None) -> Any:
    """The value of an element; ``default`` also where the element is present, but empty."""
    value = header.get(keyword)
    return default if value is None or value == "" else value
