"""Every command and every snippet of the README and of docs/ does what it says, small, on synthetic archives."""

import operator
import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

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


def test_the_opening_snippet_runs_on_what_the_demo_leaves_behind(work):
    snippet = next(block.text for block in blocks(README) if block.language == "python")
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 10
    found: dict[str, Any] = {}
    exec(snippet, found)
    assert found["table"].shape == (4, 2) and ((found["table"] > 0) & (found["table"] < 1)).all(axis=None)
    assert len(found["reports"]) == 3 and len(found["nearest"]) == 3
    width, height = Image.open(found["images"][0]).size
    assert found["heat"].shape == (height, width) and np.isfinite(found["heat"]).all()


@pytest.mark.parametrize("path", WITH_COMMANDS, ids=lambda path: path.stem)
def test_the_commands_of_a_page(path, work):
    with Page() as page:
        for block in blocks(path):
            if block.title:
                Path(block.title).write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                code = compile(block.text, str(path), "exec")
                if block.run:
                    exec(code, {})
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


PROSE = """# A heading that is much longer than a line may be, which stays as it is, since nothing else can be done with a heading of this kind

A paragraph
of short lines with `some code` and [a link that has spaces](page.md) in it, so that it is longer than one line of the page is allowed to be.
- an item
  that goes on
<!-- table step -->
| a | b |
Measured on a machine.
<!-- end -->

```sh
imitate demo   --out demo
```
"""


def test_prose_is_wrapped_and_nothing_else_changes():
    wrap = import_path(ROOT / "docs" / "wrap.py")
    found = wrap.wrapped(PROSE)
    assert found.split() == PROSE.split() and wrap.wrapped(found) == found
    lines = found.splitlines()
    assert lines[2].startswith("A paragraph of short lines with") and 100 < len(lines[2]) <= wrap.WIDTH
    assert "- an item that goes on" in lines and "Measured on a machine." in lines
    assert "imitate demo   --out demo" in lines and lines[0] == PROSE.splitlines()[0]
    assert all(wrap.wrapped(page.read_text()).split() == page.read_text().split() for page in PAGES)


def import_path(path: Path) -> Any:
    spec = spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not hasattr(import_module("imitate.sources"), "Source"), reason="until sources are plug-ins")
def test_the_exercise_of_contributing_works(tmp_path, monkeypatch):
    source, test = (block for block in blocks(ROOT / "CONTRIBUTING.md") if block.language == "python")
    assert source.title == "src/imitate/sources/vindr_cxr.py" and test.title == "tests/sources/test_vindr_cxr.py"
    for block in (source, test):
        (tmp_path / Path(block.title or "").name).write_text(block.text, encoding="utf-8")
    monkeypatch.setitem(sys.modules, "imitate.sources.vindr_cxr", import_path(tmp_path / "vindr_cxr.py"))
    exercise = vars(import_path(tmp_path / "test_vindr_cxr.py"))
    names = [name for name in exercise if name.startswith("test_")]
    for name in names:
        (tmp_path / name).mkdir()
        exercise[name](tmp_path / name)
    assert len(names) == 3
