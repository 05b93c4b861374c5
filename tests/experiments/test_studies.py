"""Every committed study parses: its recipes with each row's settings, its tasks with theirs."""

import re
from pathlib import Path

import pytest

import tables
from imitate.commands.report import report
from imitate.config import Recipe, load_config, validate
from imitate.tasks import find_task
from study import ROOT, load_study


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_parses(path: Path) -> None:
    study = load_study(path)
    assert study.seeds >= 3 and next(iter(study.rows)) == study.reference
    recipe = load_config(Recipe, ROOT / study.recipe)
    for row in study.rows.values():
        changed = load_config(Recipe, ROOT / study.recipe, row.settings).resolved()
        assert (changed != recipe) == bool(row.settings)
    for measure in study.tasks.values():
        validate(find_task(measure.task), measure.settings, where=measure.task)


STUDIED = sorted(path.parent for path in (ROOT / "docs/results").glob("*/study.json"))


@pytest.mark.parametrize("folder", STUDIED, ids=lambda folder: folder.name)
def test_the_tables_say_what_the_results_files_say(folder: Path, tmp_path: Path) -> None:
    assert tables.page(tables.read(folder)) == (folder / "tables.md").read_text(encoding="utf-8")
    report(tuple(sorted(folder.glob("*--*.json"))), out=tmp_path / "figures.md")
    assert (tmp_path / "figures.md").read_text(encoding="utf-8") == (folder / "figures.md").read_text(encoding="utf-8")


def said(name: str) -> str:
    return "".join((folder / name).read_text(encoding="utf-8") for folder in STUDIED)


def test_the_pages_quote_figures_of_the_studies() -> None:
    """Every figure with an interval in the README's table and on the page of results is one of a study's."""
    known = said("figures.md")
    for page in ("README.md", "docs/results.md"):
        quoted = re.findall(r"\d+\.\d \(\d+\.\d–\d+\.\d\)", (ROOT / page).read_text(encoding="utf-8"))
        assert len(quoted) > 10 and not {figure for figure in quoted if figure not in known}


def test_the_page_of_results_quotes_differences_of_the_studies() -> None:
    known = said("tables.md")
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8").replace("−", "-")
    quoted = re.findall(r"[-+]\d+\.\d \([-+]\d+\.\d to [-+]\d+\.\d\)", page)
    assert len(quoted) > 10 and not {figure for figure in quoted if figure not in known}
