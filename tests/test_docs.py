"""Every command and every snippet of the README and of docs/ does what it says, small, on synthetic archives."""

import operator
import os
import re
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import ROOT, Page, blocks, lines, parse
from imitate.cli import COMMANDS
from imitate.commands.synthesize import synthesize

README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LEFT = {  # what a reader has in the end
    "quickstart": ("report.html", "scores.csv", "nearest.json", "vectors.npz", "exported/model.safetensors"),
    "your-data": ("data/ours/index.json", "runs/ours/model/model.safetensors", "report.html"),
    "serve": ("heat.png",),
}
WITH_COMMANDS = [page for page in PAGES if any(block.language in ("sh", "python") for block in blocks(page))]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout's recipes, an archive, and what the README's commands make of it; the current folder meanwhile."""
    folder, before = tmp_path_factory.mktemp("docs"), Path.cwd()
    (folder / "recipes").symlink_to(ROOT / "recipes")
    synthesize("open-i", out=folder / "RAW", n=60)
    first, second, *_ = sorted((folder / "RAW").rglob("*.png"))
    shutil.copy(first, folder / "first.dcm")  # the content decides, not the name
    shutil.copy(second, folder / "second.png")
    os.chdir(folder)
    try:
        with Page() as page:
            for block in blocks(README):
                if block.language == "sh":
                    _each(page, block.text)
        yield folder
    finally:
        os.chdir(before)


def _each(page: Page, text: str) -> None:
    for words in lines(text):
        page.run(words)


def test_the_opening_snippet_runs_after_the_commands_below_it(work):
    snippet = next(block.text for block in blocks(README) if block.language == "python")
    assert len(snippet.strip().splitlines()) <= 10
    found: dict = {}
    exec(snippet, found)
    assert found["table"].shape == (2, 2) and ((found["table"] > 0) & (found["table"] < 1)).all(axis=None)
    assert len(found["reports"]) == 5 and len(found["images"]) == 5
    width, height = Image.open("first.dcm").size
    assert found["heat"].shape == (height, width) and np.isfinite(found["vectors"]).all()
    assert Image.open("map.png").size == (width, height)


@pytest.mark.parametrize("path", WITH_COMMANDS, ids=lambda path: path.stem)
def test_the_commands_of_a_page(path, work):
    with Page() as page:
        for block in blocks(path):
            if block.title:
                Path(block.title).write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                exec(compile(block.text, str(path), "exec"), {})
            elif block.language == "sh" and block.run:
                _each(page, block.text)
            elif block.language == "sh":
                for words in lines(block.text):
                    parse(words)
    for name in LEFT.get(path.stem, ()):
        assert Path(name).stat().st_size, f"{path.name} leaves {name}"


INLINE = re.compile(r"(?<!`)`(imitate|make|python) ([\w./-]+)")


@pytest.mark.parametrize("path", [README, ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda path: path.stem)
def test_what_a_sentence_names_is_there(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for program, name in INLINE.findall(text):
        if program == "imitate":
            assert name in COMMANDS or name in ("COMMAND", "--help", "TASK"), f"imitate {name}"
        elif program == "make":
            parse([program, name])
        else:
            assert (ROOT / name).is_file(), name
    for name in re.findall(r"`((?:recipes|benchmarks|experiments|tests|docs)/[\w./-]+\.\w+)`", text):
        assert (ROOT / name).exists() or name.startswith("docs/results/"), name


def test_each_equation_stands_beside_a_function_that_is_there():
    rows = re.findall(r"`([\w/]+)\.py: ([\w.,/ ]+)`", (ROOT / "docs" / "method.md").read_text(encoding="utf-8"))
    assert len(rows) > 12
    for module, names in rows:
        home = import_module(f"imitate.{module.replace('/', '.')}")
        for name in names.split(", "):
            assert operator.attrgetter(name)(home), f"{module}.py: {name}"


def test_no_command_hides_in_a_block_that_is_not_read():
    for path in [README, *PAGES]:
        fences = re.findall(r"^```(.*?)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        for text in (text for language, text in fences if not language):
            assert not re.search(r"^(imitate|make|pip|python|curl|torchrun|srun) ", text, re.MULTILINE), path
