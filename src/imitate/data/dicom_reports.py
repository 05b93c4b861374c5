"""The text of a report that a PACS keeps as a DICOM object: structured reports, and encapsulated CDA or plain text.

Every part becomes a header and its text, as a typed report has them, so that ``data.sections`` divides both alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from defusedxml import ElementTree

from imitate.data.reports import decode_report

if TYPE_CHECKING:
    from pydicom import Dataset

FINDINGS = {("DCM", "121070"), ("DCM", "121071"), ("LN", "59776-5"), ("LN", "18782-3")}
"""Concepts of DICOM PS3.16 (Findings, Finding) and LOINC, which PS3.20 uses."""
IMPRESSION = {("DCM", "121072"), ("DCM", "121073"), ("DCM", "121076"), ("DCM", "121077"), ("LN", "19005-8")}
"""Impressions, Impression, Conclusions, Conclusion; LOINC's impression."""
SECTIONS = ("Findings", "Impression")
TEXTS = ("text/plain", "text/rtf", "application/rtf", "text/html")
INLINE = ("content", "linkHtml", "sub", "sup")  # of CDA's narrative blocks
PDF = "report as PDF"
UNREAD = "report in an unknown form"


def report_text(dataset: Dataset) -> tuple[str | None, str]:
    """The report as a text with headers, and what is odd about it; None where there is no text to read."""
    if "ContentSequence" in dataset:
        parts = list(_items(dataset, ""))
        return "\n".join(f"{name}:\n{text}\n" if name else text for name, text in parts) or None, ""
    kind = str(dataset.get("MIMETypeOfEncapsulatedDocument", "")).lower()
    content: bytes = dataset.get("EncapsulatedDocument", b"") or b""
    content = content.rstrip(b"\0")
    if kind in ("text/xml", "application/xml", "text/cda+xml", "application/hl7-sda+xml"):
        return _clinical_document(content)
    if kind in TEXTS:
        return decode_report(content), ""
    return None, PDF if kind == "application/pdf" else UNREAD


def _items(item: Dataset, header: str) -> Iterator[tuple[str, str]]:
    """Header and text of every TEXT item below ``item``; one without a concept of its own has its container's."""
    for child in item.get("ContentSequence", ()):
        own = _concept(child)
        if child.get("ValueType") == "TEXT":
            text = str(child.get("TextValue", "")).strip()
            if text:
                yield (own if own in SECTIONS or not header else header), text
        else:
            yield from _items(child, own or header)


def _concept(item: Dataset) -> str:
    """The header that a concept stands for: Findings, Impression, or its own meaning."""
    codes: Any = item.get("ConceptNameCodeSequence") or ()
    for code in codes:
        key = str(code.get("CodingSchemeDesignator", "")), str(code.get("CodeValue", ""))
        if key in FINDINGS:
            return "Findings"
        if key in IMPRESSION:
            return "Impression"
        return str(code.get("CodeMeaning", "")).strip().rstrip(":")
    return ""


def _clinical_document(content: bytes) -> tuple[str | None, str]:
    """HL7 CDA: the title and the text of every section that holds text."""
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError):  # ValueError: what defusedxml refuses
        return None, UNREAD
    parts = []
    for section in root.iter():
        if _local(section.tag) != "section":
            continue
        inner = {_local(child.tag): child for child in section}
        text = _words(inner["text"]) if "text" in inner else ""
        if text:
            title = _words(inner["title"]) if "title" in inner else ""
            parts.append(f"{title.rstrip(':')}:\n{text}\n" if title else text)
    return "\n".join(parts) or None, ""


def _words(element: Any) -> str:
    """The text below an element: markup within a sentence joins its parts, every other element ends a word."""
    parts = [element.text or ""]
    for child in element:
        parts += [_words(child) if _local(child.tag) not in INLINE else "".join(child.itertext())]
        parts += ["" if _local(child.tag) in INLINE else " ", child.tail or ""]
    return " ".join("".join(parts).split())


def _local(tag: Any) -> str:
    return str(tag).rpartition("}")[2]
