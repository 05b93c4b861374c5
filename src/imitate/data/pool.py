"""Worker processes that a crash or a hang cannot stop: it costs the item that caused it.

Each worker is a fresh interpreter that a thread of this process feeds over pipes, on every operating system alike.
"""

import logging
import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from imitate.data.worker import FAILED, Failure, read_message, write_message
from imitate.errors import UserError

log = logging.getLogger(__name__)
WATCH_EVERY = 0.05  # seconds
START_LIMIT = 300.0  # seconds; imports over a slow network


class _Died(Exception):
    """A worker ended before it returned a result."""


class Pool:
    """Calls ``function``, "module:name", once in each of ``workers`` processes with ``setup``, and what it returns
    with every item, for at most ``time_limit`` seconds.
    """

    def __init__(self, function: str, *, setup: Any, workers: int, time_limit: float) -> None:
        self.first = (function, setup)
        self.time_limit = time_limit
        self.workers = workers
        self.closed = False
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(None)  # started when there is work for it
        self._alive: set[_Worker] = set()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(workers)
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True
        with self._lock:
            for worker in self._alive:
                worker.process.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._alive:
            worker.end()

    def map(self, jobs: Iterable[tuple[Any, Sequence[Any]]]) -> Iterator[tuple[Any, list[Any]]]:
        """The results of each job's items, in order; a few jobs ahead of the consumer."""
        pending: deque[tuple[Any, Future[list[Any]]]] = deque()
        for key, items in jobs:
            pending.append((key, self._threads.submit(self._do, items)))
            if len(pending) > 2 * self.workers:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()

    def _do(self, items: Sequence[Any]) -> list[Any]:
        results: list[Any] = []
        while len(results) < len(items):
            self._send(items[len(results) :], results)
            if len(results) < len(items):
                results.append(self._once_more(items[len(results)]))
        return results

    def _send(self, items: Sequence[Any], results: list[Any]) -> str:
        """Append to ``results`` until all is done, or a worker has ended; returns why, "" if none has."""
        worker = self._idle.get()
        reason = ""
        try:
            worker = worker or self._start()
            for result in worker.results(items, self.time_limit):
                results.append(result)
        except BaseException as error:
            ended, worker = worker, None  # after any error: results may still be on their way
            if ended:
                with self._lock:
                    self._alive.discard(ended)
                ended.end()
            if ended is None or self.closed or not isinstance(error, _Died):
                raise
            if not ended.ready:
                raise RuntimeError("a worker process does not start; its own error message is above") from error
            reason = f"decoder takes over {self.time_limit:g} s" if ended.timed_out else "crashes its decoder"
        finally:
            self._idle.put(worker)
        return reason

    def _once_more(self, item: Any) -> Any:
        """Alone, in a fresh worker."""
        results: list[Any] = []
        reason = self._send([item], results)
        if reason:
            log.warning("an image was excluded: %s", reason)
        return Failure(reason) if reason else results[0]

    def _start(self) -> "_Worker":
        with self._lock:
            if self.closed:
                raise _Died
            worker = _Worker(self.first)
            self._alive.add(worker)
        return worker

    def _watch(self) -> None:
        """Kill workers that are past their time."""
        while not self.closed:
            time.sleep(WATCH_EVERY)
            with self._lock:
                for worker in self._alive:
                    worker.check()


class _Worker:
    """One process and the pipes to it."""

    def __init__(self, first: tuple[str, Any]) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "imitate.data.worker"],  # -P: never from the current folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )
        self.first = first
        self.ready = self.timed_out = False
        self.deadline = math.inf

    def results(self, items: Sequence[Any], limit: float) -> Iterator[Any]:
        assert self.process.stdin and self.process.stdout
        try:
            if not self.ready:
                self.deadline = time.monotonic() + START_LIMIT
                write_message(self.process.stdin, self.first)
                read_message(self.process.stdout)
                self.ready = True
            self.deadline = time.monotonic() + limit
            write_message(self.process.stdin, list(items))
            for _ in items:
                kind, value = read_message(self.process.stdout)
                if kind == FAILED:
                    raise _fault(*value)
                self.deadline = time.monotonic() + limit
                yield value
            self.deadline = math.inf
        except (EOFError, OSError) as error:  # its end, or a pipe that its end has closed
            raise _Died from error

    def check(self) -> None:
        """Kill it if it is past its time."""
        if time.monotonic() > self.deadline:
            self.timed_out = True
            self.process.kill()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # what was not flushed
                assert pipe
                pipe.close()


def _fault(kind: str, message: str, trace: str) -> Exception:
    """What an exception in a worker becomes here: memory and disks are the user's to fix, others are ours."""
    if kind == "MemoryError":
        return UserError("out of memory in a worker process: run the same command again with fewer --workers")
    if kind == "OSError":
        return UserError(f"an image cannot be read ({message}): run the same command again; it continues from there")
    return RuntimeError(f"in a worker process:\n{trace}")
