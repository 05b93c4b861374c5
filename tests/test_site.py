"""The site builds strictly, and what is built asks nothing from outside."""

import os
import re
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import pytest
from browser import chromium, requested, wait
from needs import need_module

ROOT = Path(__file__).parents[1]
LOADING = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "link": "href",
    "object": "data",
    "use": "href",
}


class Loads(HTMLParser):
    """What a page makes a browser ask for; links that a reader may follow are not among it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in LOADING and values.get("rel") != "canonical":
            self.found.append(values.get(LOADING[tag]) or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_module("material", "docs")
    out = tmp_path_factory.mktemp("site")
    done = build("--site-dir", str(out))
    assert done.returncode == 0, done.stderr
    return out


def build(*arguments: str) -> subprocess.CompletedProcess[str]:
    """As `make docs` does it: with ``--quiet``, ``strict`` would see no warning."""
    command = [sys.executable, "-m", "mkdocs", "build", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )


@pytest.mark.parametrize("text", ["[a](nowhere.md)", "[a](#nowhere)", "[a](/absolute.md)", '--8<-- "NOTHING.md"'])
def test_a_dead_link_fails_the_build(text, tmp_path):
    need_module("material", "docs")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n{text}\n", encoding="utf-8")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[0]
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    done = build("--config-file", str(tmp_path / "mkdocs.yml"), "--site-dir", str(tmp_path / "site"))
    assert done.returncode != 0 and ("nowhere" in done.stderr or "absolute" in done.stderr or "NOTHING" in done.stderr)


def test_make_docs_does_not_silence_warnings():
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ndocs:")[2].partition("\n\n")[0]
    assert "mkdocs build" in recipe and "quiet" not in recipe and "-q" not in recipe


class Links(HTMLParser):
    """Where the links of a page lead, and the places within it that can be led to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.hrefs: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors |= {values.get("id") or "", values.get("name") or ""}
        self.hrefs |= {values.get("href") or "", values.get("src") or ""} - {""}


def test_every_link_of_the_site_leads_somewhere(site):
    pages = {page: Links(page) for page in site.rglob("*.html") if page.name != "404.html"}
    assert len(pages) > 15
    for page, links in pages.items():
        for href in links.hrefs:
            if re.match(r"[a-z]+:", href):
                continue
            path, _, anchor = href.partition("#")
            target = (page.parent / unquote(path.partition("?")[0])).resolve() if path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{page.name}: {href}"
            assert not anchor or target not in pages or unquote(anchor) in pages[target].anchors, f"{page.name}: {href}"


def test_the_search_works_from_disk(site):
    with chromium(width=1200, height=900) as page:
        page.get((site / "quickstart.html").as_uri())
        page.find_element("css selector", ".md-search__input").send_keys("5x200")
        found = wait(page, lambda _: page.find_elements("css selector", ".md-search-result__link"))
        assert "faq.html" in " ".join(each.get_attribute("href") for each in found)
        assert not [each for each in requested(page) if not each.startswith(("file:", "data:", "blob:", "about:"))]


@pytest.mark.parametrize("width", [420, 1200])
def test_nothing_is_cut_at_the_right_edge(site, width):
    """A page is not wider than the window; commands wrap; a table that is wider than the page scrolls."""
    with chromium(width=width, height=900) as page:
        for name in ("quickstart", "results", "performance", "method", "api"):
            page.get((site / f"{name}.html").as_uri())
            wait(page, lambda _: page.execute_script("return document.readyState") == "complete")
            assert page.execute_script(CUT) == [], name


CUT = """
const wide = (element) => element.scrollWidth > element.clientWidth + 1;
const cut = [document.scrollingElement, ...document.querySelectorAll("article pre > code")].filter(wide);
const tables = [...document.querySelectorAll("article .md-typeset__scrollwrap")];
const hidden = tables.filter((each) => wide(each) && getComputedStyle(each).overflowX !== "auto");
return [...cut, ...hidden].map((each) => each.outerHTML.slice(0, 200));
"""


def test_every_page_is_built_and_found_from_the_menu(site):
    home = (site / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").is_file() and (page.stem == "index" or f'href="{page.stem}.html"' in home)
    assert 'href="contributing.html"' in home and "not a medical device" in home


def test_no_page_or_style_asks_for_anything_from_outside(site):
    for page in site.rglob("*.html"):
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert len(loads.found) > 3 and not [each for each in loads.found if re.match(r"(https?:)?//", each)], page.name
    for style in [*site.rglob("*.css"), *(ROOT / "docs" / "images").glob("*.svg")]:
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text(encoding="utf-8")), style.name


def test_a_browser_that_reads_and_searches_stays_on_the_site(site):
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server,
        chromium(width=1200, height=900) as page,
    ):
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            page.get(f"{address}/quickstart.html")
            page.find_element("css selector", ".md-search__input").send_keys("5x200")
            found = wait(page, lambda _: page.find_elements("css selector", ".md-search-result__link"))
            assert "faq.html" in " ".join(each.get_attribute("href") for each in found)
            for name in ("index", "method", "serve"):
                page.get(f"{address}/{name}.html")
                images = page.find_elements("css selector", "article img")
                assert images
                wait(page, lambda _: page.execute_script(LOADED))
        finally:
            server.shutdown()
        asked = requested(page)
        assert asked and not [each for each in asked if not each.startswith((address, "data:", "blob:"))]


LOADED = "return [...document.querySelectorAll('article img')].every((each) => each.naturalWidth)"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
