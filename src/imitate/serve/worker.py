"""One thread does all work on images and models; few may wait for it."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")


class Full(Exception):
    """Nothing is wrong with the request: it came at a bad time."""


class Places:
    """So many at once, and Full for the next; for one event loop."""

    def __init__(self, number: int) -> None:
        self.free = number

    @contextmanager
    def taken(self) -> Iterator[None]:
        if not self.free:
            raise Full
        self.free -= 1
        try:
            yield
        finally:
            self.free += 1


class Worker:
    """Runs one job after the other, away from the event loop, which goes on answering."""

    def __init__(self, waiting: int = 16) -> None:
        self.places = Places(waiting)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def run(self, job: Callable[[], Result]) -> tuple[Result, list[str]]:
        """The job's result, and what the library said of the words in it; Full where too many wait."""
        with self.places.taken():
            return await asyncio.get_running_loop().run_in_executor(self._thread, _noting, job)


def _noting(job: Callable[[], Result]) -> tuple[Result, list[str]]:
    """Remarks on words go to who wrote them, not to the log."""
    logger, notes = logging.getLogger("imitate.inference.prompts"), Notes()
    logger.addHandler(notes)
    logger.propagate = False
    try:
        return job(), notes.lines
    finally:
        logger.removeHandler(notes)
        logger.propagate = True


class Notes(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
