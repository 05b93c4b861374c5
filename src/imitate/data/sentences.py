"""The sentences of a report."""

import re

_END = re.compile(
    r"(?<=[.!?。！？])[\"')\]]*\s+(?=[^a-zà-öø-ÿ\s])|\n\s*\n|\n(?=\s*(?:[-*•]|\d+[.)])\s)|(?<=[。！？])(?=\S)"
)
_LIST = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")
_SHORT = re.compile(
    r"(?:\b(?:dr|drs|mr|mrs|ms|prof|st|vs|approx|fig|ca|cf|e\.g|i\.e|resp)|\b[A-Za-z]|^\s*\d{1,2})\.$", re.I
)


def split_sentences(text: str) -> list[str]:
    """The sentences of a text in order, without the numbers and bullets of a list; at least one where there is a word.

    A sentence ends at a full stop, question or exclamation mark that is followed by anything but a lower-case letter,
    at an empty line, or before an item of a list; not after an initial, an abbreviation or the number of an item.
    """
    pieces: list[str] = []
    for piece in _END.split(text):
        if pieces and _SHORT.search(pieces[-1]):
            pieces[-1] = f"{pieces[-1]} {piece}"
        else:
            pieces.append(piece)
    found = [" ".join(_LIST.sub("", piece).split()) for piece in pieces]
    return [each for each in found if any(c.isalnum() for c in each)]
