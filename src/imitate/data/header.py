"""What the header of a DICOM file says beside its pixels, where it says it in the words of the standard."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

Header = Any  # a pydicom.Dataset
GRAY = ("MONOCHROME1", "MONOCHROME2")
MAX_STRETCH = 0.01  # by which the sides of a pixel may differ


def is_negative(header: Header, notes: list[str]) -> bool:
    """Whether the smallest value is the brightest: if PhotometricInterpretation or PresentationLUTShape says so.

    Headers in which the two disagree are not valid. Viewers differ over MONOCHROME1 with IDENTITY; they agree that
    INVERSE inverts.
    """
    implied = meant(header)
    if implied and implied != header.PhotometricInterpretation:
        notes.append("PresentationLUTShape contradicts PhotometricInterpretation")
    return GRAY[0] in (implied, header.PhotometricInterpretation)


def meant(header: Header) -> str | None:
    """The PhotometricInterpretation that goes with the PresentationLUTShape."""
    shapes: dict[tuple[str, ...], str] = {("INVERSE",): GRAY[0], ("IDENTITY",): GRAY[1]}
    return shapes.get(tuple(text(header, "PresentationLUTShape")))


def remarks(header: Header) -> Iterator[str]:
    """What the header says that the pixels do not show."""
    if text(header, "PresentationIntentType") == ["FOR PROCESSING"]:
        yield "for processing"
    across, down = [*(value[:1] for value in text(header, "PatientOrientation")), "", ""][:2]
    if across in ("H", "F") or (across, down) == ("R", "H"):
        yield "rotated (patient orientation)"
    elif across == "R":
        yield "mirrored (patient orientation)"
    elif down == "H":
        yield "upside down (patient orientation)"
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        with suppress(ValueError):
            high, wide = map(float, text(header, keyword))
            if abs(high - wide) > MAX_STRETCH * high:
                yield "unequal pixel spacing"
                return


def text(header: Header, key: str | tuple[int, int]) -> list[str]:
    """The values of an element in upper case; none where it is absent, empty, or not of its type."""
    try:
        value: Any = header.get(key)
        value = getattr(value, "value", value)
    except Exception:  # pydicom raises whatever it likes over malformed values
        return []
    values = [] if value is None else [value] if isinstance(value, str | int | float) else value
    return [word for each in values if (word := str(each).strip().upper())]
