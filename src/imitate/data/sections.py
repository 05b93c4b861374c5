"""The findings and the impression of a report in any house style, by the headers of its sections."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

from imitate.config import parse_yaml, read_yaml
from imitate.data.reports import Sections, clean_text, mimic_rules
from imitate.data.words import bare, folded
from imitate.errors import UserError

Target = Literal["findings", "impression", "other"]
SIGNATURE = "signature"  # where a section ends without another beginning
NO_HEADER = "no known section header"  # why a record is excluded, or noted where it is used nevertheless
LEFT_OVER = "a section with another section's header"

_MARKS = re.compile(r"(?:^[ \t]*|(?<=\s))(?:[#>*_•·–—-][ \t]*|\(?\d{1,2}[.)][ \t]*|[IVX]{1,4}[.)][ \t]+)*$|$")
"""Markdown, bullets, numbering before a header; one mark at a time, as a run of marks has only one reading then."""
LINE = 200  # characters before a header that are looked at
_REMARK = r"(?:[ \t]*\([^()\n]{1,60}\))?"  # IMPRESSION (PRELIMINARY):
_DAY = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}"
_TIME = r"(?:[ \t]+\d{1,2}[:.h]\d{2}(?:[ \t]*Uhr)?)?"
_DATE = rf"(?:[ \t]+(?:vom|of|from|du|del|on|am)?[ \t]*{_DAY}{_TIME})?"
_END = r"[*_]*"
_HEADER_LIKE = re.compile(r"^[ \t#>*_\d.)•-]*([^\W\d_][^\n:：.]{1,39}?)[*_]*[ \t]*[:：]", re.MULTILINE)
_TAG = re.compile(
    r"</?(?:br|p|div|span|b|i|strong|em|ul|ol|li|table|tr|td|h\d|th|html|body|font)\b[^<>]*>", re.IGNORECASE
)
_SENTENCE_END = ".;!?)]:"


class Headers(NamedTuple):
    """The headers of a house style: what each leads to, and the pattern that finds them."""

    targets: Mapping[str, str]  # by ``_key``: a Target, or SIGNATURE
    pattern: re.Pattern[str]


class Found(NamedTuple):
    """A header, or a signature, in a text."""

    start: int
    end: int  # where its section's text begins
    target: str


def read_headers(path: Path | None = None) -> Headers:
    """The headers of a house style, from YAML such as ``Befund: findings``; without a path, the built-in ones.

    The built-in headers are English, German, Spanish and French. Values are ``findings``, ``impression`` or ``other``
    (a header that ends a section); the built-in signatures end a section in any case. UserError for another value.
    """
    if path is None:
        return _built_in()
    values = read_yaml(path, holds="lines such as 'Befund: findings'")
    for header, target in values.items():
        if not isinstance(header, str) or not _key(header):
            raise UserError(f"{path}: header {header!r} is not text: put it in quotes")
        if target not in ("findings", "impression", "other"):
            raise UserError(f"{path}: {header!r} is assigned to {target!r}: choose findings, impression or other")
    if not {"findings", "impression"} & set(values.values()):
        raise UserError(f"{path}: no header is assigned to findings or impression")
    return _compiled({**{_key(header): target for header, target in values.items()}, **_signatures()})


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
            found.append(Found(start - len(marks[0]), match.end(), headers.targets[_key(match["name"])]))
    return found


def contains_header(section: str | None, headers: Headers) -> bool:
    """Whether a section still holds what looks like another section's header: a known word before a colon."""
    if section is None or (":" not in section and "：" not in section):
        return False
    return any(
        match["mark"] in (":", "：") and headers.targets[_key(match["name"])] in ("findings", "impression")
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


def plain_text(text: str) -> str:
    """The text that RTF, HTML or an export's escapes stand for, in the Unicode form C, its lines ended by newlines."""
    if text.lstrip().startswith("{\\rtf"):
        from striprtf.striprtf import rtf_to_text

        text = rtf_to_text(text, errors="ignore")
    elif _TAG.search(text):
        text = _Plain.read(text)
    for escape in ("\r\n", "\r", "\\r\\n", "\\n", "\u2028", "\u2029", "\x0b", "\x0c", "\x85"):
        text = text.replace(escape, "\n")
    return unicodedata.normalize("NFC", text.replace("\xa0", " "))


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


def _key(header: str) -> str:
    """A header as it is compared: without case, accents, spaces around and a last colon."""
    return folded(header).strip(":：*_ ")


def _spellings(header: str) -> list[str]:
    """The keys of a built-in header: umlauts are also written as two letters."""
    written = header.replace("ä", "ae").replace("ö", "oe").replace("ü", "ue")
    return [_key(header), _key(written)]


@cache
def _vocabulary() -> dict[str, dict[str, list[str]]]:
    text = files("imitate.data").joinpath("section_headers.yaml").read_text(encoding="utf-8")
    languages: dict[str, dict[str, list[str]]] = parse_yaml(text, where="section_headers.yaml")
    return languages


def _signatures() -> dict[str, str]:
    every = (each for language in _vocabulary().values() for each in language["signatures"])
    return {key: SIGNATURE for each in every for key in _spellings(each)}


@cache
def _built_in() -> Headers:
    published = {name: target for name, target in mimic_rules().names.items() if name != "preamble"}
    known = {
        _key(name): target if target in ("findings", "impression") else "other" for name, target in published.items()
    }
    for language in _vocabulary().values():
        for target in ("other", "findings", "impression"):
            known |= {key: target for each in language[target] for key in _spellings(each)}
    return _compiled(known | _signatures())


def _compiled(targets: Mapping[str, str]) -> Headers:
    def alternatives(names: Iterable[str]) -> str:
        longest_first = sorted(names, key=len, reverse=True)
        spaced = (r"[ \t]+".join(map(re.escape, name.split(" "))) for name in longest_first)
        return "|".join(spaced).replace("ss", "(?:ss|ß)")

    plain = alternatives(name for name, target in targets.items() if target != SIGNATURE)
    signed = alternatives(name for name, target in targets.items() if target == SIGNATURE)
    header = rf"(?P<name>(?P<signed>(?:{signed})(?!\w))|(?:{plain})(?!\w))"
    after = rf"{_END}{_DATE}{_REMARK}{_END}[ \t]*(?:(?P<mark>[:：]|[-–—](?=\s)){_END})?"
    return Headers(targets, re.compile(rf"(?<![\w/-]){header}{after}", re.IGNORECASE))


class _Plain(HTMLParser):
    """HTML as text: block elements end a line, cells of a table are apart."""

    BLOCKS = frozenset({"br", "p", "div", "li", "tr", "ul", "ol", "table", "h1", "h2", "h3", "h4", "h5", "h6"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in self.BLOCKS:
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.BLOCKS and tag != "br":
            self.parts.append("\n")

    @classmethod
    def read(cls, text: str) -> str:
        parser = cls()
        parser.feed(text)
        parser.close()
        return "".join(parser.parts)
