"""The text that markup and the escapes of an export stand for."""

import re
import unicodedata
from html.parser import HTMLParser

_TAG = re.compile(
    r"</?(?:br|p|div|span|b|i|strong|em|ul|ol|li|table|tr|td|h\d|th|html|body|font)\b[^<>]*>", re.IGNORECASE
)


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
