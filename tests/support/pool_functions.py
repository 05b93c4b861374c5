"""Functions for worker processes in tests: they crash, hang, print and raise on demand."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def scripted(setup: Path) -> Callable[[Any], Any]:
    """``setup`` is a folder for marks."""

    def work(item: Any) -> Any:
        if item == "crash":
            os._exit(3)
        if item == "crash once" and not (setup / "crashed").exists():
            (setup / "crashed").touch()
            os._exit(3)
        if item == "hang":
            time.sleep(600)
        if item == "print":
            sys.stdout.write("x" * 100_000)
        if item == "raise":
            raise KeyError("a fault of ours")
        if item == "disk":
            raise OSError(5, "Input/output error")
        if item == "memory":
            raise MemoryError
        return item, os.getpid()

    return work


def broken(setup: Any) -> Callable[[Any], Any]:
    raise ValueError("does not start")
