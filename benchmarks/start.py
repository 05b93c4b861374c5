"""What it costs to start: CPU seconds and peak memory of every ``--help``, and of what precedes decoding.

    python benchmarks/start.py

The smallest of four runs each, of a process of its own; on an idle machine.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from imitate.cli import COMMANDS
from measuring import Row, environment, finish, options

MORE = (
    ("prepare", "mimic-cxr"),
    ("prepare", "table"),
    ("doctor", "x", "--source", "rsna"),
    ("pretrain", "recipes/tiny.yaml"),
    ("evaluate", "retrieval"),
)
HELP = "< 0.5 CPU s, < 150 MB"
DECODING = """
import sys
from pathlib import Path
from imitate.cli import main
import imitate.data.writer as writer

def stop(plan, engine, absent, lengths):
    sys.exit(0)

writer._run = stop
main(["prepare", "open-i", "--raw", sys.argv[1], "--out", sys.argv[2], "--workers", "1"])
"""
TABLES = """
import sys
from pathlib import Path
from imitate.sources import find_source
source = find_source("open-i")
for _ in source.records(source.Options(raw=Path(sys.argv[1]))):
    pass
"""


def main() -> None:
    arguments = options(__doc__).parse_args()
    commands = [(), *((name,) for name in COMMANDS), *MORE]
    helps = []
    for words in commands[:2] if arguments.quick else commands:
        line = " ".join(("imitate", *words, "--help"))
        helps.append({"command": line, **cost([sys.executable, "-m", "imitate", *words, "--help"]), "target": HELP})
    finish(arguments, "start", {"help": helps, "decoding": decoding(20 if arguments.quick else 3000)})


def decoding(records: int) -> list[Row]:
    """Of ``imitate prepare open-i`` up to its first image, and of reading the tables and reports alone."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        making = [sys.executable, "-m", "imitate", "synthesize", "open-i", "--out", str(raw), "--n", str(records)]
        subprocess.run(making, check=True, stderr=subprocess.DEVNULL)
        for number, (name, code) in enumerate((("until decoding", DECODING), ("tables and reports", TABLES))):
            runs = [cost([sys.executable, "-c", code, str(raw), f"{folder}/{number}-{run}"], 1) for run in range(4)]
            found[name] = min(runs, key=lambda each: each["CPU s"])
    rows = [{"open-i, up to": name, "records": records, **each, "target": ""} for name, each in found.items()]
    apart = found["until decoding"]["CPU s"] - found["tables and reports"]["CPU s"]
    return [*rows, {**rows[0], "open-i, up to": "the difference", "CPU s": apart, "target": "< 1 CPU s"}]


def cost(command: list[str], runs: int = 4) -> dict[str, float]:
    """Of the cheapest of several runs, of which the first may compile the modules."""
    found = []
    for _ in range(runs):
        with Path(os.devnull).open("w") as nowhere:
            process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, env=environment())
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, command
        found.append({"CPU s": used.ru_utime + used.ru_stime, "MB at most": used.ru_maxrss / 1024})
    return min(found, key=lambda each: each["CPU s"])


if __name__ == "__main__":
    main()
