"""Python processes that start at once: forked from a server that has imported torch and imitate.

Importing takes several seconds of a processor, and a study starts thousands of processes.
"""

import multiprocessing
import os
import resource
import runpy
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

IMPORTS = ["imitate.tasks.pretraining", "imitate.training.loop", "imitate.bench.cells"]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(IMPORTS)


class Spent(NamedTuple):
    """Seconds of wall clock and of processors, those of its own children included, that a process took."""

    seconds: float
    cpu_seconds: float


class Child:
    """``python ARGUMENTS``, with what it prints appended to a log; it starts at once, in a session of its own."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self._started = time.monotonic()
        self._spent, spent = _context.Pipe(duplex=False)
        self._process = _context.Process(target=_carry_out, args=(list(arguments), log, spent))
        self._process.start()
        spent.close()

    def stop(self) -> None:
        """Ask it to end, with SIGTERM."""
        self._process.terminate()

    def wait(self) -> tuple[int, Spent]:
        """Its exit code, negative where a signal ended it, and what it took."""
        try:
            cpu_seconds = self._spent.recv()
        except EOFError:  # a signal ended it
            cpu_seconds = 0.0
        self._process.join()
        return self._process.exitcode or 0, Spent(time.monotonic() - self._started, cpu_seconds)


def _carry_out(arguments: list[str], log: Path, spent: Connection) -> None:
    os.setsid()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        _python(arguments)
    finally:
        sys.stdout.flush()
        own, its = (resource.getrusage(each) for each in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        spent.send(own.ru_utime + own.ru_stime + its.ru_utime + its.ru_stime)


def _python(arguments: list[str]) -> None:
    """What ``python ARGUMENTS`` does, for -m MODULE, -c CODE and FILE."""
    first, *rest = arguments
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = arguments, str(Path(first).parent)
        runpy.run_path(first, run_name="__main__")
