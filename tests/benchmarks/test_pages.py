"""The pages say what the results files say."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import pages

    yield pages
    for name in ("pages", "measuring"):
        sys.modules.pop(name)


@pytest.mark.parametrize(
    "page", ["calibration.md", "languages.md", "performance.md", "quickstart.md", "scaling.md", "statistics.md"]
)
def test_every_generated_part_is_up_to_date(pages, page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert pages.fill(text) == text, "run python benchmarks/pages.py"


def test_a_part_is_filled_from_its_file_or_says_how_to_measure_it(pages, monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    page = "Before\n<!-- table step steps -->\nold\n<!-- end -->\nafter"
    assert re.search(r"steps -->\n\*Not measured yet: `python benchmarks/step.py`.\*\n<!-- end", pages.fill(page))
    (tmp_path / "step.json").write_text('{"tables": {"steps": [{"step": "ours", "s": 0.123456, "n": 1000}]}}')
    expected = "| step   |     s |     n |\n|:-------|------:|------:|\n| ours   | 0.123 | 1,000 |"
    assert pages.fill(page) == f"Before\n<!-- table step steps -->\n{expected}\n<!-- end -->\nafter"
