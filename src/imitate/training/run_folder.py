"""A run's folder: whose it is, with which settings, and its metrics."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from torch.utils.tensorboard import SummaryWriter

from imitate.config import Recipe
from imitate.plain_yaml import read_yaml
from imitate.types import UserError

FREE = {"devices", "nodes", "log_every", "checkpoint_every"}
"""Training settings that do not change the result: a run may continue with others."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the folder against a second run for the duration."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise UserError(f"{folder} is in use by {file.read().strip() or 'another process'}: wait for it") from error
        file.seek(0)
        file.truncate()
        file.write(_holder())
        file.flush()
        yield


def _holder() -> str:
    import os
    import socket

    return f"process {os.getpid()} on {socket.gethostname()}"


def settle(folder: Path, recipe: Recipe, data: dict[str, str]) -> None:
    """Write ``config.yaml``, or compare with the one that is there: UserError that shows what differs."""
    wanted = {**recipe.model_dump(mode="json"), "data": data}
    path = folder / "config.yaml"
    if not path.is_file():
        part = folder / "config.yaml.part"
        part.write_text(yaml.safe_dump(wanted, sort_keys=False), encoding="utf-8")
        part.replace(path)
        return
    found, ours = (_flat(settings) for settings in (read_yaml(path, holds="this run's settings"), wanted))
    differ = [
        f"{key} is {found.get(key)!r} there and {ours.get(key)!r} here"
        for key in sorted(found.keys() | ours.keys())
        if found.get(key) != ours.get(key) and key.removeprefix("training.") not in FREE and key != "data.path"
    ]
    if differ:
        raise UserError(f"{folder} holds a run with other settings: {'; '.join(differ)}. Choose another --out")


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


class Journal:
    """``metrics.jsonl`` and TensorBoard; rows past the step that a run continues from are taken back first."""

    def __init__(self, folder: Path, *, step: int) -> None:
        self._path = folder / "metrics.jsonl"
        if self._path.is_file():
            rows = [line for line in self._path.read_text(encoding="utf-8").splitlines() if _step(line) <= step]
            self._path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        self._board.close()


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):
        return 2**62  # a line cut short by a kill
