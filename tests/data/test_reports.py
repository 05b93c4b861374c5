import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitate.data.reports import (
    Sections,
    cell_text,
    clean_text,
    decode_report,
    mimic_rules,
    parse_sections,
)

LINES = """\
FINAL REPORT
EXAMINATION:  CHEST (PA AND LAT)

INDICATION:  Cough for ___ days.

COMPARISON:  None.

FINDINGS:

The heart is not enlarged.  A nodule of 2.5 cm
lies in the left base.

IMPRESSION:

1.  Left nodule.
2.  Follow-up is advised.
"""
REPORT = "".join(f" {line}\n" for line in LINES.splitlines())  # every line begins with a space, also an empty one
FINDINGS = "The heart is not enlarged. A nodule of 2.5 cm lies in the left base."
IMPRESSION = "1. Left nodule. 2. Follow-up is advised."


def test_both_sections_of_an_ordinary_report() -> None:
    assert parse_sections(REPORT) == Sections(FINDINGS, IMPRESSION, None)


def test_windows_and_old_mac_line_ends_read_the_same() -> None:
    assert (
        parse_sections(REPORT.replace("\n", "\r\n"))
        == parse_sections(REPORT.replace("\n", "\r"))
        == parse_sections(REPORT)
    )


@pytest.mark.parametrize(
    "text",
    [
        " FINDINGS: on the first line",  # rule 1: a header follows a newline
        "a\nFINDINGS: without the space",
        "a\n FINDINGS:without white space after the colon",
        "a\n Findings: in lower case",
        "a\n FINDINGS 2: with a digit",
        "a\n \tFINDINGS: behind a tab",
    ],
)
def test_what_is_not_a_header(text: str) -> None:
    assert parse_sections(text) == Sections()


def test_a_header_may_hold_spaces_brackets_slash_comma_and_dash() -> None:
    assert parse_sections("x\n   CHEST (PA/AP, SEMI-UPRIGHT): clear").findings == "clear"


def test_a_header_ends_the_search_up_to_its_line_end() -> None:
    one_line = parse_sections("x\n FINDINGS: clear. IMPRESSION: normal.\n IMPRESSION: none")
    assert one_line == Sections("clear. IMPRESSION: normal.", "none")
    next_line = parse_sections("x\n FINDINGS:\n IMPRESSION: normal.\n RECOMMENDATION: none.")
    assert next_line == Sections("IMPRESSION: normal.", None)
    assert parse_sections("x\n FINDINGS: clear.\n IMPRESSION: normal.") == Sections("clear.", "normal.")


@pytest.mark.parametrize(
    ("header", "section"),
    [
        ("CONCLUSION", "impression"),  # exact map
        ("FINDINGS AND IMPRESSION", "impression"),
        ("FINDINGS/IMPRESSION", "impression"),
        ("IMPRESSOIN", "impression"),
        ("NDICATION", "impression"),
        ("FINIDNGS", "findings"),
        ("CHEST, TWO VIEWS", "findings"),
        ("FINAL IMPRESSION", "impression"),  # substring
        ("IMPRESSION OF FINDINGS", "impression"),  # the first of the parts counts
        ("ABDOMINAL FINDINGS", "findings"),
        ("PORTABLE FILM", "findings"),  # view-like
        ("LEFT RIBS", "findings"),
        ("CHEST COMPARISON", None),  # a part goes before a view
        ("REASON FOR EXAM", None),
        ("TECHNIQUE", None),
    ],
)
def test_names_of_sections(header: str, section: str | None) -> None:
    found = parse_sections(f"x\n {header}: Some text.")
    assert {name for name in ("findings", "impression") if getattr(found, name)} == ({section} if section else set())


def test_the_published_map_is_whole() -> None:
    rules = mimic_rules()
    assert (len(rules.names), len(rules.views)) == (58, 18)
    assert (len(rules.custom_section), len(rules.custom_range)) == (23, 31)
    assert sum(span == (0, 0) for span in rules.custom_range.values()) == 8


def test_the_last_section_of_a_name_counts_and_empty_ones_do_not() -> None:
    assert parse_sections("x\n FINDINGS: first\n FINDINGS: second\n FINDINGS: \n \n").findings == "second"
    titled = parse_sections("x\n CHEST, PA LATERAL:\n \n INDICATION: cough\n \n IMPRESSION: clear")
    assert titled == Sections(None, "clear")


def test_only_a_trailing_paragraph() -> None:
    text = "x\n INDICATION: Cough.\n \n The lungs are clear.\n \n No effusion."
    assert parse_sections(text) == Sections(None, None, "The lungs are clear. No effusion.")
    assert parse_sections("No header.\n \n The lungs are clear.").last_paragraph == "The lungs are clear."
    assert parse_sections(text.replace("\n \n", "\n\n")) == Sections()  # the blank line holds one space
    assert parse_sections(text + "\n IMPRESSION: Clear.").last_paragraph is None


@pytest.mark.parametrize("study", ["s50913680", "50913680"])
def test_a_custom_section_becomes_the_impression_or_vanishes(study: str) -> None:
    text = "x\n INDICATION: cough\n RECOMMENDATION(S): The lungs are clear.\n"
    assert parse_sections(text, study=study) == Sections(None, "The lungs are clear.")
    assert parse_sections(text, study=study, mode="paper") == Sections()
    assert parse_sections(text, study="50000000") == Sections()


def test_a_custom_section_keeps_its_first_paragraph_only() -> None:
    text = "x\n INDICATION: The lungs are clear.\n \n Dictated by ___."
    assert parse_sections(text, study="57936451").impression == "The lungs are clear."


def test_a_custom_range_counts_characters_of_the_raw_text() -> None:
    text = "." * 59 + "x" * (218 - 59) + "." * 40
    assert parse_sections(text, study="56579911").impression == "x" * (218 - 59)
    assert parse_sections(REPORT, study="58235663") == Sections()  # the range 0..0: no usable text
    assert parse_sections(REPORT, study="56579911", mode="paper") == Sections()
    windows = "." * 57 + "\r\n" + "." + "x" * (218 - 59) + "." * 40  # a line end counts once, however it is written
    assert parse_sections(windows, study="56579911").impression == "x" * (218 - 59)


def test_missing_text_is_none() -> None:
    assert [clean_text(value) for value in ("", " \n", "nan", "NaN", None, float("nan"))] == [None] * 6
    nothing = ("NULL", "None", "none.", "N/A", "<NA>", "\\N", "-", "___", "n/a ", "...")
    assert [cell_text(value) for value in nothing] == [None] * len(nothing)
    assert clean_text(" two\n  words ") == cell_text(" two\n  words ") == "two words"
    assert parse_sections("") == Sections()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(encoding: str) -> None:
    assert decode_report("Lungenödem – unverändert".encode(encoding)) == "Lungenödem – unverändert"


PIECES = st.sampled_from(
    ["\n", " ", "\n ", "FINDINGS", "IMPRESSION", ":", ": ", "CHEST", "x", "2.5 cm", "\r\n", "\n \n"]
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=60).map("".join))
STUDIES = st.sampled_from([None, "50000000", *mimic_rules().custom_section, *mimic_rules().custom_range])


@settings(deadline=None)
@given(text=TEXTS, study=STUDIES, mode=st.sampled_from(["clean", "paper"]))
def test_a_section_is_a_part_of_its_report(text: str, study: str | None, mode: str) -> None:
    for section in parse_sections(text, study=study, mode=mode):
        assert section is None or (section and section in " ".join(text.split()))


@settings(deadline=None)
@given(data=st.binary())
def test_any_bytes_decode(data: bytes) -> None:
    assert isinstance(parse_sections(decode_report(data)), Sections)


def test_the_last_section_with_text_counts_and_paragraphs_only_where_there_is_none() -> None:
    assert parse_sections("\n IMPRESSION: Normal.\n IMPRESSION:  \n").impression == "Normal."
    assert parse_sections("\n FINDINGS: a\n \n b") == Sections("a b", None, None)
    assert parse_sections("\n IMPRESSION: a\n \n b") == Sections(None, "a b", None)


def test_a_report_cut_within_a_character_is_read() -> None:
    assert decode_report(b"\x81 \xe9") == "\ufffd é"  # no character of Windows-1252
    assert decode_report("\ufeffKlar".encode("utf-16-le")[:-1]).startswith("Kla")
