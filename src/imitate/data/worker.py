"""A worker process of ``pool``: applies a function to the items that it reads from its standard input.

Each message is a pickle after its length in eight bytes. The parent's end, even by SIGKILL, ends the worker.
"""

import importlib
import os
import pickle
import queue
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from typing import IO, Any, NamedTuple

LENGTH = struct.Struct("<Q")
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # mallopt(3)
DONE, FAILED = "done", "failed"


class Failure(NamedTuple):
    """In place of an item's result: why there is none, in a few words."""

    reason: str


def write_message(stream: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message, protocol=5)
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def read_message(stream: IO[bytes]) -> Any:
    """EOFError where the other side has ended."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (length,) = LENGTH.unpack(head)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)


def main() -> None:
    """Items come in lists; the result of each is a message of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    keep_freed_memory()
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not end up among the results
    jobs: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
    function, setup = read_message(sys.stdin.buffer)
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    work = load(function)(setup)
    write_message(results, None)  # ready
    while True:
        for item in jobs.get():
            write_message(results, _result(work, item))


def load(function: str) -> Callable[[Any], Callable[[Any], Any]]:
    """``function`` as "module:name"."""
    module, _, name = function.partition(":")
    found: Callable[[Any], Callable[[Any], Any]] = getattr(importlib.import_module(module), name)
    return found


def _result(work: Callable[[Any], Any], item: Any) -> tuple[str, Any]:
    try:
        return DONE, work(item)
    except Exception as error:
        kind = next(kind.__name__ for kind in (MemoryError, OSError, Exception) if isinstance(error, kind))
        return FAILED, (kind, str(error), traceback.format_exc())


def _listen(jobs: "queue.SimpleQueue[list[Any]]") -> None:
    """Beside the work, so that the parent's end is noticed while an image is decoded."""
    try:
        while True:
            jobs.put(read_message(sys.stdin.buffer))
    except EOFError:
        os._exit(0)


def keep_freed_memory() -> None:
    """From now on this process keeps what it frees for what it allocates next. Only glibc listens.

    By default an image's megabytes are given back and faulted in anew, page by page, for the next. Not for training,
    where the peak grows with it (docs/performance.md).
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
        mallopt(TOP_PAD, 2**26)
        mallopt(MMAP_MAX, 0)


if __name__ == "__main__":
    main()
