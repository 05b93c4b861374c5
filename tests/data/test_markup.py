"""Text behind the markup and the escapes in which systems export reports."""

import pytest

from imitate.data.markup import plain_text
from imitate.data.section_labels import read_headers
from imitate.data.sections import split_by_headers


@pytest.mark.parametrize(
    "text",
    [
        "FINDINGS:&nbsp;Clear &amp; dry, &lt;5 mm.&nbsp;<br>IMPRESSION:&nbsp;Normal.",
        "FINDINGS:&nbsp;Clear &amp; dry, &lt;5 mm.\nIMPRESSION: Normal.",
        "&lt;p&gt;FINDINGS: Clear &amp;amp; dry, &amp;lt;5 mm.&lt;br&gt;IMPRESSION: Normal.&lt;/p&gt;",
        "FINDINGS: Clear & dry, <5 mm.\\.br\\IMPRESSION: Normal.\\.br\\",
        "FINDINGS: \\H\\Clear\\N\\ \\T\\ dry, <5 mm.\\X0D\\\\X0A\\IMPRESSION: Normal.",
        "FINDINGS: Clear & dry, <5 mm.~IMPRESSION: Normal.~",
        "<html><head><style>p {color: red}</style><title>Findings: x</title></head>"
        "<body><u>FINDINGS:</u> Clear &amp; dry, &lt;5 mm.<hr>IMPRESSION: Normal.</body></html>",
    ],
)
def test_sections_behind_markup(text: str) -> None:
    found = split_by_headers(text, read_headers())
    assert (found.findings, (found.impression or "").rstrip("~")) == ("Clear & dry, <5 mm.", "Normal.")


@pytest.mark.parametrize(
    "text", ["heart < 50%, > 2 cm, <5 mm", "~5 mm and ~ 3 mm", "R&D, A & B; C&amp", r"C:\Tmp\x", "AT&T;"]
)
def test_text_is_not_markup(text: str) -> None:
    assert plain_text(text) == text
