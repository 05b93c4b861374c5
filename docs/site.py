"""What mkdocs calls while it builds the site: the pages that lie outside docs/, or that may not be there yet."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
WHEN_WRITTEN = {"Project": {"Reliability": "reliability.md"}}


def on_config(config: Any) -> None:
    """Pages of others join the menu as soon as their file is there."""
    for section, pages in WHEN_WRITTEN.items():
        menu = next(entry[section] for entry in config.nav if section in entry)
        menu[:0] = [{title: name} for title, name in pages.items() if (ROOT / "docs" / name).is_file()]


def on_files(files: Files, config: Any) -> None:
    """CONTRIBUTING.md lies where code hosts look for it."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "contributing.md", content=text))
