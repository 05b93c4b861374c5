"""What the page of a report is made of, and the template that renders it and escapes every text."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent


class Cell(NamedTuple):
    value: str
    interval: str = ""
    bold: bool = False


class Heading(NamedTuple):
    """Of a column, or of several: ``parts`` are the headings below it. ``colour`` is that of a method's mark."""

    text: str
    parts: Sequence[str] = ()
    colour: str = ""


class Line(NamedTuple):
    """Of a table. ``kind`` is level (chance and the like) or published."""

    heading: str
    cells: Sequence[Cell]
    colour: str = ""
    kind: str = ""
    link: str = ""
    small: str = ""


class Table(NamedTuple):
    caption: str
    columns: Sequence[Heading]
    lines: Sequence[Line]
    corner: str = ""
    kind: str = ""

    @property
    def deep(self) -> bool:
        return any(column.parts for column in self.columns)


class Figure(NamedTuple):
    """``images`` maps what each image shows, for those who cannot see it, to its data URI."""

    caption: str
    images: Mapping[str, str]


class Details(NamedTuple):
    """Folded content, unless ``open``."""

    summary: str
    figures: Sequence[Figure]
    open: bool = False


def texts(values: Sequence[str]) -> list[Cell]:
    return [Cell(value) for value in values]


def render(**content: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (HERE / "page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.jinja").render(style=style, **content)


def anchor(text: str) -> str:
    """An id made of the text's letters and digits."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")
