"""The findings and the impression of a MIMIC-CXR report, by the published rules."""

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from imitate.data.words import is_nothing

HEADER = re.compile(r"\n ([A-Z ()/,-]+):\s")  # the run holds no newline, so that searching is linear
PARAGRAPH = "\n \n"  # MIMIC-CXR starts every line with a space, also an empty one


class Sections(NamedTuple):
    """The sections of one report, whitespace normalised; None where missing, never blank."""

    findings: str | None = None
    impression: str | None = None
    last_paragraph: str | None = None  # the last resort of the published parser; pre-training does not use it


class Rules(NamedTuple):
    """The published facts about MIMIC-CXR's section names (``section_rules.json``, with its licence notice)."""

    names: dict[str, str]  # spelling -> section
    parts: list[str]  # a name that contains one of these is that section, first match
    views: list[str]  # a name that contains one of these, such as "portable", heads the findings
    custom_section: dict[str, str]  # study -> the misnamed section that holds its text
    custom_range: dict[str, tuple[int, int]]  # study -> characters that hold its text


@cache
def mimic_rules() -> Rules:
    facts = json.loads(files("imitate.data").joinpath("section_rules.json").read_text(encoding="utf-8"))
    return Rules(
        names=facts["exact_name_map"],
        parts=facts["substring_order"],
        views=facts["findings_like_substrings"],
        custom_section=facts["custom_section_by_study"],
        custom_range={study: (first, last) for study, (first, last) in facts["custom_char_range_by_study"].items()},
    )


def parse_sections(text: str, *, study: str | None = None, mode: Literal["clean", "paper"] = "clean") -> Sections:
    """Split a report in MIMIC-CXR's format by the published rules; linear in the length of the text.

    A header is a newline, a space, capitals, a colon and white space; the last section of a name counts. For 54
    ``study`` ids the publishers chose the text by hand: ``clean`` gives it as the impression, ``paper`` gives nothing,
    because the published table of sections lacks these studies. Neither reads a header on the very first line.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    rules, key = mimic_rules(), "s" + (study or "").removeprefix("s")
    custom = key in rules.custom_section or key in rules.custom_range
    if custom and mode != "clean":
        return Sections()
    if key in rules.custom_range:
        return Sections(impression=clean_text(text[slice(*rules.custom_range[key])]))
    found = dict(_sections(text, rules))
    if custom:
        return Sections(impression=clean_text(found.get(rules.custom_section[key])))
    return Sections(*(clean_text(found.get(name)) for name in Sections._fields))


def clean_text(value: Any) -> str | None:
    """Text with single spaces; None for whatever holds none: a blank, a missing value, the word nan."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return text if text and text.lower() != "nan" else None


def cell_text(value: Any) -> str | None:
    """``clean_text`` of a table's cell; None too for a database's word for nothing, and for marks alone such as ___."""
    text = clean_text(value) or ""
    return None if is_nothing(text) else text


def decode_report(data: bytes) -> str:
    """UTF-8 with or without a mark, UTF-16 with one, else Windows-1252; never raises."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _sections(text: str, rules: Rules) -> list[tuple[str, str]]:
    """Every section as (name, text), in order, without empty findings and impressions."""
    sections = [
        (name, body)
        for header, body in _cut(text)
        if (name := _name(header, rules)) not in ("findings", "impression") or body.strip()
    ]
    if not {"findings", "impression"} & {name for name, _ in sections}:
        name, body = sections.pop()
        first, mark, rest = body.partition(PARAGRAPH)
        sections += [(name, first), ("last_paragraph", rest)] if mark else [(name, body)]
    return sections


def _cut(text: str) -> list[tuple[str, str]]:
    """The raw headers with their texts, "" before the first. A header begins with the end of the line before it."""
    header = HEADER.search(text)
    if header is None:
        return [("", text)]
    found = [("", text[: header.start(1)])]
    while header is not None:
        start = header.end()
        following = HEADER.search(text, start)
        found.append((header[1], text[start : following.start() if following else len(text)]))
        header = following
    return found


def _name(header: str, rules: Rules) -> str:
    name = header.strip().lower()
    if name in rules.names:
        return rules.names[name]
    for part in rules.parts:
        if part in name:
            return part
    return "findings" if any(view in name for view in rules.views) else name
