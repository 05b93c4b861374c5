"""Where the images and JSON files of an archive are, in folders or in zip archives that nobody unpacked."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imitate.data.tables import is_below, is_there
from imitate.errors import UserError

LARGEST = 2**30  # bytes of a JSON file
SUFFIXES = (".png", ".jpg", ".jpeg")
Place = tuple[Path, str]
"""A file, and the name within it where it is a zip archive."""


def first_there(root: Path, paths: Sequence[Path]) -> Path:
    """The first of ``paths`` that is a file below ``root``; where there is none, the first of all."""
    return next((path for path in paths if is_below(path, root) and is_there(path)), paths[0])


def find_images(raw: Path, folders: Sequence[str], archives: Sequence[str] = ()) -> dict[str, Place]:
    """Images by file name, in the folders and the zip archives that these glob patterns match; folders come first.

    UserError: an archive is cut short or no zip.
    """
    found: dict[str, Place] = {}
    for pattern in archives:
        for archive in sorted(raw.glob(pattern)):
            found |= {name.rsplit("/", 1)[-1]: (archive, name) for name in _members(archive)}
    for pattern in folders:
        for folder in sorted(raw.glob(pattern)):
            if folder.is_dir():
                names = sorted(each for each in folder.iterdir() if each.suffix.lower() in SUFFIXES)
                found |= {each.name: (each, "") for each in names}
    return found


def _members(archive: Path) -> list[str]:
    try:
        with zipfile.ZipFile(archive) as opened:
            return [name for name in opened.namelist() if name.lower().endswith(SUFFIXES)]
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{archive} is not a readable zip ({error}): copy or download it again") from error


def load_json(path: Path, kind: type[Any]) -> Any:
    """What the file holds, a list or an object; UserError where it is absent, cut short or something else."""
    if not path.is_file():
        raise UserError(f"no file {path}: download it")
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path} has {path.stat().st_size} bytes, more than {LARGEST}: download it again")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not readable JSON ({str(error)[:200]}): copy or download it again") from error
    if not isinstance(values, kind):
        raise UserError(f"{path} must hold a {kind.__name__}, not {type(values).__name__}: download it again")
    return values
