"""A run's folder: whose it is, with which settings, its starts and its metrics."""

import errno
import json
import logging
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import yaml
from safetensors import SafetensorError

from imitate.config import Recipe, data_of, read_yaml, validate
from imitate.data.files import FULL, locked, this_process
from imitate.errors import UserError
from imitate.models.hub import last_line
from imitate.models.image import pinned
from imitate.names import Tracker
from imitate.training.trackers import trackers

log = logging.getLogger(__name__)

VALIDATION = "val/"  # begins the names of metrics of held-out samples in the journal
HELD_OUT_LOSS = f"{VALIDATION}loss"
FREE = {"devices", "nodes", "accelerator", "log_every", "checkpoint_every", "snapshot_every", "keep_best",
        "gradient_checkpointing"}  # fmt: skip
"""Training settings that do not change the result: a run may continue with others."""
FIXED = {"batch_size", "seed", "text_layers", "text_lora", "freeze", "layer_decay", "backbone_learning_rate",
         "text_learning_rate", "decay_everything"}  # fmt: skip
"""Training settings that decide the samples of each step, what learns, and which weights are treated alike: no run can
continue with others."""


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
        reason = str(error)
        if not any(os.strerror(number) in reason for number in (*FULL, errno.EROFS)):
            raise
        raise UserError(
            f"cannot write to {folder} ({reason}): make room and run the same command again; it continues from the "
            "last checkpoint"
        ) from error


def check_changes(keys: Iterable[str]) -> None:
    """UserError where a run cannot continue with another value of one of these keys of the recipe."""
    for key in keys:
        if not _may_change(key):
            raise UserError(
                f"--continue-with {key}: only settings of training can change when a run continues, except "
                f"{', '.join(sorted(FIXED))}: start a new run in another --out, with --init from this one"
            )


def _may_change(key: str) -> bool:
    return key.startswith("training.") and key.removeprefix("training.") not in FIXED


def settle(folder: Path, recipe: Recipe, data: dict[str, Any], changes: Collection[str] = ()) -> list[str]:
    """Write ``config.yaml``; what differs from the one that is there, in words.

    UserError where a difference is neither in FREE nor among ``changes``, the keys of --continue-with.
    """
    wanted = {**recipe.resolved().model_dump(mode="json"), "data": data_of(data)}
    path = folder / "config.yaml"
    differ = _differences(path, wanted) if path.is_file() else {}
    differences = {key: f"{key} is {there!r} there and {here!r} here" for key, (there, here) in differ.items()}
    free = {*changes, "data.paths", "model.tone", *(f"training.{name}" for name in FREE)}
    if refused := [key for key in differ if key not in free]:
        way = "Choose another --out"
        if all(map(_may_change, refused)):
            pairs = " ".join(f"{key}={differ[key][1]}" for key in refused)
            way += f", or continue with the new values: --continue-with {pairs}"
        reasons = "; ".join(differences[key] for key in refused)
        raise UserError(f"{folder} holds a run with different settings: {reasons}. {way}")
    if differ or not path.is_file():
        part = folder / "config.yaml.part"
        part.write_text(yaml.safe_dump(wanted, sort_keys=False), encoding="utf-8")
        part.replace(path)
    return list(differences.values())


def _differences(path: Path, wanted: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Key: what the file says of it, and what is wanted. What an older run does not say is at its default."""
    written = read_yaml(path, holds="this run's settings")
    data_there = data_of(written.pop("data"))
    whole = pinned(validate(Recipe, written, where=str(path)).resolved())
    found, ours = _flat({**whole.model_dump(mode="json"), "data": data_there}), _flat(wanted)
    keys = sorted(found.keys() | ours.keys())
    return {key: (found.get(key), ours.get(key)) for key in keys if found.get(key) != ours.get(key)}


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


STARTS = "starts.jsonl"
QUIET = {"time", "step", "changed"}
"""What differs from start to start, or is recorded elsewhere."""


def compare_start(folder: Path, facts: Mapping[str, Any], *, contrasts_within: str, normalises: bool) -> None:
    """Warn where this start of a run is not like the last one; UserError where that changes the objective.

    ``contrasts_within``: the setting by which a term compares samples with those of their process only; empty: there is
    none. ``normalises``: statistics are those of a process's part of the batch.
    """
    before = last_line(folder / STARTS)
    differ = [key for key in facts if key not in QUIET and key in before and before[key] != facts[key]]
    if "processes" in differ and contrasts_within:
        raise UserError(
            f"{folder} was trained by {before['processes']} processes, not {facts['processes']}; with "
            f"{contrasts_within} their number decides the negatives: start as many, or choose another --out"
        )
    if differ:
        changes = "; ".join(f"{key} was {before[key]} and is {facts[key]}" for key in differ)
        log.warning("this run continues under different conditions: %s", changes)
    if "processes" in differ and normalises:
        log.warning("BatchNorm now sees a different part of the batch; training.sync_batchnorm=true prevents this")


def note_start(folder: Path, facts: Mapping[str, Any]) -> None:
    """A line of ``starts.jsonl``: when, from which step, on what; behind one that was cut short, a line of its own."""
    with (folder / STARTS).open("a+", encoding="utf-8") as file:
        file.seek(0)
        written = file.read()
        file.write(("" if written.endswith("\n") or not written else "\n") + json.dumps(facts) + "\n")


class Journal:
    """``metrics.jsonl`` and what ``--log`` names; rows past the step that a run continues from are taken back first."""

    def __init__(
        self, folder: Path, *, step: int, log: Sequence[Tracker] = ("tensorboard",), recipe: Recipe | None = None
    ) -> None:
        self._path = folder / "metrics.jsonl"
        self.validated: dict[int, float] = {}  # step: its main metric
        self._validations: set[int] = set()
        rows: list[dict[str, float]] = []
        if self._path.is_file():
            lines = [line for line in self._path.read_text(encoding="utf-8").splitlines() if _step(line) <= step]
            part = folder / "metrics.jsonl.part"
            part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            part.replace(self._path)
            rows = [json.loads(line) for line in lines]
            for row in rows:
                self._note(**row)  # type: ignore[arg-type]
        facts = recipe.model_dump(mode="json") if recipe else {}
        self._trackers = trackers(log, folder, step=step, recipe=facts, rows=rows)

    def _note(self, step: int, **values: float) -> None:
        metrics = {name: value for name, value in values.items() if name.startswith(VALIDATION)}
        if metrics:
            self._validations.add(step)
        if metrics.keys() - {HELD_OUT_LOSS}:
            self.validated[step] = next(iter(metrics.values()))

    def has_validated(self, step: int) -> bool:
        return step in self._validations

    def write(self, step: int, values: dict[str, float], measured: Mapping[str, float] = MappingProxyType({})) -> None:
        """``measured`` is not in the file, which is the same whenever the same run is repeated."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        self._note(step, **values)
        for tracker in self._trackers:
            tracker.log_metrics({**values, **measured}, step)

    def close(self, status: Literal["success", "interrupted", "failed"] = "success") -> None:
        for tracker in self._trackers:
            tracker.finalize(status)


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):
        return 2**62  # a line cut short by a kill
