"""What can be wrong with a file of an archive, each fault as a function that does it."""

import gzip
import io
import os
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

from PIL import Image
from pydicom import dcmread
from pydicom.uid import UID

Fault = Callable[[Path, Random], None]
Edit = Callable[[bytes, Random], bytes]
PIXELS = b"\xe0\x7f\x10\x00"  # the tag of a DICOM's pixels, little-endian


def rewritten(edit: Edit) -> Fault:
    def fault(path: Path, random: Random) -> None:
        path.write_bytes(edit(path.read_bytes(), random))

    return fault


def truncated(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(1, max(2, len(data) * 9 // 10))]


def flipped(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 4, 30))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def zeroed(data: bytes, random: Random) -> bytes:
    """A lost block of the disk."""
    start = random.randrange(len(data))
    length = min(len(data) - start, random.choice((512, 4096)))
    return data[:start] + bytes(length) + data[start + length :]


def spliced(data: bytes, random: Random) -> bytes:
    start, end = sorted(random.randrange(len(data)) for _ in range(2))
    return data[:end] + data[start:]


def enormous(data: bytes, random: Random) -> bytes:
    """The header claims far more pixels than there are."""
    side = random.choice((40_000, 65_500))
    if data.startswith(b"\x89PNG"):
        head = data[12:16] + struct.pack(">2I", side, side) + data[24:29]
        return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
    if data.startswith(b"\xff\xd8"):
        frame = data.index(b"\xff\xc0")
        return data[: frame + 5] + struct.pack(">2H", side, side) + data[frame + 9 :]
    return with_tags(data, Rows=side, Columns=side)


def bomb(data: bytes, random: Random) -> bytes:
    """Small on disk; hundreds of megapixels, or of megabytes, when unpacked."""
    return deflated_bomb(data) if data[128:132] == b"DICM" else png_bomb()


@cache
def png_bomb() -> bytes:
    file = io.BytesIO()
    Image.new("1", (30_000, 20_000)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def deflated_bomb(data: bytes, *, megabytes: int = 300) -> bytes:
    """The same DICOM in the deflated transfer syntax, a padding of zeros at its end."""
    whole = with_tags(data, syntax="1.2.840.10008.1.2.1.99")
    start = 144 + struct.unpack("<I", whole[140:144])[0]
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(zlib.decompress(whole[start:], -zlib.MAX_WBITS))
    packed += packer.compress(b"\xfc\xff\xfc\xffOB\x00\x00" + struct.pack("<I", megabytes << 20))
    packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()
    return whole[:start] + packed


def with_tags(data: bytes, *, syntax: str | None = None, **tags: object) -> bytes:
    header = dcmread(io.BytesIO(data))
    for name, value in tags.items():
        setattr(header, name, value)
    if syntax:
        header.file_meta.TransferSyntaxUID = UID(syntax)
    file = io.BytesIO()
    header.save_as(file, enforce_file_format=True)
    return file.getvalue()


def replaced(make: Callable[[Path], object]) -> Fault:
    """Something else in the file's place."""

    def fault(path: Path, random: Random) -> None:
        path.unlink()
        make(path)

    return fault


FATAL: dict[str, Fault] = {
    "empty": rewritten(lambda data, random: b""),
    "another format": rewritten(lambda data, random: b"GIF89a".ljust(140, b".") + data[140:]),
    "a web page": rewritten(lambda data, random: b"<!DOCTYPE html><title>404</title>" * 9),
    "random bytes": rewritten(lambda data, random: random.randbytes(len(data))),
    "all zeros": rewritten(lambda data, random: bytes(len(data))),
    "absurd dimensions": rewritten(enormous),
    "decompression bomb": rewritten(bomb),
    "missing": replaced(lambda path: None),
    "a folder": replaced(Path.mkdir),
    "dangling link": replaced(lambda path: path.symlink_to(path.with_name("nowhere"))),
    "link to itself": replaced(lambda path: path.symlink_to(path.name)),
    "a pipe": replaced(os.mkfifo),
    "link to a device": replaced(lambda path: path.symlink_to("/dev/zero")),
}
"""No image is left."""

POSSIBLE: dict[str, Fault] = {
    "truncated": rewritten(truncated),
    "flipped bits": rewritten(flipped),
    "lost block": rewritten(zeroed),
    "spliced": rewritten(spliced),
    "bytes at the end": rewritten(lambda data, random: data + random.randbytes(99)),
}
"""What is left may decode."""


def edit_table(path: Path, edit: Edit, random: Random) -> None:
    """Edit the text within, gzipped or not."""
    zipped = path.suffix == ".gz"
    data = gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()
    data = edit(data, random)
    path.write_bytes(gzip.compress(data) if zipped else data)


def _lines(change: Callable[[list[bytes], Random], list[bytes]]) -> Edit:
    def edit(data: bytes, random: Random) -> bytes:
        head, *rows = data.splitlines(keepends=True)
        return head + b"".join(change(rows, random))

    return edit


def _one_row(change: Callable[[bytes, Random], bytes]) -> Edit:
    def several(rows: list[bytes], random: Random) -> list[bytes]:
        for _ in range(random.choice((1, 3))):
            place = random.randrange(len(rows))
            rows[place] = change(rows[place], random)
        return rows

    return _lines(several)


def _cell(value: Callable[[Random], bytes]) -> Edit:
    def change(row: bytes, random: Random) -> bytes:
        cells = row.rstrip(b"\n").split(b",")
        cells[random.randrange(len(cells))] = value(random)
        return b",".join(cells) + b"\n"

    return _one_row(change)


HOSTILE: tuple[bytes, ...] = (
    b"",
    b" ",
    b"nan",
    b"-1",
    b"1e308",
    b"-1e308",
    b"inf",
    b"9" * 30,
    b"9223372036854775807",
    b"\x00",
    b'"',
    b"..",
)
HOSTILE += (
    "١٢٣".encode(),
    b"\xff\xfe",
    b"=1+1",
    b"%s%n",
    b"{}",
    b"None",
    b"x" * 300,
    b"a/../b",
    b"0x10",
    b"1_000",
    b"~",
)

TABLE_FAULTS: dict[str, Edit] = {
    "blank or hostile cell": _cell(lambda random: random.choice(HOSTILE)),
    "not UTF-8": _cell(lambda random: "Größe naïve".encode("cp1252")),
    "10 MB in a cell": _cell(lambda random: b'"' + b"no effusion. " * 800_000 + b'"'),
    "Windows line ends": lambda data, random: data.replace(b"\n", b"\r\n"),
    "old Macintosh line ends": lambda data, random: data.replace(b"\n", b"\r"),
    "rows twice": _one_row(lambda row, random: row + row),
    "row cut short": _one_row(lambda row, random: row[: random.randrange(len(row))] + b"\n"),
    "too many cells": _one_row(lambda row, random: row.rstrip(b"\n") + b",1,2\n"),
    "quote never closed": _one_row(lambda row, random: b'"' + row),
    "rows in another order": _lines(lambda rows, random: random.sample(rows, len(rows))),
    "truncated": truncated,
    "flipped bits": flipped,
    "lost block": zeroed,
    "a mark first": lambda data, random: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data, random: data.decode("utf-8", "replace").encode("utf-16"),
    "no rows": lambda data, random: data.splitlines(keepends=True)[0],
    "empty": lambda data, random: b"",
}
