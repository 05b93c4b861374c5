"""What the header of a compressed stream (JPEG, JPEG-LS, JPEG 2000) says, without decoding it."""

import struct
from typing import NamedTuple

JPEG = b"\xff\xd8\xff"
JPEG_2000 = b"\xff\x4f\xff\x51"
_END, _SCAN = b"\xff\xd9", b"\xff\xda"
_BASELINE, _EXTENDED, _PROGRESSIVE, _LOSSLESS, _JPEG_LS = 0xC0, 0xC1, 0xC2, 0xC3, 0xF7
_FRAMES = {*range(0xC0, 0xD0), _JPEG_LS} - {0xC4, 0xC8, 0xCC}
_NAMES = {_BASELINE: "JPEG", _EXTENDED: "JPEG", _PROGRESSIVE: "JPEG", _LOSSLESS: "lossless JPEG", _JPEG_LS: "JPEG-LS"}


class Stream(NamedTuple):
    kind: str  # JPEG, lossless JPEG, JPEG-LS, JPEG 2000
    width: int
    height: int
    precision: int  # bits of a sample


def read_header(stream: bytes) -> Stream | None:
    """The frame header, whose size a decoder would allocate; None where there is none."""
    if stream.startswith(JPEG_2000):
        right, bottom, left, top = struct.unpack(">4I", stream[8:24])
        return Stream("JPEG 2000", right - left, bottom - top, (stream[42] & 0x7F) + 1)
    at = 2 if stream.startswith(JPEG) else len(stream)
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker in _FRAMES:
            precision, height, width = struct.unpack(">B2H", stream[at + 4 : at + 9])
            return Stream(_NAMES.get(marker, "JPEG of a rare kind"), width, height, precision)
        at += 1 if marker == 0xFF else 2 + int.from_bytes(stream[at + 2 : at + 4])
    return None


def is_cut(stream: bytes) -> bool:
    """Whether a JPEG stream ends inside its last scan, which never holds an end marker; padding may follow the end."""
    return stream.startswith(JPEG) and _END not in stream.rpartition(_SCAN)[2]
