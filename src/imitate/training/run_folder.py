"""A run's folder: whose it is, with which settings, and its metrics."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from torch.utils.tensorboard import SummaryWriter

from imitate.config import Recipe, data_of, read_yaml, validate
from imitate.data.files import FULL, locked, this_process
from imitate.errors import UserError
from imitate.models.image import pinned

FREE = {"devices", "nodes", "log_every", "checkpoint_every"}
"""Training settings that do not change the result: a run may continue with others."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the folder against a second run for the duration; leave none behind where nothing was written."""
    holder = folder / "holder"  # a file of its own: Windows lets nobody read the one that is locked
    with ExitStack() as held:
        lock = ExitStack()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.enter_context(locked(folder / "lock", timeout=0))
        except UserError as error:
            who = holder.read_text(encoding="utf-8") if holder.is_file() else "another process"
            raise UserError(f"{folder} is in use by {who}: wait for it") from error
        except OSError as error:
            raise UserError(f"cannot write into {folder} ({error.strerror}): choose another --out") from error
        held.callback(_remove_if_empty, folder)
        held.enter_context(lock)
        held.callback(holder.unlink, missing_ok=True)
        holder.write_text(this_process(), encoding="utf-8")
        yield


def _remove_if_empty(folder: Path) -> None:
    if {path.name for path in folder.iterdir()} <= {"lock"}:
        shutil.rmtree(folder)


@contextmanager
def room(folder: Path) -> Iterator[None]:
    """A disk that is full or read-only is for the user to correct; what the last checkpoint holds stays."""
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


def settle(folder: Path, recipe: Recipe, data: dict[str, Any]) -> None:
    """Write ``config.yaml``, or compare with the one that is there: UserError that shows what differs."""
    wanted = {**recipe.resolved().model_dump(mode="json"), "data": data_of(data)}
    path = folder / "config.yaml"
    if not path.is_file():
        part = folder / "config.yaml.part"
        part.write_text(yaml.safe_dump(wanted, sort_keys=False), encoding="utf-8")
        part.replace(path)
        return
    written = read_yaml(path, holds="this run's settings")
    data_there = data_of(written.pop("data"))
    whole = pinned(validate(Recipe, written, where=str(path)).resolved())  # what an older run does not say: its default
    found, ours = _flat({**whole.model_dump(mode="json"), "data": data_there}), _flat(wanted)
    differ = [
        f"{key} is {found.get(key)!r} there and {ours.get(key)!r} here"
        for key in sorted(found.keys() | ours.keys())
        if found.get(key) != ours.get(key) and key.removeprefix("training.") not in FREE and key != "data.paths"
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
