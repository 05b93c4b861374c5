"""One thread does all work on images and models; few may wait for it."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from imitate.inference.known_words import remarks

Result = TypeVar("Result")


class Full(Exception):
    """Nothing is wrong with the request: it came at a bad time."""


class Places:
    """So many at once, of one address half of them, and Full for the next; for one event loop."""

    def __init__(self, number: int) -> None:
        self.free, self._of_address = number, -(-number // 2)
        self._taken = Counter[str]()

    @contextmanager
    def taken(self, address: str, number: int = 1) -> Iterator[Callable[[int], None]]:
        """So many, given back in the end; what is yielded takes more of them."""
        held = 0

        def take(more: int) -> None:
            nonlocal held
            if more > self.free or self._taken[address] + more > self._of_address:
                raise Full
            self.free -= more
            self._taken[address] += more
            held += more

        try:
            take(number)
            yield take
        finally:
            self.free += held
            self._taken[address] -= held
            if not self._taken[address]:
                del self._taken[address]


class Worker:
    """Runs one job after the other, away from the event loop, which goes on responding."""

    def __init__(self, waiting: int = 16) -> None:
        self.places = Places(waiting)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def run(self, job: Callable[[], Result], address: str) -> tuple[Result, list[str]]:
        """The job's result, and what the library said of the words in it; Full where too many wait."""
        with self.places.taken(address):
            return await asyncio.get_running_loop().run_in_executor(self._thread, noting, job)


class Run(NamedTuple):
    """Runs jobs for an address."""

    worker: Worker
    address: str

    async def __call__(self, job: Callable[[], Result]) -> tuple[Result, list[str]]:
        return await self.worker.run(job, self.address)


def noting(job: Callable[[], Result]) -> tuple[Result, list[str]]:
    """Remarks on words go to who wrote them, not to the log; a job may note what a part of it says."""
    notes, logged = Notes(), remarks.propagate
    remarks.addHandler(notes)
    remarks.propagate = False
    try:
        return job(), list(dict.fromkeys(notes.lines))
    finally:
        remarks.removeHandler(notes)
        remarks.propagate = logged


class Notes(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
