"""Masks as COCO's tools write them: run lengths down the columns, packed into text."""

from collections.abc import Sequence

SHIFT = 48  # of the characters, which are printable
MORE, SIGN, BITS = 0x20, 0x10, 5  # of a character: another one follows; the number is negative; the bits of it


def unpack_counts(text: str) -> list[int]:
    """Lengths of the runs, unmasked and masked ones in turn, from packed text; ValueError where it is no such text."""
    counts: list[int] = []
    value, place = 0, 0
    for character in text:
        digit = ord(character) - SHIFT
        if not 0 <= digit < 64 or place > 60:
            raise ValueError("run lengths are not packed text")
        value |= (digit & 0x1F) << place
        place += BITS
        if digit & MORE:
            continue
        if digit & SIGN:
            value -= 1 << place
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value, place = 0, 0
    if place or any(count < 0 for count in counts):
        raise ValueError("run lengths are not packed text")
    return counts


def pack_counts(counts: Sequence[int]) -> str:
    """The inverse of ``unpack_counts``."""
    text = []
    for number, count in enumerate(counts):
        value = count - counts[number - 2] if number > 2 else count
        while True:
            digit = value & 0x1F
            value >>= BITS
            last = value == (-1 if digit & SIGN else 0)
            text.append(chr(SHIFT + (digit if last else digit | MORE)))
            if last:
                break
    return "".join(text)


def to_runs(counts: Sequence[int], *, pixels: int) -> str:
    """The text of ``RunLengths``, "" where nothing is masked; ValueError where the runs do not fill the image."""
    if sum(counts) != pixels:
        raise ValueError("run lengths of another size")
    pairs = zip(counts[::2], counts[1::2], strict=False)
    return " ".join(f"{gap} {length}" for gap, length in pairs) if sum(counts[1::2]) else ""
