"""``imitate recipes``: those that come with the package."""

import sys
from pathlib import Path
from typing import Literal

from imitate.config.loading import find_recipe, shipped_recipes
from imitate.errors import UserError
from imitate.names import AnyPath


def recipes(action: Literal["list", "show"] = "list", recipe: AnyPath | None = None, /) -> None:
    """List the recipes that come with the package, or show one.

    Commands accept these paths in any folder. To change a recipe, save the output of show to a file and edit it.

    Args:
        action: list, or show.
        recipe: The recipe to show, such as recipes/tiny.yaml.
    """
    if action == "list":
        found = shipped_recipes()
        width = max(len(name) for name in found)
        for name, path in found.items():
            sys.stdout.write(f"{name:{width}}  {_about(path)}\n")
        return
    if recipe is None:
        raise UserError("name the recipe to show, such as recipes/tiny.yaml; imitate recipes list shows the names")
    path = find_recipe(Path(recipe))
    if not path.is_file():
        raise UserError(f"no recipe at {recipe}: imitate recipes list shows those that come with the package")
    sys.stdout.write(path.read_text(encoding="utf-8"))


def _about(path: Path) -> str:
    """The first sentence of the comment that a recipe begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    text = " ".join(lines)
    end = text.find(". ")
    return text if end < 0 else text[: end + 1]
