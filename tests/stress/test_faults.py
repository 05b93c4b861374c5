"""Disks that are full or read-only, folders in use, clocks that jump: one line, nothing lost."""

import os
import resource
import sys
import time
from itertools import count
from pathlib import Path

from runs import pretrain

from imitate import cli
from imitate.synthetic.layouts import LAYOUTS

RESULT = ("model/model.safetensors", "metrics.jsonl")


def content(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in RESULT]


def in_a_fork(largest: int, recipe: Path, data: Path, out: Path) -> tuple[int, str]:
    """Exit code and words of pre-training that may write no file above ``largest`` bytes."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        sys.stderr = os.fdopen(writing, "w")
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        try:
            code = pretrain(recipe, data, out)
            sys.stderr.flush()
            os._exit(code)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as file:
        reported = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), reported


def test_without_room_pre_training_reports_it_and_continues(undisturbed, tmp_path):
    recipe, data, whole = undisturbed
    checkpoint, model = ((whole / name).stat().st_size for name in ("last.ckpt", "model/model.safetensors"))
    assert model < checkpoint
    for largest in (100, 4000, model - 9, checkpoint - 9):
        code, words = in_a_fork(largest, recipe, data, tmp_path / "run")
        reported = [line for line in words.splitlines() if line.startswith("imitate pretrain:")]
        assert code == 2, f"with files of {largest} bytes at most: {words[-500:]}"
        assert len(reported) == 1 and "cannot write" in reported[0] and os.strerror(27) in reported[0]
    assert pretrain(recipe, data, tmp_path / "run") == 0
    assert content(tmp_path / "run") == content(whole)


def test_a_place_that_takes_no_files_is_reported(undisturbed, tmp_path, capsys):
    recipe, data, _ = undisturbed
    LAYOUTS["table"](tmp_path / "raw", n=20, seed=0, size=64)
    (tmp_path / "file").touch()
    for out in ("/proc/run", str(tmp_path / "file" / "run")):
        assert pretrain(recipe, data, Path(out)) == 2
        assert cli.main(["prepare", "table", "--raw", str(tmp_path / "raw"), "--out", out]) == 2
        reported = [line for line in capsys.readouterr().err.splitlines() if line.startswith("imitate ")]
        assert len(reported) == 2 and all(f"cannot write into {out}" in line for line in reported)


def test_a_clock_that_jumps_changes_nothing(undisturbed, tmp_path, monkeypatch):
    recipe, data, whole = undisturbed
    calls, clock = count(), time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 86_400 * (-1) ** (next(calls) // 20))  # a day forth and back
    assert pretrain(recipe, data, tmp_path / "run") == 0
    assert content(tmp_path / "run") == content(whole)
