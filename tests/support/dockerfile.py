"""A Dockerfile's instructions, and those of its steps that can be carried out without Docker, in a folder."""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple


class Step(NamedTuple):
    instruction: str
    value: str


class Stage(NamedTuple):
    base: str
    steps: list[Step]


def stages(path: Path) -> dict[str, Stage]:
    """Each stage by its name, in order."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: dict[str, Stage] = {}
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        instruction, _, value = line.partition(" ")
        if instruction == "FROM":
            base, _, name = value.partition(" AS ")
            found[name] = Stage(base, [])
        elif line and found:
            next(reversed(found.values())).steps.append(Step(instruction, value.strip()))
    return found


def lineage(found: dict[str, Stage], name: str) -> list[Step]:
    """The steps of a stage and of those that it begins with."""
    stage = found[name]
    return [*(lineage(found, stage.base) if stage.base in found else []), *stage.steps]


class Room:
    """A folder in place of the root of an image; ``context`` is what COPY reads from, as far as .dockerignore lets it.

    The image's own folders (/src, /dist, /opt, /work and files in /tmp) lie in it. What makes users or installs
    packages of the system is kept in ``left``, not carried out.
    """

    OWN = re.compile(r"(?<![\w./$])/(src|dist|opt|work|tmp)\b")

    def __init__(self, root: Path, context: Path, **environment: str) -> None:
        self.root, self.context, self.left = root, context, list[str]()
        self.environment = {**os.environ, **environment}
        ignore = (context / ".dockerignore").read_text(encoding="utf-8").splitlines()
        self.sent = {line[1:] for line in ignore if line.startswith("!")}
        for name in ("src", "dist", "opt", "work", "tmp"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def inside(self, text: str) -> str:
        return self.OWN.sub(rf"{self.root}/\1", text)

    def carry_out(self, steps: list[Step], **arguments: str) -> None:
        for step in steps:
            match step.instruction:
                case "ARG":
                    name, _, default = step.value.partition("=")
                    self.environment[name] = arguments.get(name, default.strip('"'))
                case "ENV":
                    for name, value in re.findall(r"(\w+)=(\S+)", self.inside(step.value)):
                        self.environment[name] = value.replace("$PATH", self.environment["PATH"])
                case "COPY" if "--from" not in step.value:
                    self._copy(step.value.split())
                case "RUN" if re.match(r"useradd|apt-get", step.value):
                    self.left.append(step.value)
                case "RUN":
                    self.shell(self.inside(step.value))
                case _:
                    pass

    def shell(self, line: str) -> None:
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=self.root / "work",
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"

    def _copy(self, words: list[str]) -> None:
        *sources, target = words
        for source in sources:
            assert source in self.sent, f".dockerignore does not send {source}"
        if target.endswith("/"):
            self.shell(f"mkdir -p {self.inside(target)}")
        for source in sources:
            self.shell(f"cp -r {self.context / source} {self.inside(target)}")
