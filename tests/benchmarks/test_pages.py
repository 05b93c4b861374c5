"""The pages say what the results files say."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import pages

    yield pages
    for name in ("pages", "measuring"):
        sys.modules.pop(name)


def test_every_generated_part_is_up_to_date(pages):
    texts = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in pages.PAGES}
    assert not [name for name, text in texts.items() if pages.fill(text) != text], "run python benchmarks/pages.py"


def test_a_part_is_filled_from_its_file_or_says_how_to_measure_it(pages, monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    page = "Before\n<!-- table step steps -->\nold\n<!-- end -->\nafter"
    assert re.search(r"steps -->\n\*Not measured yet: `python benchmarks/step.py`.\*\n<!-- end", pages.fill(page))
    (tmp_path / "step.json").write_text('{"tables": {"steps": [{"step": "ours", "s": 0.123456, "n": 1000}]}}')
    expected = "| step   |     s |     n |\n|:-------|------:|------:|\n| ours   | 0.123 | 1,000 |"
    assert pages.fill(page) == f"Before\n<!-- table step steps -->\n{expected}\n<!-- end -->\nafter"


def test_the_curves_of_quality_have_a_panel_for_each_metric(pages, monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    assert pages.quality() is None
    row = {"method": "CLIP", "recall": 0.2, "zero-shot AUROC": 0.7}
    curves = [{**row, "seed": seed, "steps": n, "CPU s": 10.0 * n + seed} for seed in (0, 1) for n in (1, 2)]
    (tmp_path / "quality.json").write_text(json.dumps({"tables": {"curves": curves}}))
    panels = pages.quality().axes
    assert [each.get_ylabel() for each in panels] == ["recall, %", "zero-shot AUROC, %"]
    assert panels[1].lines[0].get_xydata() == pytest.approx(np.array([[10.5, 70], [20.5, 70]]))


def test_the_new_aggregations_cost_at_most_a_twentieth_of_a_step_of_clip():
    """At 224 px, forward and backward: what was measured, not what this machine needs."""
    rows = json.loads((ROOT / "docs/results/aggregation.json").read_text())["tables"]["large"]
    cost = {row["method"]: row["of CLIP's step"] for row in rows}
    assert cost["CLIP"] == 1 and max(cost["spatial"], cost["pooled"]) <= 1.05
