"""Waiting for other processes and threads without a deadline that a busy machine misses."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile

HANG = 900  # seconds after which a wait is a hang, however busy the machine
SOURCE = Path(__file__).parents[2] / "src"
SERVING = """
import imitate.serve.server as server
def web_server(app):
    class Server:
        def run(self, sockets): print("listening", sockets[0].getsockname()[1])
    return Server()
server.web_server = web_server
"""  # after which `imitate serve` ends where it would begin to respond


def until(done: Callable[[], object], *, alive: Callable[[], object] = lambda: True, what: str) -> None:
    """Return when ``done`` is true. Fail when ``alive`` no longer is, or when nothing else would end the wait."""
    started = time.monotonic()
    while not done():
        assert alive(), f"ended before: {what}"
        assert time.monotonic() - started < HANG, f"still waiting after {HANG} s: {what}"
        time.sleep(0.01)


class Command:
    """``imitate ARGUMENTS`` on one thread without an accelerator, in a process of its own.

    A fork has the imports behind it and starts at once; a new interpreter is what a user starts.
    """

    def __init__(self, *arguments: object, fork: bool, **environment: str) -> None:
        words = list(map(str, arguments))
        variables = {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
        with NamedTemporaryFile(delete=False) as self._stderr:
            if fork:
                import_module(f"imitate.commands.{words[0]}")
                self._process = multiprocessing.get_context("fork").Process(target=self._run, args=(words, variables))
                self._process.start()
                self.pid = self._process.pid or 0
            else:
                command = [sys.executable, "-m", "imitate", *words]
                everything = {**os.environ, **variables}
                self._popen = subprocess.Popen(command, env=everything, stdout=subprocess.DEVNULL, stderr=self._stderr)
                self.pid = self._popen.pid
        self._fork = fork

    def _run(self, words: list[str], variables: dict[str, str]) -> None:
        from imitate.cli import main

        os.environ.update(variables)
        os.dup2(self._stderr.fileno(), 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        sys.exit(main(words))

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode if self._fork else self._popen.poll()

    def kill(self) -> None:
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)

    def end(self) -> tuple[int, str]:
        """Wait for the exit code and what was written to stderr."""
        until(lambda: self.code is not None, what="the end of a process")
        return self.code or 0, Path(self._stderr.name).read_text(encoding="utf-8")
