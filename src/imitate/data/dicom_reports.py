"""The text of a report that a PACS keeps as a DICOM object: structured reports, and encapsulated CDA or plain text.

Every part becomes a header and its text, as a typed report has them, so that ``data.sections`` divides both alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from defusedxml import ElementTree

from imitate.data.reports import decode_report
from imitate.data.words import bare

if TYPE_CHECKING:
    from pydicom import Dataset

FINDINGS = {("DCM", "121070"), ("DCM", "121071"), ("LN", "59776-5"), ("LN", "18782-3")}
"""Concepts of DICOM PS3.16 (Findings, Finding) and LOINC, which PS3.20 uses."""
IMPRESSION = {("DCM", "121072"), ("DCM", "121073"), ("DCM", "121076"), ("DCM", "121077"), ("LN", "19005-8")}
"""Impressions, Impression, Conclusions, Conclusion; LOINC's impression."""
ELSEWHERE = {
    *(("DCM", f"1210{number}") for number in (60, 62, 64, 65, 66, 68, 69, 74, 75)),
    *(("DCM", f"1211{number}") for number in ("09", 10)),
    *(("LN", code) for code in ("11329-0", "18785-6", "18783-0", "18834-2", "55114-3", "55115-0", "55111-9")),
}
"""History, request, procedures, previous findings, recommendations, indications: what is below them is theirs."""
CONTEXT = ("HAS OBS CONTEXT", "HAS ACQ CONTEXT", "HAS CONCEPT MOD")
_EARLIER = re.compile(
    r"\b(?:prior|previous|past|vor(?:befund|untersuchung|aufnahme)|previ[oa]s?|anterieur|precedent)", re.I
)
LOINC = "2.16.840.1.113883.6.1"
SECTIONS = ("Findings", "Impression")
TEXTS = ("text/plain", "text/rtf", "application/rtf", "text/html")
INLINE = ("content", "linkHtml", "sub", "sup")  # of CDA's narrative blocks
PDF = "report as PDF"
UNREAD = "report in an unknown form"


def report_text(dataset: Dataset) -> tuple[str | None, str]:
    """The report as a text with headers, and what is odd about it; None where there is no text to read."""
    if "ContentSequence" in dataset:
        return _joined(_items(dataset, "")), ""
    kind = str(dataset.get("MIMETypeOfEncapsulatedDocument", "")).lower()
    content: bytes = dataset.get("EncapsulatedDocument", b"") or b""
    content = content.rstrip(b"\0")
    if kind in ("text/xml", "application/xml", "text/cda+xml", "application/hl7-sda+xml"):
        return clinical_document(content)
    if kind in TEXTS:
        return decode_report(content), ""
    return None, PDF if kind == "application/pdf" else UNREAD


class _Part(NamedTuple):
    header: str
    text: str
    elsewhere: bool = False


def _joined(parts: Iterable[_Part]) -> str | None:
    """What is coded as findings or impression comes last, what belongs elsewhere first: neither can enter the other."""
    ordered = sorted(parts, key=lambda part: (not part.elsewhere, part.header in SECTIONS))
    return "\n".join(f"{part.header}:\n{part.text}\n" if part.header else part.text for part in ordered) or None


def _items(item: Dataset, header: str, *, elsewhere: bool = False) -> Iterator[_Part]:
    """The parts below ``item``; one without a concept of its own has its container's.

    Numbers and codes count within findings and impression, with what qualifies them, such as their absence. Whatever is
    below an earlier or a requested examination belongs to it.
    """
    for child in item.get("ContentSequence", ()):
        if child.get("RelationshipType") in CONTEXT:
            continue
        own, away = _concept(child)
        named = header if elsewhere or (header and own not in SECTIONS and not away) else own
        kind = child.get("ValueType")
        if kind == "TEXT" and (text := str(child.get("TextValue", "")).strip()):
            yield _Part(named, text, elsewhere or away)
        elif kind in ("NUM", "CODE") and named in SECTIONS and not elsewhere and (text := _value(child)):
            label = "" if own in SECTIONS or not own else f"{own} "
            yield _Part(named, f"{label}{text}.")
        elif kind not in ("TEXT", "NUM", "CODE"):
            yield from _items(child, header if elsewhere else own or header, elsewhere=elsewhere or away)


def _value(item: Dataset) -> str:
    """A number with its unit, or a code's meaning, and what qualifies it."""
    words = []
    for measured in item.get("MeasuredValueSequence") or ():
        units = measured.get("MeasurementUnitsCodeSequence") or ()
        words += [str(measured.get("NumericValue", "")), *(_unit(each) for each in units)]
    words += [str(code.get("CodeMeaning", "")) for code in item.get("ConceptCodeSequence") or ()]
    below = [_value(child) for child in item.get("ContentSequence") or () if child.get("ValueType") in ("CODE", "NUM")]
    return ", ".join(each for each in (" ".join(filter(None, words)), *below) if each)


def _unit(code: Dataset) -> str:
    value = str(code.get("CodeValue", ""))
    return "" if value in ("1", "{}") else value


def _concept(item: Dataset) -> tuple[str, bool]:
    """The header that a concept stands for: Findings, Impression, or its own meaning; whether it is elsewhere."""
    codes: Any = item.get("ConceptNameCodeSequence") or ()
    for code in codes:
        key = str(code.get("CodingSchemeDesignator", "")), str(code.get("CodeValue", ""))
        return _header(key, str(code.get("CodeMeaning", "")))
    return "", False


def _header(key: tuple[str, str], meaning: str) -> tuple[str, bool]:
    if key in FINDINGS | IMPRESSION:
        return "Findings" if key in FINDINGS else "Impression", False
    name = meaning.strip().rstrip(":").rstrip()
    return name, key in ELSEWHERE or _EARLIER.search(bare(name)) is not None


def clinical_document(content: bytes | str) -> tuple[str | None, str]:
    """HL7 CDA: the header, by its LOINC code or its title, and the text of every section that holds text."""
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError):  # ValueError: what defusedxml refuses
        return None, UNREAD
    return _joined(_narrative(root, "")), ""


def _narrative(element: Any, title: str, *, elsewhere: bool = False) -> Iterator[_Part]:
    for child in element:
        if _local(child.tag) != "section":
            yield from _narrative(child, title, elsewhere=elsewhere)
            continue
        inner = {_local(each.tag): each for each in child}
        coded = inner["code"].attrib if "code" in inner else {}
        scheme = "LN" if coded.get("codeSystem") in (None, LOINC) else ""
        own, away = _header((scheme, coded.get("code", "")), _words(inner["title"]) if "title" in inner else "")
        named = title if elsewhere else own or title
        text = _words(inner["text"]) if "text" in inner else ""
        if text:
            yield _Part(named, text, elsewhere or away)
        yield from _narrative(child, named, elsewhere=elsewhere or away)


def _words(element: Any) -> str:
    """The text below an element: markup within a sentence joins its parts, every other element ends a word."""
    parts = [element.text or ""]
    for child in element:
        parts += [_words(child) if _local(child.tag) not in INLINE else "".join(child.itertext())]
        parts += ["" if _local(child.tag) in INLINE else " ", child.tail or ""]
    return " ".join("".join(parts).split())


def _local(tag: Any) -> str:
    return str(tag).rpartition("}")[2]
