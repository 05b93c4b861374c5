import unicodedata
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from imitate.data.markup import plain_text
from imitate.data.reports import Sections
from imitate.data.section_labels import read_headers
from imitate.data.sections import contains_header, header_like, split_by_headers
from imitate.errors import UserError

STYLES = yaml.safe_load(Path(__file__).with_name("house_styles.yaml").read_text(encoding="utf-8"))
PIECES = st.sampled_from(
    ["\n", " ", "FINDINGS", "Impression", ":", ": ", "1. ", "**", "Dr. med.", "x", ". ", "\\n", "É"]
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=60).map("".join))


@pytest.mark.parametrize("report", STYLES, ids=[f"{each['language']}-{i}" for i, each in enumerate(STYLES)])
def test_a_reader_would_name_the_same_sections(report: dict[str, str]) -> None:
    found = split_by_headers(report["text"], read_headers())
    assert (found.findings, found.impression) == (report["findings"], report["impression"])
    for section in (found.findings, found.impression):
        assert report["style"] == "traps" or not contains_header(section, read_headers())


def test_the_styles_are_as_many_as_promised() -> None:
    assert len(STYLES) >= 40
    assert len({each["style"] for each in STYLES}) >= 10 and {each["language"] for each in STYLES} == {
        "en",
        "de",
        "es",
        "fr",
    }


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    "report", [each for each in STYLES if not each["text"].isascii()], ids=lambda each: each["text"][:20]
)
def test_either_form_of_an_accent_is_the_same_text(report: dict[str, str], form: str) -> None:
    found = split_by_headers(unicodedata.normalize(form, report["text"]), read_headers())
    assert (found.findings, found.impression) == (report["findings"], report["impression"])


def test_a_capital_i_with_a_dot_is_an_i(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("Bulgular: findings\nİzlenim: impression\n", encoding="utf-8")
    found = split_by_headers("BULGULAR: Normal.\nİZLENİM: Normal.", read_headers(tmp_path / "a.yaml"))
    assert found[:2] == ("Normal.", "Normal.")


def test_a_section_that_still_holds_a_header_is_noticed() -> None:
    headers = read_headers()
    assert contains_header("clear lungs impression: normal", headers)
    assert not contains_header("the impression is normal; heart: small", headers) and not contains_header(None, headers)


def test_unknown_headers_are_named() -> None:
    assert header_like("Lungen und Pleura: frei\n**Mediastinum** : schmal\nKein Erguss.") == [
        "Lungen und Pleura",
        "Mediastinum",
    ]


def test_text_behind_markup_and_escapes() -> None:
    assert plain_text("a<br>b &lt; c") == "a\nb < c"
    assert plain_text("3 < 4 and 5 > 2") == "3 < 4 and 5 > 2"
    assert plain_text(r"a\r\nb\nc") == "a\nb\nc"
    assert plain_text(r"{\rtf1 a\par b}").split() == ["a", "b"]


def test_english_headers_without_the_format_of_mimic() -> None:
    text = "Clinical history: cough\nFindings: Clear lungs: both.\n  more\nCONCLUSION\nNormal."
    assert split_by_headers(text, read_headers()) == Sections("Clear lungs: both. more", "Normal.")
    assert split_by_headers("we compared the\nfindings\nof both", read_headers()) == Sections()


def test_a_house_style(tmp_path: Path) -> None:
    path = tmp_path / "headers.yaml"
    path.write_text("Lunge: findings\nHerz: findings\n'Beurteilung:': impression\n检查所见: findings\nTechnik: other\n")
    headers = read_headers(path)
    text = "Vorspann\nLUNGE: frei.\nTechnik: liegend\nHerz : schmal.\nbeurteilung: Normal.\n"
    assert split_by_headers(text, headers) == Sections("frei. schmal.", "Normal.")
    assert split_by_headers("检查所见：两肺清晰", headers).findings == "两肺清晰"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Befund: finding\n", "'Befund' is assigned to 'finding': choose findings, impression or other"),
        ("No: findings\n", "header False is not text: put it in quotes"),
        ("Befund: other\n", "no header is assigned to findings or impression"),
        ("- Befund\n", "must hold lines such as 'Befund: findings', not list"),
        ("'::': findings\n", "header '::' is not text: put it in quotes"),
        ("", "no header is assigned to findings or impression"),
        ("a: [\n", "is not valid YAML"),
        ("Befund: [findings]\n", r"is assigned to \['findings'\]"),
    ],
)
def test_a_wrong_house_style_is_reported_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "headers.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_headers(path)
    assert "\n" not in str(caught.value)


def test_an_absent_house_style(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read .*: No such file"):
        read_headers(tmp_path / "absent.yaml")


@settings(deadline=None)
@given(text=TEXTS)
def test_house_style_sections_hold_words_of_the_report_in_order(text: str) -> None:
    for section in split_by_headers(text, read_headers()):
        words = iter("".join(text.split()))
        assert section is None or all(character in words for character in "".join(section.split()))


def test_one_section_is_a_house_style_and_its_header_may_end_in_a_colon(tmp_path: Path) -> None:
    for target in ("findings", "impression"):
        (tmp_path / "a.yaml").write_text(f"'Befund der Lunge: ': {target}\n'检查：': other\n", encoding="utf-8")
        found = split_by_headers("Befund der Lunge: frei\n检查：两肺", read_headers(tmp_path / "a.yaml"))
        assert getattr(found, target) == "frei" and list(found).count(None) == 2
