"""The findings and the impression of a report in any house style, by the headers of its sections."""

import re
from typing import NamedTuple

from imitate.data.markup import plain_text
from imitate.data.reports import Sections, clean_text
from imitate.data.section_labels import SIGNATURE, Headers, key
from imitate.data.words import bare

NO_HEADER = "no known section header"  # why a record is excluded, or noted where it is used nevertheless
LEFT_OVER = "a section with another section's header"

_MARKS = re.compile(r"(?:^[ \t]*|(?<=\s))(?:[#>*_•·–—-][ \t]*|\(?\d{1,2}[.)][ \t]*|[IVX]{1,4}[.)][ \t]+)*$|$")
"""Markdown, bullets, numbering before a header; one mark at a time, as a run of marks has only one reading then."""
LINE = 200  # characters before a header that are looked at
_HEADER_LIKE = re.compile(r"^[ \t#>*_\d.)•-]*([^\W\d_][^\n:：.]{1,39}?)[*_]*[ \t]*[:：]", re.MULTILINE)
_SENTENCE_END = ".;!?)]:"


class Found(NamedTuple):
    """A header, or a signature, in a text."""

    start: int
    end: int  # where its section's text begins
    target: str


def split_by_headers(text: str, headers: Headers) -> Sections:
    """The sections of a report. Parts that lead to one section are joined in their order.

    A header begins a line and ends in a colon, a dash or the line, or stands in capitals before its text; or it
    follows the end of a sentence, or stands in capitals among lower case, and ends in a colon. Numbers, Markdown, a
    date or a remark in brackets may surround it. What precedes the first header, and what follows a signature, belongs
    to no section. RTF, HTML and the two characters ``\\n`` are read as the text that they stand for.
    """
    text = plain_text(text)
    parts: dict[str, list[str]] = {"findings": [], "impression": []}
    found = find_headers(text, headers)
    ends = [*(each.start for each in found[1:]), len(text)]
    for header, end in zip(found, ends, strict=False):
        if header.target in parts:
            parts[header.target].append(text[header.end : end].strip().rstrip("*_#").rstrip())
    return Sections(clean_text(" ".join(parts["findings"])), clean_text(" ".join(parts["impression"])))


def find_headers(text: str, headers: Headers) -> list[Found]:
    """Every header and signature of a text that ``plain_text`` gave, in order; linear in its length."""
    mixed = any(character.islower() for character in text)
    found: list[Found] = []
    for match in headers.pattern.finditer(bare(text)):
        start, stop = match.span("name")
        line = text.rfind("\n", 0, start) + 1
        before = text[max(line, start - LINE) : start]
        marks = _MARKS.search(before)
        assert marks is not None
        if _is_header(text[start:stop], match, text, lead=before[: marks.start()].strip(), mixed=mixed):
            found.append(Found(start - len(marks[0]), match.end(), headers.targets[key(match["name"])]))
    return found


def contains_header(section: str | None, headers: Headers) -> bool:
    """Whether a section still holds what looks like another section's header: a known word before a colon."""
    if section is None or (":" not in section and "：" not in section):
        return False
    return any(
        match["mark"] in (":", "：") and headers.targets[key(match["name"])] in ("findings", "impression")
        for match in headers.pattern.finditer(bare(section))
    )


def has_header(text: str, headers: Headers) -> bool:
    """Whether a report has a header that leads to its findings or its impression."""
    return any(each.target in ("findings", "impression") for each in find_headers(plain_text(text), headers))


def whole_text(text: str, headers: Headers) -> str | None:
    """The report as one text, up to its first signature."""
    text = plain_text(text)
    end = next((each.start for each in find_headers(text, headers) if each.target == SIGNATURE), len(text))
    return clean_text(text[:end])


def header_like(text: str) -> list[str]:
    """What begins a line and ends in a colon, as a reader would take it for a header; for messages."""
    return [" ".join(match[1].split()) for match in _HEADER_LIKE.finditer(plain_text(text))]


def _is_header(name: str, match: re.Match[str], text: str, *, lead: str, mixed: bool) -> bool:
    """Whether a known name is one here, by what stands before it on its line (``lead``) and after it."""
    begins, ends_sentence = not lead, lead[-1:] in _SENTENCE_END
    if match["signed"] is not None:
        return (begins or ends_sentence) and not name[0].islower()
    capitals = mixed and name.isupper() and len(name) > 3
    if match["mark"] in (":", "："):
        return begins or capitals or (ends_sentence and not name[0].islower())
    if not begins:
        return False
    alone = text[match.end() : match.end() + 1] in ("", "\n") and not name[0].islower()
    return alone or capitals or match["mark"] is not None
