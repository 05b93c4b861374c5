"""Where the image lies that a user's table names, whatever system the table and the files come from."""

import unicodedata
from pathlib import Path

from imitate.data.tables import is_there


def find_image(root: Path, name: str) -> Path | None:
    """Where the image lies, its name in either Unicode form; None outside ``root``."""
    forms = _forms(name)
    paths = [_inside(root, form) for form in forms]
    found = next((path for path in paths if path and is_there(path)), None)
    if found is None and len(forms) > 1:
        found = _inside(root, _mixed(root, name))
        found = found if found and is_there(found) else None
    return found or paths[0]


def _forms(name: str) -> list[str]:
    return list(dict.fromkeys([name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]))


def _mixed(root: Path, name: str) -> str:
    """Each folder and the file in the form that is there: archives that were copied by several systems mix them."""
    found = ""
    for part in name.replace("\\", "/").split("/"):
        try:
            found += next((form for form in _forms(part) if (root / f"{found}{form}").exists()), part) + "/"
        except (OSError, ValueError):  # a name that is too long, a NUL
            return name
    return found.rstrip("/")


def _inside(root: Path, name: str) -> Path | None:
    """Where the image lies, links followed; None outside ``root``. Windows separators are understood."""
    try:
        path = (root / name.replace("\\", "/")).resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL
        return None
    return path if path.is_relative_to(root) else None
