"""Seconds of each command of docs/quickstart.md, in a process of its own, as a reader gives them one after the other.

python benchmarks/quickstart.py
"""

import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import Row, environment, finish, options, timed

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from commands import blocks, expanded, lines, smaller  # noqa: E402


def main() -> None:
    arguments = options(__doc__).parse_args()
    with TemporaryDirectory() as name:
        work = Path(name)
        (work / "recipes").symlink_to(ROOT / "recipes")
        steps = [measured(words, work, quick=arguments.quick) for words in commands(ROOT / "docs" / "quickstart.md")]
    total = {"command": "together", "s": sum(step["s"] for step in steps)}
    finish(arguments, "quickstart", {"steps": [*steps, total]})


def commands(page: Path) -> list[list[str]]:
    """The page's `imitate` commands, without the one that serves until it is stopped."""
    given = [words for block in blocks(page) if block.language == "sh" for words in lines(block.text)]
    return [words for words in given if words[0] == "imitate" and words[1] != "serve"]


def measured(words: list[str], work: Path, *, quick: bool) -> Row:
    _, verb, *rest = words
    rest = expanded(smaller(verb, rest) if quick else rest, work)
    run = partial(subprocess.run, cwd=work, check=True, capture_output=True, env=environment())
    return {
        "command": f"`{' '.join(words[:3])}`",
        "s": timed(lambda: run([sys.executable, "-m", "imitate", verb, *rest])),
    }


if __name__ == "__main__":
    main()
