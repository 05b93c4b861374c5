"""Processes that write a prepared folder, killed at random moments."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from raw_archive import content

SCRIPT = Path(__file__).with_name("write_archive.py")


def start_writing(raw: Path, out: Path, *, workers: int = 1, part: tuple[int, int] = (1, 1)) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, SCRIPT, raw, out, *map(str, (workers, *part))], env=environment)


def kill_at_random(raw: Path, out: Path, whole: dict[str, bytes], *, kills: int) -> None:
    """SIGKILL processes, each after some more files have appeared; what gets through, and the last, equals ``whole``."""
    chance, died = Random(0), 0

    def files() -> int:
        return len(list(out.rglob("*")))

    while died < kills:
        goal = files() + chance.randrange(1, 8)
        process = start_writing(raw, out, workers=2)
        while process.poll() is None and files() < goal:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        if process.wait() != 0:
            died += 1
            continue
        assert content(out) == whole
        shutil.rmtree(out)
    assert start_writing(raw, out, workers=2).wait(500) == 0
    assert content(out) == whole
