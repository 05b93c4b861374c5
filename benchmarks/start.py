"""What it costs to start: processor seconds and peak memory of every ``--help``, and of what precedes decoding.

    python benchmarks/start.py [--out FILE.json]

The smallest of three runs each, of a process of its own; on an idle machine, after one run that compiles the modules.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from imitate.cli import COMMANDS

MORE = (
    ("prepare", "mimic-cxr"),
    ("prepare", "table"),
    ("doctor", "x", "--source", "rsna"),
    ("pretrain", "recipes/tiny.yaml"),
    ("evaluate", "retrieval"),
)
RECORDS = 3000
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    found = {}
    for words in [(), *((name,) for name in COMMANDS), *MORE]:
        line = " ".join(("imitate", *words, "--help"))
        found[line] = cost([sys.executable, "-m", "imitate", *words, "--help"])
        print(f"{found[line]['cpu_s']:6.2f} s  {found[line]['peak_mb']:6.0f} MB  {line}", flush=True)
    found |= decoding()
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def decoding() -> dict[str, dict[str, float]]:
    """Of ``imitate prepare open-i`` up to its first image, and of reading the tables and reports alone."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        making = [sys.executable, "-m", "imitate", "synthesize", "open-i", "--out", str(raw), "--n", str(RECORDS)]
        subprocess.run(making, check=True, stderr=subprocess.DEVNULL)
        for number, (name, code) in enumerate((("until decoding", DECODING), ("tables and reports", TABLES))):
            runs = [
                cost([sys.executable, "-c", code, str(raw), f"{folder}/{number}-{run}"], runs=1) for run in range(3)
            ]
            found[name] = min(runs, key=lambda each: each["cpu_s"])
            print(f"{found[name]['cpu_s']:6.2f} s  {found[name]['peak_mb']:6.0f} MB  {name}", flush=True)
    print(f"{found['until decoding']['cpu_s'] - found['tables and reports']['cpu_s']:6.2f} s  apart from the tables")
    return found


def cost(command: list[str], *, runs: int = 3) -> dict[str, float]:
    """Of the cheapest of several runs."""
    found = []
    for _ in range(runs):
        with Path(os.devnull).open("w") as nowhere:
            process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, command
        found.append({"cpu_s": round(used.ru_utime + used.ru_stime, 3), "peak_mb": round(used.ru_maxrss / 1024, 1)})
    return min(found, key=lambda each: each["cpu_s"])


if __name__ == "__main__":
    main()
