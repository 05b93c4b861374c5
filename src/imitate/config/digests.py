"""Digests of files and of records that name them, by which a damaged or incomplete copy is noticed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imitate.errors import UserError


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_digest(record: Mapping[str, Any]) -> str:
    """Of what a record holds beside it: one wrong digit would change probabilities without a trace."""
    text = json.dumps({key: value for key, value in record.items() if key != "digest"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_record(path: Path, record: Mapping[str, Any]) -> None:
    """UserError: the record in the file was changed, or a file that it names is absent or not the one it was made of.

    Of a file with an empty digest only its presence is checked.
    """
    if record.get("digest") != record_digest(record):
        raise UserError(f"{path} is damaged or was changed after the export: copy the folder again, or export it again")
    for name, digest in record["files"].items():
        file, again = path.parent / name, "copy the folder again, or export it again"
        if not file.is_file():
            raise UserError(f"{path.parent} has no {name}, which belongs to it: {again}")
        if digest and sha256(file) != digest:
            raise UserError(f"{file} has changed since the export: {again}")
