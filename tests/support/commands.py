"""The commands of the documentation: read from its fenced blocks, carried out small, or only parsed.

A block of ``sh`` is run line by line. One that cannot be run where the tests run has ``<!-- not run: the reason -->``
above it: its commands are parsed by their own parsers all the same.
"""

import argparse
import functools
import json
import re
import runpy
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import yaml
from processes import HANG, until

from imitate.cli import function_of, main

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"(?P<not_run><!-- not run: .+ -->\n)?^```(?P<language>\w+)(?: title=\"(?P<title>.+?)\")?\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
SMALLER = {  # flags that make a documented command small enough for a test
    "synthesize": ["--n", "60"],
    "evaluate": ["--resamples", "20"],
    "pretrain": ["--settings", "training.epochs=1", "training.batch_size=16", "training.precision=32-true"],
}


class Block(NamedTuple):
    language: str
    title: str | None
    text: str
    run: bool


def blocks(page: Path) -> list[Block]:
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(each["language"], each["title"], each["text"], each["not_run"] is None) for each in found]


def lines(text: str) -> Iterator[list[str]]:
    """Each command's words: lines joined at a backslash, without comments, without variables set for it alone."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words:
            yield words


class Page:
    """One page's commands, in order, in the current folder; servers that it starts live as long as it does."""

    def __init__(self) -> None:
        self.address, self.token, self.image = "", "", ""
        self._stop: list[Callable[[], None]] = []

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_: object) -> None:
        for stop in self._stop:
            stop()

    def run(self, words: list[str]) -> None:
        match words:
            case ["imitate", "serve", *rest]:
                self._serve(rest)
            case ["imitate", "demo", *rest]:
                self._demo(rest)
            case ["imitate", name, *rest]:
                assert main([name, *smaller(name, expanded(rest))]) == 0, shlex.join(words)
            case ["curl", *rest]:
                self._curl(rest)
            case _:
                parse(words)

    def _demo(self, rest: list[str]) -> None:
        """What the demo leaves behind, of a few images and one epoch, without its tables."""
        module = import_module("imitate.commands.demo")

        def briefly(*arguments: Any, **options: Any) -> Any:
            return trained(*arguments, **options, training={"epochs": 1, "batch_size": 16})

        trained = module.pretrain
        with (
            patch.multiple(module, STUDIES=60, LABELLED=40, pretrain=briefly),
            patch.object(module, "_measure"),
            patch.object(module, "report"),
        ):
            assert main(["demo", *rest]) == 0

    def _serve(self, rest: list[str]) -> None:
        app = import_module("imitate.serve.server")
        servers: list[Any] = []

        def kept(*arguments: Any) -> Any:
            servers.append(build(*arguments))
            return servers[-1]

        build = app.web_server
        with patch.object(app, "web_server", kept):
            thread = threading.Thread(target=main, args=(["serve", *rest, "--port", "0"],), daemon=True)
            thread.start()
            until(lambda: servers and servers[0].started, alive=thread.is_alive, what="the server starts")
        port = servers[0].servers[0].sockets[0].getsockname()[1]
        self.address, self.token = f"http://127.0.0.1:{port}", servers[0].config.app.token

        def stop() -> None:
            servers[0].should_exit = True
            thread.join(HANG)

        self._stop.append(stop)

    def _curl(self, rest: list[str]) -> None:
        """Against the server that the page started; TOKEN is the server's, ID what the last upload returned."""
        rest = [self.token if word == "TOKEN" else word for word in rest]
        rest = [re.sub(r"http://[\w.:]+", self.address, word).replace("/ID/", f"/{self.image}/") for word in rest]
        out = Path(rest[rest.index(">") + 1]) if ">" in rest else None
        rest = rest[: rest.index(">")] if out else rest
        response = subprocess.run(["curl", "-sS", "--fail", *rest], capture_output=True, check=True).stdout
        if out:
            out.write_bytes(response)
        else:
            self.image = json.loads(response).get("id", self.image)


def smaller(name: str, rest: list[str]) -> list[str]:
    """The same command with fewer images, steps or resamples; its own settings stay where they say something else."""
    flag, *values = SMALLER.get(name, ["", ""])
    if not flag:
        return rest
    if flag not in rest:
        return [*rest, flag, *values]
    at = rest.index(flag) + 1
    after = next((i for i in range(at, len(rest)) if rest[i].startswith("--")), len(rest))
    return [*rest[:at], *(rest[at:after] if flag == "--settings" else []), *values, *rest[after:]]


def expanded(words: list[str], folder: Path = Path()) -> list[str]:
    """Patterns of files as a shell in ``folder`` fills them in."""
    found = [
        sorted(each.relative_to(folder) for each in folder.glob(word)) if "*" in word else [word] for word in words
    ]
    return [str(each) for some in found for each in some]


def parse(words: list[str]) -> None:
    """Fails where the command's own parser would."""
    match words:
        case ["srun", *rest]:
            parse(rest)
        case ["if", "[", *_, "fi"]:  # of the shell
            pass
        case ["torchrun", *rest]:
            from torch.distributed.run import get_args_parser

            known = get_args_parser().parse_args(rest)
            assert known.module, "torchrun starts imitate with -m"
            parse([known.training_script, *known.training_script_args])
        case ["imitate", name, *rest]:
            with only_parsed(name):
                assert main([name, *rest]) == 0, shlex.join(words)
        case ["python", script, *rest]:
            with reading_arguments([script, *rest]):
                runpy.run_path(str(ROOT / script), run_name="__main__")
                raise AssertionError(f"{script} read no arguments")
        case ["sbatch", *rest]:
            assert (ROOT / next(word for word in rest if not word.startswith("-"))).is_file()
        case ["docker" | "apptainer", "run", *rest]:
            at = next(i for i, word in enumerate(rest) if re.fullmatch(r"imitate(:cuda|\.sif)?", word))
            parse(["imitate", *rest[at + 1 :]])
        case ["docker", "compose", "up", service]:
            assert service in yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
        case ["docker", "build", "--tag", _, *target, "."]:
            assert not target or f" AS {target[1]}\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
        case ["apptainer", _, *files]:
            assert all((ROOT / name).is_file() for name in files if not name.endswith(".sif"))
        case ["make", target, *variables]:
            assert all(f"$({each.partition('=')[0]})" in (ROOT / "Makefile").read_text() for each in variables)
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"no target {target}"
        case ["pip", "install", what]:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            name, _, extra = what.rstrip("]").partition("[")
            assert name in (".", project["name"]) and (not extra or extra in project["optional-dependencies"])
        case _:
            raise AssertionError(f"what is {shlex.join(words)}?")


@contextmanager
def only_parsed(name: str) -> Iterator[None]:
    """The verb behind a command does nothing, and has the same flags."""
    verb = function_of(name)
    module = import_module(f"imitate.commands.{verb}")
    with patch.object(module, verb, functools.wraps(getattr(module, verb))(lambda *_, **__: None)):
        yield


class _Read(Exception):
    """The script has read its arguments."""


@contextmanager
def reading_arguments(words: list[str]) -> Iterator[None]:
    read = argparse.ArgumentParser.parse_args

    def parsed(parser: argparse.ArgumentParser, *arguments: Any) -> None:
        read(parser, *arguments)
        raise _Read

    folder = str((ROOT / words[0]).parent)
    with patch.object(argparse.ArgumentParser, "parse_args", parsed), patch.object(sys, "argv", words):
        sys.path.insert(0, folder)
        try:
            yield
        except _Read:
            pass
        finally:
            sys.path.remove(folder)
