"""The template: every text escaped, every tag closed, nothing asked from outside."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageColor

from imitate.report.examples import Example
from imitate.report.figures import COLOURS
from imitate.report.page import Cell, Details, Figure, Heading, Line, Table, render, texts

EVIL = """<script>alert("x")</script>&amp;'"""
URI = "data:image/png;base64,AAAA"


class Outline(HTMLParser):
    """Tags in order, open ones on a stack; fails on a tag that does not close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in {"img", "meta"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def table(text: str) -> Table:
    columns = [Heading(text, colour="#123456"), Heading(text, [text, "10%"])]
    cells = [Cell(text, text, bold=True), *texts([text, "c"])]
    return Table(text, columns, [Line(text, cells, colour="#123456", link="a", small=text)], corner=text)


def page(text: str) -> Outline:
    drawn = Figure(text, {text: URI})
    section: dict[str, Any] = {
        **dict.fromkeys(("title", "where", "examples_title"), text),
        "id": "a",
        "main": table(text),
        "notes": [text],
        "summary": [drawn],
        "folded": [Details(text, [drawn], open=True)],
        "examples": [Example(drawn), Example(drawn, {"findings": text}, [(text, {"impression": text})])],
        "examples_open": False,
        "all_metrics": [table(text)],
        "all_notes": [text],
        "runs": table(text),
    }
    head = {"title": text, "written": text, "overview": table(text), "sources": table(text), "how": text}
    return Outline(render(**head, sections=[section]))


def test_every_text_is_escaped_in_content_and_in_attributes() -> None:
    outline = page(EVIL)
    assert not outline.of("script") and outline.texts.count(EVIL) > 40
    assert {each["alt"] for each in outline.of("img")} == {EVIL}
    assert {each["aria-label"] for each in outline.of("div") if "aria-label" in each} == {EVIL}


def test_a_table_says_what_its_headings_stand_for() -> None:
    outline = page("x")
    headings = [(each["scope"], each.get("colspan"), each.get("rowspan")) for each in outline.of("th")]
    assert headings[:6] == [
        ("col", None, "2"),
        ("col", None, "2"),
        ("colgroup", "2", None),
        ("col", None, None),
        ("col", None, None),
        ("row", None, None),
    ]
    assert len(outline.of("caption")) == len(outline.of("table")) == 5


def test_the_title_of_a_figure_stands_above_it() -> None:
    tags = [tag for tag, _ in page("x").tags if tag in {"figure", "figcaption", "img"}]
    assert tags == ["figure", "figcaption", "img"] * 4


def test_the_page_forbids_every_request() -> None:
    outline = page("x")
    policies = [each["content"] for each in outline.of("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert outline.of("html") == [{"lang": "en"}] and not outline.of("link")
    assert {each["src"] for each in outline.of("img")} == {URI}
    assert [("open" in each) for each in outline.of("details")] == [True, False, False, False]


def test_what_is_missing_is_an_error() -> None:
    with pytest.raises(Exception, match="'overview' is undefined"):
        render(title="", written="", sections=[])


@pytest.mark.parametrize("name", ["light", "dark"])
def test_pictures_of_the_documentation_keep_the_colours_of_methods(name: str) -> None:
    with Image.open(Path(__file__).parents[2] / "docs" / "images" / f"report-{name}.png") as picture:
        shown = {colour for _, colour in picture.convert("RGB").getcolors(2**24) or ()}
    assert {ImageColor.getrgb(colour) for colour in COLOURS[:3]} <= shown
