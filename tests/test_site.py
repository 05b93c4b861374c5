"""The site builds strictly, and what is built asks nothing from outside."""

import re
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

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
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


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
                assert images and all(
                    wait(page, lambda _, each=each: each.get_property("naturalWidth")) for each in images
                )
        finally:
            server.shutdown()
        asked = requested(page)
        assert asked and not [each for each in asked if not each.startswith((address, "data:", "blob:"))]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
