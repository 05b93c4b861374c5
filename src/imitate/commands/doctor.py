"""``imitate doctor``: is this raw tree, prepared folder, run or installation sound?"""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from imitate.commands.source_flags import with_flags
from imitate.doctor.checks import Check, State
from imitate.doctor.installation import examine_installation
from imitate.doctor.prepared import examine_prepared
from imitate.doctor.raw import examine_raw, recognise
from imitate.doctor.run import examine_run
from imitate.errors import UserError

COLOURS: dict[State, str] = {"ok": "green", "warn": "yellow", "broken": "bold red"}
PREPARED = ("meta.json", "images.npy", "progress.jsonl")
RUN = ("config.yaml", "metrics.jsonl", "model")


def doctor(paths: tuple[Path, ...] = (), /, *, source: str | None = None, **options: Any) -> None:
    """Check raw trees, prepared folders and runs; without a path, the installation.

    What is broken ends in an error (exit code 2); a warning does not, as it may well be as it should.

    Args:
        paths: What to check; each is recognised by its files.
        source: What a raw tree is, where its files do not say.
        options: Those of the source, as for ``prepare``, without ``raw``.
    """
    if options and source is None:
        raise UserError(f"options of a source ({', '.join(options)}) without one: name the --source of the raw tree")
    console = Console()
    broken = []
    examined = [_recognised(path, source, options) for path in paths] or [("installation", examine_installation())]
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


def command_line(arguments: list[str]) -> Callable[..., None]:
    """The verb, with the options of the source that ``--source`` names."""
    words = [part for word in arguments for part in word.split("=", 1)]
    source = next((value for flag, value in pairwise(words) if flag == "--source"), None)
    return with_flags(doctor, source, without=("raw",))


def _recognised(path: Path, source: str | None, options: Mapping[str, Any]) -> tuple[str, Iterator[Check]]:
    if not path.exists():
        raise UserError(f"nothing at {path}: give a raw tree, a prepared folder or a run")
    if source is None:
        if any((path / name).exists() for name in PREPARED):
            return f"prepared folder {path}", examine_prepared(path)
        if any((path / name).exists() for name in RUN):
            return f"run {path}", examine_run(path)
        source = recognise(path)
    if source is None:
        raise UserError(f"{path} is not recognised: name its --source, or give the folder that holds its tables")
    return f"raw tree {path}, {source}", examine_raw(path, source, options)
