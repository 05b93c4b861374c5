"""Recognise what lies at a path, check it, and print what was found."""

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from imitate.data.words import cell
from imitate.doctor.checks import Check, State
from imitate.doctor.installation import examine_installation
from imitate.doctor.overlap import examine_overlap
from imitate.doctor.prepared import examine_prepared, excluded
from imitate.doctor.raw import examine_raw, recognise
from imitate.doctor.run import examine_model, examine_onnx, examine_run
from imitate.errors import UserError
from imitate.models.hub import is_onnx

COLOURS: dict[State, str] = {"ok": "green", "warn": "yellow", "broken": "bold red"}
PREPARED = ("index.json", "manifest.parquet", "meta.json", "images.npy", "progress.jsonl")
RUN = ("config.yaml", "metrics.jsonl", "model")


def examine(paths: Sequence[Path], *, source: str | None = None, options: Mapping[str, Any] | None = None) -> None:
    """Print a table of checks for each path, or for the installation; UserError where something is broken."""
    if options and source is None:
        raise UserError(f"options of a source ({', '.join(options)}): name the source with --source")
    console = Console()
    broken = []
    examined = [_recognised(path, source, options or {}) for path in paths] or [
        ("installation", examine_installation())
    ]
    prepared = [path for path in paths if any((path / name).exists() for name in PREPARED)]
    if len(prepared) > 1:
        examined.append(("overlap", examine_overlap(prepared)))
    for title, checks in examined:
        console.print(Text(title, "bold"), soft_wrap=True)
        table = Table()
        for column in ("", "check", "found"):
            table.add_column(column, overflow="fold")
        for check in checks:
            table.add_row(Text(check.state, COLOURS[check.state]), Text(check.what), Text(check.found))
            if check.state == "broken":
                broken.append(f"{check.what}: {check.found}")
        console.print(table)
    if broken:
        raise UserError(f"{len(broken)} broken: {'; '.join(broken)}")


def list_excluded(folders: Sequence[Path]) -> None:
    """Print a CSV table of the records that prepared folders exclude: where each comes from, and why."""
    if not folders:
        raise UserError("--excluded lists the records of a prepared folder: give its path")
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("source", "reason"))
    for folder in folders:
        table.writerows(map(cell, row) for row in excluded(folder))


def _recognised(path: Path, source: str | None, options: Mapping[str, Any]) -> tuple[str, Iterator[Check]]:
    if not path.exists():
        raise UserError(f"nothing at {path}: give a raw archive, a prepared folder, a run or a model")
    if source is None:
        if any((path / name).exists() for name in PREPARED):
            return f"prepared folder {path}", examine_prepared(path)
        if any((path / name).exists() for name in RUN):
            return f"run {path}", examine_run(path)
        if model := examine_onnx(path) if is_onnx(path) else examine_model(path):
            return f"model {path}", iter([model])
        source = recognise(path)
    if source is None:
        raise UserError(f"{path} is not recognised: name its --source, or give the folder that holds its tables")
    return f"raw archive {path}, {source}", examine_raw(path, source, options)
