"""A run's folder: whose it is, with which settings, and its metrics."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from torch.utils.tensorboard import SummaryWriter

from imitate.config import Recipe, read_yaml
from imitate.data.unfinished import FULL, this_process
from imitate.errors import UserError

FREE = {"devices", "nodes", "log_every", "checkpoint_every"}
"""Training settings that do not change the result: a run may continue with others."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the folder against a second run for the duration; leave none behind where nothing was written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write into {folder} ({error.strerror}): choose another --out") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise UserError(f"{folder} is in use by {file.read().strip() or 'another process'}: wait for it") from error
        file.seek(0)
        file.truncate()
        file.write(this_process())
        file.flush()
        try:
            yield
        finally:
            if [path.name for path in folder.iterdir()] == ["lock"]:
                (folder / "lock").unlink()
                folder.rmdir()


@contextmanager
def room(folder: Path) -> Iterator[None]:
    """A disk that is full or read-only is the user's to mend; what the last checkpoint holds stays."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        told = str(error)
        if not any(os.strerror(number) in told for number in (*FULL, errno.EROFS)):
            raise
        raise UserError(
            f"cannot write to {folder} ({told}): make room and run the same command again, it continues from the "
            "last checkpoint"
        ) from error


def settle(folder: Path, recipe: Recipe, data: dict[str, str]) -> None:
    """Write ``config.yaml``, or compare with the one that is there: UserError that shows what differs."""
    wanted = {**recipe.resolved().model_dump(mode="json"), "data": data}
    path = folder / "config.yaml"
    if not path.is_file():
        part = folder / "config.yaml.part"
        part.write_text(yaml.safe_dump(wanted, sort_keys=False), encoding="utf-8")
        part.replace(path)
        return
    written = read_yaml(path, holds="this run's settings")
    data_there = written.pop("data")
    whole = (
        Recipe.model_validate(written).resolved().model_dump(mode="json")
    )  # what an older run does not tell is at its default
    found, ours = _flat({**whole, "data": data_there}), _flat(wanted)
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
            part = folder / "metrics.jsonl.part"
            part.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
            part.replace(self._path)
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
