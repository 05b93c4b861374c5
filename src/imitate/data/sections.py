"""The findings and the impression of a report in any house style, by the headers of its sections."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from imitate.data.markup import plain_text
from imitate.data.reports import Sections, clean_text
from imitate.data.section_labels import NAMING, SIGNATURE, Headers, key
from imitate.data.words import bare

NO_HEADER = "no known section header"  # why a record is excluded, or noted where it is used nevertheless
LEFT_OVER = "a section with another section's header"

_MARKS = re.compile(r"(?:^[ \t]*|(?<=\s))(?:[#>*_•·–—-][ \t]*|\(?\d{1,2}[.)][ \t]*|[IVX]{1,4}[.)][ \t]+)*$|$")
"""Markdown, bullets, numbering before a header; one mark at a time, as a run of marks has only one reading then."""
LINE = 200  # characters before a header that are looked at
_HEADER_LIKE = re.compile(r"^[ \t#>*_\d.)•-]*([^\W\d_][^\n:：.]{1,39}?)[*_]*[ \t]*[:：]", re.MULTILINE)
_LINE = re.compile(r"(?:[ \t]*\n)?[^\n]*")
_SENTENCE_END = ".;!?)]:"
_RULES = "([<{|/*_=~–—-"  # after which a signature may stand within a line
_REPORT_WAS = re.compile(
    r"\b(?:(?:this|the|final|above|preliminary|radiology|report|document|study|exam(?:ination)?|and|has|have|been|was|is|"
    r"reviewed|read|dictated|dies\w*|der|befund\w*|bericht|wurde|und|este|el|la|informe|ha|sido|fue|ce|le|"
    r"compte[ -]rendu|a|été|est)[ \t]+){1,8}$",
    re.IGNORECASE,
)
_WORD, _GAP = r"[A-Z][\w'’-]*\.?", r"(?:,[ \t]*|[ \t]+)"
_NAMES = rf"{_WORD}(?:{_GAP}(?:(?:von|van|de|der|del|la|le)[ \t]+)?{_WORD}){{0,4}}"
_TITLE = (
    r"(?i:dr|dra|drs|prof|docteur|doctora?|dipl|priv\.?-doz|pd)\b\.?(?i:-med\.)?"
    r"(?i:[ \t]+(?:dr|prof|med|habil|univ)\b\.?){0,3}[ \t]+"
)
_DEGREE = r"(?:M\.?D|D\.O|Ph\.?D|M\.?B\.?B\.?S|F\.?R\.?C\.?R|FRANZCR|FACR|FRCPC|MPH|MSc)\b\.?"
_WHEN = r"(?:[ \t,;-]*(?:on|at|am|um|le|el|the|a)?[ \t]*\d[\d./:-]{0,12}(?:[ \t]*(?:AM|PM|Uhr|h)\b)?){0,3}"
_PERSON = re.compile(
    rf"(?<![\w.'’-])(?:{_TITLE}{_NAMES}|{_NAMES}{_GAP}{_DEGREE})(?:{_GAP}{_DEGREE}){{0,3}}"
    rf"{_WHEN}[ \t]*[\])>}}*_/.=~-]*[ \t]*$(?!\n[ \t]*[a-z]+[ \t]+[a-z])",
    re.MULTILINE,
)
_ADDRESSED = re.compile(
    r"(?:^|\s)(?:with|by|to|and|from|for|of|per|notified|called|contacted|informed|mit|von|an|und|durch|con|por|al|a|y|"
    r"avec|par|au|et|(?:drs?|dra|prof|mrs?|ms|herrn?|frau|m|mme|sra?)\.?|[a-z]\.)$",
    re.IGNORECASE,
)
"""What precedes a name within a sentence."""


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
    section = ""
    for header, end in zip(found, ends, strict=False):
        section = section if header.target == NAMING else header.target
        if section in parts:
            parts[section].append(text[header.end : end].strip().rstrip("*_#").rstrip())
    return Sections(clean_text(" ".join(parts["findings"])), clean_text(" ".join(parts["impression"])))


def find_headers(text: str, headers: Headers) -> list[Found]:
    """Every header and signature of a text that ``plain_text`` gave, in order; linear in its length."""
    mixed = any(character.islower() for character in text)
    plain = bare(text)
    found: list[Found] = []
    for match in headers.pattern.finditer(plain):
        start, stop = match.span("name")
        if found and start < found[-1].end:
            continue  # within a line that names somebody
        name, known = text[start:stop], key(match["name"])
        before = _line_before(text, start)
        if match["signed"] is not None:
            lead, said = _before_signature(before)
            if known in headers.electronic or _is_signature(name, match, before, lead, said=said):
                found.append(Found(start - len(before) + len(lead), match.end(), SIGNATURE))
            continue
        lead = _without_marks(before)
        begin = start - len(before) + len(lead)
        if not _is_header(name, match, text, lead=lead.strip(), mixed=mixed):
            continue
        if known not in headers.identity:
            target = SIGNATURE if known in headers.signers else headers.targets[known]
            found.append(Found(begin, match.end(), target))
        elif match["mark"] in (":", "："):
            found.append(Found(begin, _line_end(text, match.end()), NAMING))
    return _apart([*found, *_persons(text, plain)])


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
    """The report as one text, up to the first signature below it, without lines that only name somebody."""
    text = plain_text(text)
    parts, position = list[str](), 0
    for each in find_headers(text, headers):
        if each.target in (SIGNATURE, NAMING):
            parts.append(text[position : each.start])
            position = each.end if each.target == NAMING else _line_end(text, each.end)
            if each.target == SIGNATURE and clean_text(" ".join(parts)):
                return clean_text(" ".join(parts))
    return clean_text(" ".join([*parts, text[position:]]))


def header_like(text: str) -> list[str]:
    """What begins a line and ends in a colon, as a reader would take it for a header; for messages."""
    return [" ".join(match[1].split()) for match in _HEADER_LIKE.finditer(plain_text(text))]


def _is_header(name: str, match: re.Match[str], text: str, *, lead: str, mixed: bool) -> bool:
    """Whether a known name is one here, by what stands before it on its line (``lead``) and after it."""
    begins, ends_sentence = not lead, lead[-1:] in _SENTENCE_END
    capitals = mixed and name.isupper() and len(name) > 3
    if match["mark"] in (":", "："):
        return begins or capitals or (ends_sentence and not name[0].islower())
    if not begins:
        return False
    alone = text[match.end() : match.end() + 1] in ("", "\n") and not name[0].islower()
    return alone or capitals or match["mark"] is not None


def _is_signature(name: str, match: re.Match[str], before: str, lead: str, *, said: bool) -> bool:
    """Whether it begins a line, or follows a sentence or a rule: with a capital, a colon, or as what a report was."""
    written = not name[0].islower() or said or match["mark"] in (":", "：")
    ruled = before[len(lead) :].lstrip()[:1] in set(_RULES)
    return written and (not lead.strip() or lead[-1] in _SENTENCE_END or ruled)


def _before_signature(before: str) -> tuple[str, bool]:
    """What stands before a signature, without rules and "This report was", and whether there was the latter."""
    said = _REPORT_WAS.search(before, max(0, len(before) - 80))
    lead = before[: said.start()] if said else before
    return _without_marks(lead.rstrip(" \t" + _RULES)), said is not None


def _without_marks(before: str) -> str:
    marks = _MARKS.search(before)
    assert marks is not None
    return before[: marks.start()]


def _persons(text: str, plain: str) -> Iterator[Found]:
    """Names with a title or a degree that end a line and begin it or follow a sentence; not those in a sentence."""
    for match in _PERSON.finditer(plain):
        line = _line_before(text, match.start())
        lead = line.rstrip(" \t" + _RULES)
        before = lead.strip() or text[max(0, match.start() - LINE) : match.start()].rstrip()
        if (not lead.strip() or lead[-1] in _SENTENCE_END) and not _ADDRESSED.search(before):
            yield Found(match.start() - len(line) + len(lead), match.end(), SIGNATURE)


def _apart(found: list[Found]) -> list[Found]:
    """In order, without what begins within another."""
    kept: list[Found] = []
    for each in sorted(found):
        if not kept or each.start >= kept[-1].end:
            kept.append(each)
    return kept


def _line_before(text: str, position: int) -> str:
    line = text.rfind("\n", 0, position) + 1
    return text[max(line, position - LINE) : position]


def _line_end(text: str, position: int) -> int:
    """The end of the line, or of the next one where nothing follows on this."""
    line = _LINE.match(text, position)
    assert line is not None
    return line.end()
