"""The headers of the sections of a report: the built-in ones in four languages, or those of a house style."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

from imitate.config import parse_yaml, read_yaml
from imitate.data.reports import mimic_rules
from imitate.data.words import folded
from imitate.errors import UserError

Target = Literal["findings", "impression", "other"]
SIGNATURE = "signature"  # where a section ends without another beginning
NAMING = "naming"  # what names somebody within a section: only its line belongs to none
TITLE = "title"  # belongs to no section, ends none
_REMARK = r"(?:[ \t]*\([^()\n]{1,60}\))?"  # IMPRESSION (PRELIMINARY):
_DAY = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}"
_TIME = r"(?:[ \t]+\d{1,2}[:.h]\d{2}(?:[ \t]*Uhr)?)?"
_DATE = rf"(?:[ \t]+(?:vom|of|from|du|del|on|am)?[ \t]*{_DAY}{_TIME})?"
_END = r"[*_=]*"
_RULE = r"(?:[ \t]*[=*_#~-]{2,}(?=[ \t]*(?:\n|$)))?"  # === FINDINGS ===
JOIN = re.compile(r"[ \t]*(?:[/&+,]|\b(?:and|und|u\.|y|e|et)(?=[ \t]))[ \t]*", re.IGNORECASE)


class Headers(NamedTuple):
    """The headers of a house style: what each leads to, and the pattern that finds them."""

    targets: Mapping[str, str]  # by ``key``: a Target, or SIGNATURE
    pattern: re.Pattern[str]
    electronic: frozenset[str]  # signatures anywhere in a line
    signers: frozenset[str]  # headers that are followed by who signed
    identity: frozenset[str]  # headers that are followed by who somebody is
    titles: frozenset[str]  # what is no header but a title within a report
    diagnoses: frozenset[str]  # headers of the referrer's diagnosis where they precede the findings


def read_headers(path: Path | None = None) -> Headers:
    """The headers of a house style, from YAML such as ``Befund: findings``; without a path, the built-in ones.

    The built-in headers are English, German, Spanish and French. Values are ``findings``, ``impression`` or ``other``
    (a header that ends a section); the built-in signatures end a section in any case. UserError for another value.
    """
    if path is None:
        return _built_in()
    values = read_yaml(path, holds="lines such as 'Befund: findings'")
    for header, target in values.items():
        if not isinstance(header, str) or not key(header):
            raise UserError(f"{path}: header {header!r} is not text: put it in quotes")
        if target not in ("findings", "impression", "other"):
            raise UserError(f"{path}: {header!r} is assigned to {target!r}: choose findings, impression or other")
    if not {"findings", "impression"} & set(values.values()):
        raise UserError(f"{path}: no header is assigned to findings or impression")
    return _compiled({key(header): target for header, target in values.items()})


def key(header: str) -> str:
    """A header as it is compared: without case, accents, spaces around and a last colon."""
    return folded(header).strip(":：*_ ")


def _spellings(header: str) -> list[str]:
    """The keys of a built-in header: umlauts are also written as two letters."""
    written = header.replace("ä", "ae").replace("ö", "oe").replace("ü", "ue")
    return [key(header), key(written)]


@cache
def _vocabulary() -> dict[str, dict[str, list[str]]]:
    text = files("imitate.data").joinpath("section_headers.yaml").read_text(encoding="utf-8")
    languages: dict[str, dict[str, list[str]]] = parse_yaml(text, where="section_headers.yaml")
    return languages


def _keys(kind: str) -> frozenset[str]:
    """The keys of one kind in all built-in languages."""
    every = (each for language in _vocabulary().values() for each in language[kind])
    return frozenset(key for each in every for key in _spellings(each))


@cache
def _built_in() -> Headers:
    published = {name: target for name, target in mimic_rules().names.items() if name != "preamble"}
    known = {
        key(name): target if target in ("findings", "impression") else "other" for name, target in published.items()
    }
    for target in ("other", "findings", "impression"):
        known |= dict.fromkeys(_keys(target), target)
    return _compiled(known, diagnoses=_keys("diagnoses"))


@cache
def words(kind: Literal["prior", "draft", "qualifiers", "tail"]) -> re.Pattern[str]:
    """What finds the words of one kind in all languages in a text without accents.

    ``qualifiers`` end the text before a header, ``tail`` begins the text after it.
    """

    def any_of(*kinds: str) -> str:
        return "|".join(word for language in _vocabulary().values() for each in kinds for word in language[each])

    some = any_of("qualifiers", "prior", "draft")
    if kind == "qualifiers":
        pattern = rf"(?:(?<![\w-])(?:{some})[ \t]+){{1,5}}$"
    elif kind == "tail":
        pattern = rf"(?:by|von|por|par)\b|(?:(?:of|for|in|on|from|at)[ \t]+)?(?:(?:the|this)[ \t]+)?(?:{some})\b"
    else:
        pattern = rf"\b(?:{any_of(kind)})\b"
    return re.compile(pattern, re.IGNORECASE)


def _compiled(given: Mapping[str, str], *, diagnoses: frozenset[str] = frozenset()) -> Headers:
    """The given headers, and what is built in about those who sign a report and whom it names."""

    def alternatives(names: Iterable[str]) -> str:
        longest_first = sorted(names, key=lambda name: (-len(name), name))
        spaced = (r"[ \t]+".join(map(re.escape, name.split(" "))) for name in longest_first)
        return "|".join(spaced).replace("ss", "(?:ss|ß)")

    electronic, signers, identity, titles = (
        _keys(kind) - given.keys() for kind in ("electronic", "signers", "identity", "titles")
    )
    signatures = dict.fromkeys(_keys("signatures") | electronic, SIGNATURE)
    targets = dict(sorted({**dict.fromkeys(signers | identity | titles, "other"), **given, **signatures}.items()))
    plain = alternatives(name for name, target in targets.items() if target != SIGNATURE)
    signed, sections = alternatives(signatures), alternatives(given)
    more = rf"(?P<more>(?:{JOIN.pattern}(?:{sections})(?!\w)){{0,3}})"
    header = rf"(?P<name>(?P<signed>(?:{signed})(?!\w))|(?:{plain})(?!\w)){more}"
    after = rf"{_END}{_DATE}{_REMARK}{_END}{_RULE}[ \t]*(?:(?P<mark>[:：]|[-–—](?=\s)|\][ \t]*[:：]?){_END})?"
    pattern = re.compile(rf"(?<![\w-])(?<!\w/){header}{after}", re.IGNORECASE)
    return Headers(targets, pattern, electronic, signers, identity, titles, diagnoses)
