"""Headers of compressed streams, byte by byte (ITU-T T.81 B.2.2 and T.800 A.5.1), and streams that are cut."""

import struct

import pytest

from imitate.data.streams import Stream, is_cut, read_header

KINDS = {0xC0: "JPEG", 0xC1: "JPEG", 0xC2: "JPEG", 0xC3: "lossless JPEG", 0xF7: "JPEG-LS"}
RARE = [0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF]  # T.81 table B.1


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">2BH", 0xFF, marker, 2 + len(content)) + content


def frame(marker: int, precision: int = 12, height: int = 300, width: int = 500) -> bytes:
    return segment(marker, struct.pack(">B2H", precision, height, width))


@pytest.mark.parametrize("marker", [*KINDS, *RARE])
def test_every_frame_header_of_jpeg_is_read(marker: int) -> None:
    expected = Stream(KINDS.get(marker, "JPEG of a rare kind"), 500, 300, 12)
    assert read_header(b"\xff\xd8" + frame(marker)) == expected
    before = segment(0xE0, b"JFIF\0") + segment(0xDB, bytes(300)) + segment(0xC4, b"tables")
    assert read_header(b"\xff\xd8" + before + frame(marker) + b"more") == expected
    assert read_header(b"\xff\xd8" + segment(0xE0, b"") + b"\xff\xff\xff" + frame(marker)) == expected  # fill bytes


@pytest.mark.parametrize("marker", [0xBF, 0xC4, 0xC8, 0xCC, 0xD0, 0xE0, 0xF6, 0xF8, 0xFE])
def test_other_segments_are_no_frame_headers(marker: int) -> None:
    assert read_header(b"\xff\xd8" + frame(marker)) is None
    assert read_header(b"\xff\xd8" + frame(marker) + frame(0xC3)) == Stream("lossless JPEG", 500, 300, 12)


def test_what_has_no_frame_header() -> None:
    whole = b"\xff\xd8" + frame(0xC0)
    for stream in (b"", b"\xff\xd8", whole[:-1], whole[1:], b"\0" + whole, b"\xff\xd8" + segment(0xE0, b"\0\0")):
        assert read_header(stream) is None
    assert read_header(b"\xff\xd8" + segment(0xE0, b"") + b"\0" + frame(0xC0)[1:]) is None  # no marker


@pytest.mark.parametrize(("sign", "depth"), [(0, 8), (0, 12), (128, 12), (0, 16), (128, 16), (0, 38)])
def test_the_size_of_jpeg_2000_is_that_of_its_image_area(sign: int, depth: int) -> None:
    size = struct.pack(">H8IH3B", 0, 700, 500, 100, 200, 64, 64, 3, 5, 1, sign | depth - 1, 1, 1)
    stream = b"\xff\x4f" + segment(0x51, size) + b"more"
    assert read_header(stream) == Stream("JPEG 2000", 600, 300, depth)


def test_a_scan_without_an_end_is_cut() -> None:
    scan, end = b"\xff\xda\0\x02", b"\xff\xd9"
    head = b"\xff\xd8" + frame(0xC0)
    for whole in (head + scan + b"data" + end, head + scan + b"data" + scan + end + b"\0\0", head + end):
        assert not is_cut(whole)
    for cut in (head, head + scan, head + scan + b"data", head + end + scan + b"data", head + scan + end + scan):
        assert is_cut(cut)
    assert not is_cut(b"") and not is_cut(b"\xff\x4f\xff\x51" + scan)
