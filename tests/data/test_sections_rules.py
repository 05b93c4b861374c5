"""The rules that distinguish headers from words, and markup from text, one by one."""

import string

import pytest

from imitate.data.markup import plain_text
from imitate.data.section_labels import read_headers
from imitate.data.sections import (
    LEFT_OVER,
    NO_HEADER,
    contains_header,
    has_header,
    header_like,
    split_by_headers,
    whole_text,
)

HEADERS = read_headers()


def findings(text: str) -> str | None:
    return split_by_headers(text, HEADERS).findings


def impression(text: str) -> str | None:
    return split_by_headers(text, HEADERS).impression


# What stands before a header


@pytest.mark.parametrize("end", ".;!?)]:")
def test_a_header_within_a_line_follows_the_end_of_a_sentence(end: str) -> None:
    assert findings(f"Chest of today{end} Findings: clear") == findings(f"Chest{end} Findings：clear") == "clear"
    assert findings(f"Chest of today{end} findings: clear") is None  # a word, not a header


@pytest.mark.parametrize("end", [*string.ascii_letters, ",", "-", "/", "1"])
def test_no_header_follows_other_characters(end: str) -> None:
    assert findings(f"Chest of today {end} Findings: clear") is None


@pytest.mark.parametrize("length", [5, 15, 100, 1000])
def test_a_line_of_any_length_holds_both_sections(length: int) -> None:
    seen = " ".join(["No effusion."] * length)
    found = split_by_headers(f"Findings: {seen} Impression: Normal.", HEADERS)
    assert (found.findings, found.impression) == (seen, "Normal.")
    assert impression(f"Findings: {seen[:-1]} Impression: Normal.") is None  # no sentence ends before it


@pytest.mark.parametrize("marks", ["", "# ", "- ", "**", "1. ", "(2) ", "IV. ", "> > ", "\t", " " * 150, "#" * 150])
def test_marks_before_a_header_are_not_text(marks: str) -> None:
    for before in ("Findings: clear\n", "\nFindings: clear\n"):
        found = split_by_headers(f"{before}{marks}Impression: normal", HEADERS)
        assert (found.findings, found.impression) == ("clear", "normal")


def test_200_characters_before_a_header_are_looked_at() -> None:
    assert impression("x" + " " * 199 + "Impression: normal") is None
    assert impression("x" + " " * 200 + "Impression: normal") == "normal"


# What stands after a header


@pytest.mark.parametrize("mark", [":", " :", "：", " -", " –", " —", "**:", ":**", "** :_", " (draft):", " 3.4.2021:"])
def test_a_colon_or_a_dash_ends_a_header(mark: str) -> None:
    assert findings(f"Findings{mark} all is clear") == "all is clear"
    assert findings(f"Findings{mark.strip(':：*_ -–—')} of today is clear") is None


def test_a_header_may_stand_alone_on_its_line() -> None:
    assert findings("Findings\nclear") == "clear" and impression("Findings\nclear\nImpression") is None
    for text in ("Findings are stable\nImpression: normal", "findings\nare stable", "The Findings\nare stable"):
        assert findings(text) is None
    assert findings("Findings -clear") is None  # a dash within a word


def test_capitals_are_a_header_among_lower_case() -> None:
    assert findings("FINDINGS clear lungs") == findings("Chest FINDINGS: clear lungs") == "clear lungs"
    assert findings("FINDINGS CLEAR LUNGS") is None and findings("Chest FINDINGS clear lungs") is None
    assert impression("Findings: Cœur normal AVIS: Normal.") == "Normal."
    assert findings("Findings: Known PFI: unchanged.") == "Known PFI: unchanged."  # three letters may be anything


def test_text_keeps_its_own_last_letters() -> None:
    found = split_by_headers("Findings: as on film X**\n**Impression:** as on film X #", HEADERS)
    assert (found.findings, found.impression) == ("as on film X", "as on film X")


def test_parts_of_a_section_are_joined_in_their_order() -> None:
    text = "Impression: a\nFindings: b\nTechnique: c\nConclusion: d\nObservations: e"
    assert tuple(split_by_headers(text, HEADERS)[:2]) == ("b e", "a d")


# Signatures


def test_a_signature_ends_a_section_where_it_begins_a_line_or_a_sentence() -> None:
    for before in ("\n", " ", "\n- "):
        assert impression(f"Impression: Normal.{before}Signed by A. Person") == "Normal."
        assert impression(f"Impression: Normal.{before}signed by A. Person") != "Normal."
    assert impression("Impression: Form Signed by the patient") == "Form Signed by the patient"


@pytest.mark.parametrize("name", ["Oberärztin", "Oberaerztin", "Mit freundlichen Gruessen", "Mit freundlichen Grüssen"])
def test_umlauts_may_be_written_as_two_letters(name: str) -> None:
    assert impression(f"Beurteilung: normal.\n{name} Person") == "normal."


def test_whole_reports_end_with_their_first_signature() -> None:
    text = "Findings: clear\nImpression: normal\nDictated by: A. Person\nSigned by: B. Person"
    assert whole_text(text, HEADERS) == "Findings: clear Impression: normal"
    assert whole_text("<p>No header</p>", HEADERS) == "No header" and whole_text(" \n", HEADERS) is None


@pytest.mark.parametrize("name", [name for name, target in HEADERS.targets.items() if target == "signature"])
def test_every_built_in_signature_is_found(name: str) -> None:
    assert impression(f"Impression: Normal.\n{name.capitalize()} Person") == "Normal."


# The built-in headers


@pytest.mark.parametrize(("name", "target"), HEADERS.targets.items())
def test_every_built_in_header_is_found(name: str, target: str) -> None:
    found = split_by_headers(f"History: none\n{name.capitalize()}: clear\nDate: today", HEADERS)
    expected = [target == each for each in ("findings", "impression")]
    assert [getattr(found, each) == "clear" for each in ("findings", "impression")] == expected


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("Roentgenbefund", "findings"),
        ("Röntgenbefund", "findings"),
        ("Chest, two views", "findings"),  # a published spelling of MIMIC-CXR
        ("Finidngs", "findings"),
        ("Impressoin", "impression"),
        ("Final \t impression", "impression"),
        ("Abschließende Beurteilung", "impression"),
        ("ABSCHLIESSENDE BEURTEILUNG", "impression"),
        ("Impression and plan", "impression"),
        ("Wetread", None),
        ("Tecnica", None),
    ],
)
def test_built_in_headers(name: str, section: str | None) -> None:
    found = split_by_headers(f"History: none\n{name}: clear", HEADERS)
    assert [getattr(found, each) == "clear" for each in ("findings", "impression")] == [
        each == section for each in ("findings", "impression")
    ]
    assert findings(f"Findings: a\n{name}: b") != f"a {name}: b"


def test_what_headers_lead_to() -> None:
    assert set(HEADERS.targets.values()) == {"findings", "impression", "other", "signature"}
    assert findings("Findings: a\nPreamble: b") == "a Preamble: b"  # MIMIC-CXR's name of what has no header


def test_reports_with_and_without_a_header() -> None:
    assert has_header("<b>Findings:</b> clear", HEADERS) and has_header("Impression: clear", HEADERS)
    assert not has_header("Technique: one view\nDr. med. Person", HEADERS) and not has_header("", HEADERS)


@pytest.mark.parametrize("name", ["findings", "Impression", "**Beurteilung"])
@pytest.mark.parametrize("colon", [":", "：", ":**", "** :"])
def test_a_left_over_header_is_seen(name: str, colon: str) -> None:
    assert contains_header(f"clear lungs {name}{colon} normal", HEADERS)
    assert not contains_header(f"clear lungs {name} normal", HEADERS)


def test_what_is_no_left_over_header() -> None:
    for section in (None, "", "technique: supine", "findings - normal: clear", "Signed by: A. Person"):
        assert not contains_header(section, HEADERS)


def test_reasons_are_the_words_of_the_documentation() -> None:
    assert (NO_HEADER, LEFT_OVER) == ("no known section header", "a section with another section's header")


def test_lines_that_look_like_headers() -> None:
    text = "## Lungen  und\tPleura : frei\n<p>2) Knochen：ok</p>\nDer Herzschatten. Er ist: schmal\n12:30 Uhr"
    assert header_like(text) == ["Lungen und Pleura", "Knochen"]


# Markup


BLOCKS = ["p", "div", "li", "tr", "ul", "ol", "table", "h1", "h2", "h3", "h4", "h5", "h6"]


@pytest.mark.parametrize("tag", ["br", *BLOCKS])
def test_a_block_element_begins_a_line(tag: str) -> None:
    assert plain_text(f"a<{tag}>b") == plain_text(f'a<{tag.upper()} class="c">b') == "a\nb"


@pytest.mark.parametrize("tag", BLOCKS)
def test_a_block_element_ends_a_line(tag: str) -> None:
    assert plain_text(f"<{tag}>a</{tag}>b") == "\na\nb"


def test_other_elements_do_not_part_words() -> None:
    assert plain_text("a <b>b</b><i>c</i> <span>d</span>") == "a bc d"
    assert plain_text("a<br/>b<br />c") == "a\nb\nc"
    assert plain_text("<p>&lt;5 mm &amp; &#228; &auml;</p>") == "\n<5 mm & ä ä\n"


def test_cells_of_a_table_are_apart() -> None:
    rows = ("<th>Befund</th><th>der</th><td>Lunge</td><td>klar</td>", "<td>Beurteilung:</td><td>normal</td>")
    text = f"<table><tr>{'</tr><tr>'.join(rows)}</tr></table>"
    assert [line.strip() for line in plain_text(text).split("\n") if line.strip()] == [
        "Befund der Lunge klar",
        "Beurteilung: normal",
    ]


def test_text_is_not_taken_for_markup() -> None:
    for text in ("a < b and c > d", "<5 mm>", "a<bb>c", "<email@example.org>", "{rtf1 a}"):
        assert plain_text(text) == text


def test_rtf_of_unknown_characters_is_read() -> None:
    assert plain_text(r"{\rtf1\ansi\ansicpg1252 Befund: Kein\'81 Ergu\'df}") == "Befund: Kein Erguß"
    assert plain_text("\n {\\rtf1 a}").strip() == "a"


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n", r"\r\n", r"\n", "\u2028", "\u2029", "\x0b", "\x0c", "\x85"])
def test_every_line_end_is_one(end: str) -> None:
    assert plain_text(f"a{end}b{end}{end}c") == "a\nb\n\nc"


def test_spaces_and_accents_have_one_form() -> None:
    assert plain_text("a\xa0b") == "a b" and plain_text("a\u0308") == "ä"
