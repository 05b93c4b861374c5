"""The findings and the impression of a report in any house style, by the headers of its sections."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from imitate.data.markup import plain_text
from imitate.data.reports import Sections, clean_text
from imitate.data.section_labels import JOIN, NAMING, SIGNATURE, TITLE, Headers, key, words
from imitate.data.words import bare

NO_HEADER = "no known section header"  # why a record is excluded, or noted where it is used nevertheless
EXCLUDED_TEXT = "text in an unknown section excluded"
LEFT_OVER = "a section with another section's header"

_MARKS = re.compile(
    r"(?:^[ \t]*(?:[A-Ha-h][.)][ \t]+)?|(?<=\s))"
    r"(?:[#>*_•·=\"\[/–—-][ \t]*|\(?\d{1,2}[.)][ \t]*|(?<=\.)\d{1,2}[ \t]+|[IVX]{1,4}[.)][ \t]+)*$|$"
)
"""Markdown, bullets, numbering before a header; one mark at a time, as a run of marks has only one reading then."""
LINE = 200  # characters before a header that are looked at
_HEADER_LIKE = re.compile(r"^[ \t#>*_\d.)•-]*([^\W\d_][^\n:：.]{1,39}?)[*_]*[ \t]*[:：]", re.MULTILINE)
_COLONS = (":", "：", "]:", "]：")
_CAPITALISED = re.compile(r"(?:(?<!\S)[A-Z][\w'’/&-]*[ \t]+){1,5}$")
_CAPITALS = re.compile(r"(?:(?<!\S)[A-Z][A-Z\d'’/&-]*[ \t]+){1,5}$")
_NEGATED = re.compile(r"\b(?:no|not|without|kein\w*|ohne|sin|pas|sans|aucun\w*)\b", re.IGNORECASE)
_TAIL = re.compile(r",?[ \t]+((?:(?i:drs?\.)|[^\n:：.;!?]){1,60}?)[*_]*[ \t]*[:：][*_]*")
_COMPARED = re.compile(
    r"\b(?:compared|(?:in|by|im|en|par) (?:comparison|vergleich|comparacion|comparaison)|since|than|versus|vs|"
    r"unchanged|changes?)\b",
    re.IGNORECASE,
)
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
    draft: bool = False  # another text of this section replaces it


def split_by_headers(text: str, headers: Headers) -> Sections:
    """The sections of a report. Parts that lead to one section are joined in their order.

    A header begins a line and ends in a colon, a dash or the line, or stands in capitals before its text; or it
    follows the end of a sentence, or stands in capitals among lower case, and ends in a colon. Numbers, Markdown, a
    date or a remark in brackets may surround it. What precedes the first header, and what follows a signature, belongs
    to no section. RTF, HTML and the two characters ``\\n`` are read as the text that they stand for.
    """
    text = plain_text(text)
    parts: dict[str, list[tuple[bool, str]]] = {"findings": [], "impression": []}
    found = find_headers(text, headers)
    ends = [*(each.start for each in found[1:]), len(text)]
    section, draft, whole_is_draft = "", False, False
    for header, end in zip(found, ends, strict=False):
        start = header.end
        if header.target == TITLE:
            whole_is_draft = header.draft
        elif header.target == NAMING:
            start = _line_end(text, start, end)
        else:
            section, draft = header.target, header.draft or whole_is_draft
        if section in parts:
            parts[section].append((draft, text[start:end].strip().rstrip("*_#").rstrip()))
    return Sections(_final(parts["findings"]), _final(parts["impression"]))


def find_headers(text: str, headers: Headers) -> list[Found]:
    """Every header and signature of a text that ``plain_text`` gave, in order; linear in its length."""
    mixed = any(character.islower() for character in text)
    plain = bare(text)
    found: list[Found] = []
    diagnoses: list[Found] = []
    for match in headers.pattern.finditer(plain):
        before = _line_before(plain, match.start())
        known = key(match["name"])
        if match["signed"] is not None:
            lead, said = _before_signature(before)
            if known in headers.electronic or _is_signature(match, before, lead, said=said):
                _append(found, Found(match.start() - len(before) + len(lead), match.end(), SIGNATURE))
            continue
        header = _header(match, before, headers, mixed=mixed)
        if header is None:
            continue
        if header.target == "findings":
            if diagnoses:
                found = [each._replace(target="other") if each in diagnoses else each for each in found]
                diagnoses.clear()
        elif known in headers.diagnoses:
            diagnoses.append(header)
        _append(found, header)
    return _apart([*found, *_persons(text, plain)])


def contains_header(section: str | None, headers: Headers) -> bool:
    """Whether a section still holds what looks like another section's header: a known word before a colon."""
    if section is None or (":" not in section and "：" not in section):
        return False
    return any(
        match["mark"] in _COLONS and headers.targets[key(match["name"])] in ("findings", "impression")
        for match in headers.pattern.finditer(bare(section))
    )


def has_header(text: str, headers: Headers) -> bool:
    """Whether a report has a header that leads to its findings or its impression."""
    return any(each.target in ("findings", "impression") for each in find_headers(plain_text(text), headers))


def has_unknown_section(text: str, headers: Headers) -> bool:
    """Whether text that no section uses stands behind an unknown header: more than three words of it."""
    text = plain_text(text)
    found = find_headers(text, headers)
    ends = [each.start for each in found]
    unused = [(0, ends[0] if ends else len(text))]
    unused += [
        (each.end, end) for each, end in zip(found, [*ends[1:], len(text)], strict=False) if each.target == "other"
    ]
    for start, end in unused:
        for match in _HEADER_LIKE.finditer(text, start, end):
            line = text[match.start() : match.start() + LINE]
            if text[match.start() - 1 : match.start()] in ("", "\n") and len(line.partition(":")[2].split()) > 3:
                return True
    return False


def whole_text(text: str, headers: Headers) -> str | None:
    """The report as one text, up to the first signature below it, without lines that only name somebody."""
    text = plain_text(text)
    parts, position = list[str](), 0
    found = find_headers(text, headers)
    ends = [*(each.start for each in found[1:]), len(text)]
    for each, end in zip(found, ends, strict=False):
        if each.target in (SIGNATURE, NAMING, TITLE):
            parts.append(text[position : each.start])
            position = each.end if each.target == TITLE else _line_end(text, each.end, end)
            if each.target == SIGNATURE and clean_text(" ".join(parts)):
                return clean_text(" ".join(parts))
    return clean_text(" ".join([*parts, text[position:]]))


def header_like(text: str) -> list[str]:
    """What begins a line and ends in a colon, as a reader would take it for a header; for messages."""
    return [" ".join(match[1].split()) for match in _HEADER_LIKE.finditer(plain_text(text))]


def _header(match: re.Match[str], before: str, headers: Headers, *, mixed: bool) -> Found | None:
    """The header that a known name is here, with the words around it, by what stands before and after it."""
    name, known, end = match["name"], key(match["name"]), match.end()
    lead, qualifiers = _without_marks(before), ""
    if headers.targets[known] in ("findings", "impression"):
        lead, qualifiers = _qualifiers(lead, name, mixed=mixed)
    begins, ends_sentence = not lead.strip(), lead.rstrip()[-1:] in _SENTENCE_END
    capitals = mixed and name.isupper() and len(name) > 3
    tail = None if match["mark"] else _TAIL.match(match.string, match.end("more"))
    if tail is not None and _belongs(tail[1], capitals=capitals):
        end = tail.end()
    colon = match["mark"] in _COLONS or end != match.end()
    if colon:
        is_one = begins or capitals or (ends_sentence and not name[0].islower())
    else:
        alone = match.string[end : end + 1] in ("", "\n") and not name[0].islower()
        alone = alone and (not qualifiers or name.isupper() or words("qualifiers").search(qualifiers) is not None)
        is_one = begins and (alone or capitals or match["mark"] is not None)
    if not is_one or (known in headers.identity and not colon):
        return None
    around = f"{qualifiers} {match.string[match.end('more') : end]}"
    draft = _search("draft", f"{known} {around}")
    return Found(match.start() - len(before) + len(lead), end, _target(match, around, headers), draft)


def _target(match: re.Match[str], around: str, headers: Headers) -> str:
    known = key(match["name"])
    for kind, target in ((headers.identity, NAMING), (headers.titles, TITLE), (headers.signers, SIGNATURE)):
        if known in kind:
            return target
    if _search("prior", around) and not _COMPARED.search(around):
        return "other"
    joined = {headers.targets[known], *(headers.targets.get(key(each)) for each in JOIN.split(match["more"]))}
    return next((target for target in ("impression", "findings") if target in joined), headers.targets[known])


def _qualifiers(lead: str, name: str, *, mixed: bool) -> tuple[str, str]:
    """What stands before a header, and the words that belong to it: RADIOLOGICAL IMPRESSION, Prior findings."""
    patterns = [words("qualifiers")]
    if mixed and not name[0].islower():
        patterns.append(_CAPITALS if name.isupper() else _CAPITALISED)
    for pattern in patterns:
        found = pattern.search(lead)
        outer = _without_marks(lead[: found.start()]).rstrip() if found else "x"
        ends = not outer or (outer[-1] in _SENTENCE_END and pattern is not _CAPITALISED)
        if found and ends and not _NEGATED.search(found[0]):
            return lead[: len(outer)], found[0]
    return lead, ""


def _belongs(tail: str, *, capitals: bool) -> bool:
    """Whether these words between a name and a colon belong to it: of the chest, BY DR. X, of prior image."""
    earlier = _search("prior", tail) and not _COMPARED.search(tail)
    return earlier or (capitals and tail.isupper()) or words("tail").match(tail) is not None


def _search(kind: Literal["prior", "draft"], text: str) -> bool:
    return words(kind).search(text) is not None


def _final(parts: list[tuple[bool, str]]) -> str | None:
    """The text of a section; its drafts where there is nothing else."""
    final = [text for draft, text in parts if not draft and text]
    return clean_text(" ".join(final or [text for _, text in parts]))


def _is_signature(match: re.Match[str], before: str, lead: str, *, said: bool) -> bool:
    """Whether it begins a line, or follows a sentence or a rule: with a capital, a colon, or as what a report was."""
    written = not match["name"][0].islower() or said or match["mark"] in _COLONS
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
        if (not lead.strip() or lead[-1] in ".;!?)]") and not _ADDRESSED.search(before):
            yield Found(match.start() - len(line) + len(lead), match.end(), SIGNATURE)


def _append(found: list[Found], header: Found) -> None:
    while found and found[-1].start >= header.start:
        found.pop()  # COMPARISON of COMPARISON FINDINGS
    found.append(header)


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


def _line_end(text: str, position: int, stop: int) -> int:
    """The end of the line, or of the next one where nothing follows on this; not after ``stop``."""
    line = _LINE.match(text, position, stop)
    assert line is not None
    return line.end()
