"""The text that markup and the escapes of an export stand for."""

import re
import unicodedata
from html import unescape
from html.parser import HTMLParser

from imitate.data.dicom_reports import clinical_document

_TAG = re.compile(
    r"</?(?:br|p|div|span|b|i|u|strong|em|ul|ol|li|table|tbody|thead|tr|td|h\d|th|hr|pre|sup|sub|small|big|center|html|head|"
    r"title|style|script|body|font)\b[^<>]*>",
    re.IGNORECASE,
)
_ENTITY = re.compile(
    r"&(?:nbsp|lt|gt|amp|quot|apos|deg|micro|szlig|[A-Za-z](?:grave|acute|uml|circ|cedil|tilde|ring|slash)|#\d{1,6}|"
    r"#[xX][\da-fA-F]{1,5});"
)
_HL7 = re.compile(
    r"\\(?:(?P<line>\.br|\.sp\d*|\.ce|X0[AD](?:0A)?)|(?P<mark>[FSTRE])|[HN]|\.(?:in|ti|sk|fi|nf)[+-]?\d*)\\"
)
_MARKS = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}
_REPEATED = re.compile(r"(?<=[.:;!?])~|~(?=[^\W\d_]|~)")  # HL7's next line; not in ~5 mm


def plain_text(text: str) -> str:
    """The text that markup or an export's escapes stand for, in the Unicode form C, its lines ended by newlines.

    Markup is RTF, HTML, also escaped, HL7 CDA, and the escapes of HL7 version 2.
    """
    start = text[:200].lstrip("\ufeff \t\r\n")
    if start.startswith("{\\rtf"):
        from striprtf.striprtf import rtf_to_text

        text = rtf_to_text(text, errors="ignore")
    elif start.startswith(("<?xml", "<ClinicalDocument")):
        text = clinical_document(text.strip("\ufeff \t\r\n"))[0] or text
    if _TAG.search(text):
        text = _Plain.read(text)
    if _ENTITY.search(text):
        text = unescape(text)
        text = _Plain.read(text) if _TAG.search(text) else text
    if _HL7.search(text):
        text = _HL7.sub(lambda found: "\n" if found["line"] else _MARKS.get(found["mark"], ""), text)
    if "~" in text and "\n" not in text:
        text = _REPEATED.sub("\n", text)
    for escape in ("\r\n", "\r", "\\r\\n", "\\n", "\u2028", "\u2029", "\x0b", "\x0c", "\x85"):
        text = text.replace(escape, "\n")
    return unicodedata.normalize("NFC", text.replace("\xa0", " "))


class _Plain(HTMLParser):
    """HTML as text: block elements end a line, cells of a table are apart."""

    BLOCKS = frozenset(
        {"br", "hr", "pre", "p", "div", "li", "tr", "ul", "ol", "table", "h1", "h2", "h3", "h4", "h5", "h6"}
    )

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden = ""  # the element whose text is not shown

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in ("style", "script", "title"):
            self.hidden = tag
        elif tag in self.BLOCKS:
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag == self.hidden:
            self.hidden = ""
        if tag in self.BLOCKS - {"br", "hr"}:
            self.parts.append("\n")

    @classmethod
    def read(cls, text: str) -> str:
        parser = cls()
        parser.feed(text)
        parser.close()
        return "".join(parser.parts)
