"""Checkpoints that survive: complete before they replace, checked before they are used, the one before kept."""

import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from imitate.data.files import sync
from imitate.errors import UserError

log = logging.getLogger(__name__)

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


def save_checkpoint(state: dict[str, Any], folder: Path) -> None:
    """Write and sync ``last.ckpt`` beside the old one, then rename; the old one stays as ``previous.ckpt``."""
    part = folder / f"{LAST}.part"
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        if (folder / LAST).is_file():
            (folder / LAST).replace(folder / PREVIOUS)
        part.replace(folder / LAST)
        sync(folder)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        reason = next((e for e in (error, error.__context__) if isinstance(e, OSError)), error)  # torch hides the cause
        raise UserError(f"cannot write a checkpoint to {folder}: {reason}; the one before it is untouched") from error


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest intact checkpoint, on the CPU; None if there is none. A damaged one is passed over, with a warning."""
    damaged: list[str] = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        state = _intact(path)
        if state is not None:
            if damaged:
                log.warning("%s is damaged; continuing from %s", ", ".join(damaged), name)
            return state
        damaged.append(name)
    if damaged:
        raise UserError(f"{folder}: {' and '.join(damaged)} damaged, no intact checkpoint left: start in a new folder")
    return None


def is_begun(folder: Path) -> bool:
    """Whether there is a checkpoint to continue from, intact or not."""
    return any((folder / name).is_file() for name in (LAST, PREVIOUS))


def keep_model(
    save: Callable[[Path], None], folder: Path, validated: Mapping[int, float], step: int, value: float, count: int
) -> None:
    """The weights of this step, which ``save`` writes, into ``best/``, where no validation before was as good.

    Where more than one is to be kept, the ``count`` best, by step, into ``top/``.
    """
    if all(value > each for each in validated.values()):
        save(folder / "best")
    if count == 1:
        return
    ranked = sorted({**validated, step: value}.items(), key=lambda each: (-each[1], each[0]))[:count]
    kept, own = {step_name(each) for each, _ in ranked}, step_name(step)
    if own in kept:
        save(folder / "top" / own)
    for path in (folder / "top").glob("step-*"):
        if path.name not in kept:
            shutil.rmtree(path)


def step_name(step: int) -> str:
    """Of the folder of its weights."""
    return f"step-{step:07d}"


def _intact(path: Path) -> dict[str, Any] | None:
    """The state, or None. torch's format is a zip file whose members carry a CRC-32; torch itself does not check it."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception:  # over damaged bytes zipfile and torch raise whatever they like
        return None
    return state
