"""HTML whose every text is escaped: only ``element`` makes markup, and only markup passes through it unchanged."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

STYLE = Path(__file__).with_name("page.css")
VOID = frozenset({"img", "meta"})


class Html(str):
    """Markup, escaped already."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str) -> Html:
    """A child that is not Html is text. ``class_`` stands for class, ``aria_label`` for aria-label."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for name, value in attributes.items()
    )
    return Html(f"<{tag}{written}>" + ("" if tag in VOID else f"{join(children)}</{tag}>"))


def join(parts: Iterable[str]) -> Html:
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))


def table(
    caption: str,
    columns: Mapping[str, Sequence[str]],
    rows: Iterable[tuple[str, Sequence[str]]],
    *,
    corner: str = "",
    class_: str = "",
) -> Html:
    """``columns`` maps a heading to those below it, () where there are none; each row is its heading and its cells."""
    deep = any(columns.values())
    top = [element("th", corner, scope="col", rowspan="2" if deep else "1")]
    below: list[Html] = []
    for heading, parts in columns.items():
        if parts:
            top.append(element("th", heading, scope="colgroup", colspan=str(len(parts))))
            below += [element("th", part, scope="col") for part in parts]
        else:
            top.append(element("th", heading, scope="col", rowspan="2" if deep else "1"))
    head = [element("tr", *top), *([element("tr", *below)] if deep else [])]
    body = [
        element("tr", element("th", heading, scope="row"), *(element("td", cell) for cell in cells))
        for heading, cells in rows
    ]
    whole = element("table", element("caption", caption), element("thead", *head), element("tbody", *body))
    return element("div", whole, class_=f"scroll {class_}".strip(), role="region", tabindex="0", aria_label=caption)


def figure(caption: str, images: Mapping[str, str]) -> Html:
    """``images`` maps what each image shows, for those who can't see it, to its data URI."""
    drawn = [element("img", src=uri, alt=alt) for alt, uri in images.items()]
    return element("figure", element("div", *drawn, class_="cards"), element("figcaption", caption))


def details(summary: str, *content: str, open_: bool = False) -> Html:
    attributes = {"open": ""} if open_ else {}
    return element("details", element("summary", summary), *content, **attributes)


def note(text: str) -> Html:
    return element("p", text, class_="note")


def document(title: str, *content: str) -> Html:
    """A page that asks nobody for anything."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(STYLE.read_text(encoding="utf-8"))),
    )
    return Html("<!doctype html>\n" + element("html", head, element("body", *content), lang="en"))


def anchor(text: str) -> str:
    """An id made of the text's letters and digits."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")
