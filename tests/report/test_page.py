from html.parser import HTMLParser

from imitate.report.page import Html, details, document, element, figure, join, table

EVIL = """<script>alert("x")</script>&amp;'"""


class Outline(HTMLParser):
    """Tags in order, open ones on a stack; fails on a tag that does not close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
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
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_text_and_attributes_are_escaped() -> None:
    outline = Outline(element("p", EVIL, title=EVIL))
    assert outline.tags == [("p", {"title": EVIL})]
    assert outline.text == EVIL


def test_markup_passes_once() -> None:
    assert element("p", element("b", "a < b")) == "<p><b>a &lt; b</b></p>"
    assert join([Html("<br>"), "<br>"]) == "<br>&lt;br&gt;"


def test_a_table_says_what_its_headings_stand_for() -> None:
    outline = Outline(table(EVIL, {"mean": [], "AUROC": ["1%", "10%"]}, [("row", ["a", "b", "c"])], corner="method"))
    headings = [(each["scope"], each.get("colspan"), each.get("rowspan")) for each in outline.of("th")]
    assert headings == [
        ("col", None, "2"),
        ("col", None, "2"),
        ("colgroup", "2", None),
        ("col", None, None),
        ("col", None, None),
        ("row", None, None),
    ]
    assert outline.of("caption") and outline.of("div")[0]["aria-label"] == EVIL


def test_images_have_words() -> None:
    outline = Outline(figure("caption", {EVIL: "data:image/png;base64,AAAA"}))
    assert outline.of("img") == [{"src": "data:image/png;base64,AAAA", "alt": EVIL}]


def test_a_document_is_whole_and_forbids_every_request() -> None:
    outline = Outline(document(EVIL, details("more", "text", open_=True)))
    policies = [each["content"] for each in outline.of("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert outline.of("html") == [{"lang": "en"}]
    assert outline.of("details") == [{"open": ""}]
    assert not outline.of("script") and not outline.of("link")
