"""One file per command: its function is imported for its help, so that what it needs is imported when it runs.

A module may have ``choices()``, the values of the first argument, and ``options(words)``, a model whose fields are
further flags: the function gets those that are given as ``**options``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imitate.errors import UserError

if TYPE_CHECKING:
    from imitate.data.writer import Engine


def flag(words: list[str], name: str) -> str | None:
    """The value of ``--name VALUE`` or ``--name=VALUE`` among the words of a command line, before they are parsed."""
    for place, word in enumerate(words):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name and place + 1 < len(words):
            return words[place + 1]
    return None


def engine(workers: int | None, part: str, cluster: str | None) -> Engine:
    """What the flags --workers, --part and --cluster ask for."""
    from imitate.data.writer import Engine

    index, slash, parts = part.partition("/")
    if not (slash and index.isdecimal() and parts.isdecimal()):
        raise UserError(f"--part {part}: write it as i/n, such as 3/64")
    return Engine(workers, (int(index), int(parts)), cluster)
