"""Whether a prepared folder in WORK is the one that a study asks for."""

import json
from pathlib import Path
from typing import Any

from imitate.data.shards import Settings
from imitate.errors import UserError
from imitate.sources import find_source

OF_EVERY_SOURCE = ("mode", "resize", "projections", "percentiles", "equalized", "from_header")


def check_prepared(folder: Path, options: dict[str, Any]) -> None:
    """UserError: the prepared folder is of another source than the study's, or of other options."""
    recorded = json.loads((folder / "index.json").read_text(encoding="utf-8"))["settings"]
    named = {key.replace("-", "_"): value for key, value in options.items()}
    fields = find_source(named["source"]).Options.model_fields
    usual = {name: fields[name].get_default() for name in recorded["options"] if name in fields}
    usual |= {name: Settings.model_fields[name].get_default() for name in OF_EVERY_SOURCE}
    have = {**recorded, **recorded["options"]}
    if other := [f"{name} {have.get(name)}, not {value}" for name, value in {**usual, **named}.items()
                 if have.get(name) != value]:  # fmt: skip
        raise UserError(f"{folder} was prepared with {'; '.join(other)}: give another --work, or delete the folder")
