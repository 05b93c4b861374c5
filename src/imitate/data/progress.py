"""Progress of a long loop: a bar on a terminal, a log line now and then elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)
LOG_EVERY = 30.0  # seconds


@contextmanager
def progress(*, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yields what is called with the number of records that were finished."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    start, logged, before = time.monotonic(), 0.0, done

    def advance(count: int) -> None:
        nonlocal done, logged
        done += count
        seconds = time.monotonic() - start
        rate = (done - before) / max(seconds, 1e-9)
        bars.update(bar, completed=done, rate=f"{rate:.0f}/s")
        if not console.is_terminal and seconds - logged > LOG_EVERY and rate:
            logged = seconds
            log.info("%d records of %d, %.0f/s, %.0f min left", done, total, rate, (total - done) / rate / 60)

    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=total, completed=done, rate="")
        yield advance


def log_counts(**counts: Mapping[str, int]) -> None:
    """One line a name, the most frequent first."""
    for what, each in counts.items():
        for name, count in sorted(each.items(), key=lambda item: -item[1]):
            log.info("%9d  %s: %s", count, what.replace("_", " "), name)
