"""What surrounds the steps: signals, the progress bar, and means of what the steps report."""

import json
import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import torch
import torch.distributed as dist
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from imitate.distributed import world_size
from imitate.errors import Stopped

log = logging.getLogger(__name__)
NOTICE = [signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []  # not on Windows
STOPPED = "stopped.json"


class Means:
    """Means over the steps since the last ``take``, summed on the device, so that no step waits for it.

    A value that is not finite, the gradient's norm in a step that 16-mixed precision skips, counts for nothing.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}  # (sum, count) of each name

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            finite = torch.isfinite(value)
            added = torch.stack([torch.where(finite, value, torch.zeros_like(value)), finite.to(value.dtype)])
            self.sums[name] = self.sums[name].to(added.device) + added if name in self.sums else added

    def take(self) -> dict[str, float]:
        """Over all processes, which must call it together; NaN where there was no value."""
        names, sums = list(self.sums), torch.stack(list(self.sums.values()))
        self.sums = {}
        if world_size() > 1:
            dist.all_reduce(sums)
        return dict(zip(names, (sums[:, 0] / sums[:, 1]).tolist(), strict=True))


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect SIGINT (Ctrl-C), SIGTERM and SIGUSR1 (a scheduler's notice); a second Ctrl-C ends at once."""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        log.info("stopping after this step")

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM, *NOTICE)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stoppable(folder: Path) -> Iterator[None]:
    """SIGUSR1 ends what comes before the first step at once, as nothing is lost: the same command does it again.

    ``stopped.json`` in the run's folder says that a signal ended the last start and that the same command continues,
    for launchers that hide the exit code of the processes that they start, as torchrun does.
    """

    def receive(number: int, frame: FrameType | None) -> None:
        raise Stopped(signal.Signals(number).name)

    before = {number: signal.signal(number, receive) for number in NOTICE}
    with suppress(OSError):  # said later, of the folder
        (folder / STOPPED).unlink()
    try:
        yield
    except Stopped as stopped:
        folder.mkdir(parents=True, exist_ok=True)
        facts = {"signal": str(stopped), "time": datetime.now(UTC).isoformat(timespec="seconds")}
        (folder / STOPPED).write_text(json.dumps(facts) + "\n", encoding="utf-8")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Clock:
    """How many steps a second since it was asked last."""

    def __init__(self, step: int) -> None:
        self._last = time.monotonic(), step

    def rate(self, step: int) -> float:
        (then, before), now = self._last, time.monotonic()
        self._last = now, step
        return (step - before) / max(now - then, 1e-9)


@contextmanager
def progress(step: int, total: int, *, shown: bool) -> Iterator[Callable[[int, str], None]]:
    """A bar with a note and the time left on a terminal; otherwise a line a minute. Nothing where not ``shown``.

    What it gives is called with the step and the note.
    """
    columns = (
        TextColumn("pre-training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    bar = Progress(*columns) if shown else None
    live = bar if bar and bar.console.is_terminal else nullcontext()
    task = bar.add_task("", total=total, completed=step, note="") if bar else None
    started, first, reported = time.monotonic(), step, time.monotonic()

    def advance(step: int, note: str) -> None:
        nonlocal reported
        if not bar or task is None:
            return
        bar.update(task, completed=step, note=note)
        now = time.monotonic()
        if not bar.console.is_terminal and now - reported > 60:
            reported, left = now, (total - step) * (now - started) / (step - first)
            log.info("step %d of %d, %s, %.0f s left", step, total, note, left)

    with live:
        yield advance
