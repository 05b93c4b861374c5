"""Interruptions: whatever stops the writer, and however many workers it has, the files come out the same."""

import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imitate.data import chunks, writing
from imitate.data.chunks import Preparation
from imitate.data.pixels import read_gray
from imitate.data.prepared import Dropped, Record
from imitate.data.unfinished import Unfinished
from imitate.data.writing import write_prepared
from imitate.errors import UserError

SETTINGS = Preparation(source="table", size=24, options={"raw": "/archive"})
N = 150
FORK = multiprocessing.get_context("fork")


def everywhere(width: int, height: int) -> np.ndarray:
    return np.ones((height, width), bool)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    for i in range(N):
        gray = np.random.default_rng(i).integers(1, 255, (40, 32)).astype(np.uint8)
        Image.fromarray(gray * (i % 10 != 3)).save(folder / f"{i}.png")
    return folder


def records(raw: Path) -> Iterator[Record | Dropped]:
    """Some black images, some masks from the 41st record on."""
    for i in range(N):
        mask = everywhere if i > 40 and i % 2 else None
        yield Record(str(i), raw / f"{i}.png", f"p{i}", "s", findings=f"Ombre à gauche, {i}. " * 9, mask=mask)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 4)


@pytest.fixture(scope="module")
def reference(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reference") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK", 4)
        write_prepared(records(raw), out, SETTINGS)
    return out


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def child(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    """A forked process that does ``work``; 7 where it ends in a UserError."""

    def run() -> None:
        try:
            work()
        except UserError as error:
            sys.stderr.write(str(error))
            os._exit(7)
        os._exit(0)

    process = FORK.Process(target=run)
    process.start()
    return process


def test_kills_at_any_moment_change_nothing(raw: Path, reference: Path, tmp_path: Path) -> None:
    """SIGKILL a real process again and again, each time somewhat further, until it gets through."""
    out, chance, kills, size = tmp_path / "out", random.Random(0), 0, 0

    def slow() -> Iterator[Record | Dropped]:
        for record in records(raw):
            time.sleep(0.002)
            yield record

    while True:
        process = child(lambda: write_prepared(slow(), out, SETTINGS))
        goal = size + chance.randrange(12_000)
        while process.is_alive() and size < goal:
            with suppress(FileNotFoundError):
                size = (out / "progress.jsonl").stat().st_size
            time.sleep(chance.uniform(0, 0.005))
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        kills += 1
    assert kills > 1
    assert files(out) == files(reference)


@pytest.mark.parametrize("moment", ["seal", "_write_table", "fingerprint", "replace", "unlink"])
def test_a_kill_while_finishing_changes_nothing(
    moment: str, raw: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = {"seal": Unfinished, "replace": Path, "unlink": Path}
    with monkeypatch.context() as patch:

        def die(subject: object, *_: object, **__: object) -> None:
            if getattr(subject, "name", "") != "masks.npy":  # whose absence is assured at the start
                os.kill(os.getpid(), signal.SIGKILL)

        def strike() -> None:
            patch.setattr(homes.get(moment, writing), moment, die)
            write_prepared(records(raw), tmp_path / "out", SETTINGS)

        process = child(strike)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert (tmp_path / "out" / "meta.json").exists() == (moment == "unlink")
    meta = write_prepared(records(raw), tmp_path / "out", SETTINGS)
    assert files(tmp_path / "out") == files(reference)
    assert meta == json.loads((reference / "meta.json").read_text())


def test_finished_chunks_are_not_done_again(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> Iterator[Record | Dropped]:
        for number, record in enumerate(records(raw)):
            if number == 102:
                raise KeyboardInterrupt
            yield record

    with pytest.raises(KeyboardInterrupt):
        write_prepared(interrupted(), tmp_path / "out", SETTINGS)
    read: list[Path] = []
    monkeypatch.setattr(chunks, "read_gray", lambda path: (read.append(path), read_gray(path))[1])
    write_prepared(records(raw), tmp_path / "out", SETTINGS)
    assert read and min(int(path.stem) for path in read) == 100


def test_a_full_disk_is_told_and_mended(
    raw: Path, reference: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    def cramped(room: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        write_prepared(records(raw), tmp_path / "out", SETTINGS)

    for room in (300, 30_000, 60_000):
        process = child(partial(cramped, room))
        process.join(60)
        assert process.exitcode == 7
        told = capfd.readouterr().err
        assert "no space left for" in told and "run the same command again" in told and "\n" not in told
    write_prepared(records(raw), tmp_path / "out", SETTINGS)
    assert files(tmp_path / "out") == files(reference)


def test_changed_raw_data_are_not_mixed_in(raw: Path, tmp_path: Path) -> None:
    def some(stop: int, mark: str = "") -> Iterator[Record | Dropped]:
        for number, record in enumerate(records(raw)):
            if number == stop:
                raise KeyboardInterrupt
            yield Dropped("x", mark) if mark and number == 9 else record

    with pytest.raises(KeyboardInterrupt):
        write_prepared(some(50), tmp_path, SETTINGS)
    with pytest.raises(UserError, match="the raw data changed since"):
        write_prepared(some(200, "new"), tmp_path, SETTINGS)
    with pytest.raises(UserError, match="the raw data changed since"):
        write_prepared(iter(list(records(raw))[:20]), tmp_path, SETTINGS)


SCRIPT = """
import sys
from pathlib import Path
from PIL import Image
from imitate.data import chunks
from imitate.data.chunks import Preparation
from imitate.data.prepared import Record
from imitate.data.writing import write_prepared

def records(raw):
    for i in range(600):
        yield Record(str(i), Path(raw) / f"{i % 100 + 10}.png", "p", "s", findings=str(i))

if __name__ == "__main__":
    chunks.CHUNK = 8
    write_prepared(records(sys.argv[1]), Path(sys.argv[2]), Preparation(source="table", size=24), workers=2)
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds its processes in /proc")
def test_killed_workers_end_and_any_number_of_them_gives_the_same(raw: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "IMITATE_TEST_MARK": str(tmp_path)}
    process = subprocess.Popen([sys.executable, str(script), str(raw), str(out)], env=environment)
    deadline = time.monotonic() + 60
    while not ((out / "images.npy").exists() and (out / "images.npy").stat().st_size > 20_000):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    assert len(marked(tmp_path)) >= 3  # the parent, its fork server, a worker
    process.kill()
    process.wait()
    while marked(tmp_path):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.05)
    assert not (out / "meta.json").exists()
    scope: dict[str, Callable[..., Iterator[Record]]] = {}
    exec(compile(SCRIPT, "run.py", "exec"), scope)
    settings = Preparation(source="table", size=24)
    for folder in (out, tmp_path / "alone"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chunks, "CHUNK", 8)
            write_prepared(scope["records"](raw), folder, settings)
    assert files(out) == files(tmp_path / "alone")


def marked(mark: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"IMITATE_TEST_MARK={mark}".encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found
