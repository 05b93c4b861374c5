"""Interruptions: whatever stops the writer, the files come out the same."""

import json
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from killing import kill_at_random, start_writing
from raw_archive import SETTINGS, archive_records, content, make_archive

from imitate.data import index, manifest, shards, writer
from imitate.data.records import Excluded, Record
from imitate.data.writer import Archive, Engine, write_folder
from imitate.errors import UserError

ONE = Engine(workers=1)
FORK = multiprocessing.get_context("fork") if hasattr(os, "fork") else None


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return make_archive(tmp_path_factory.mktemp("raw"))


@pytest.fixture(autouse=True, scope="module")
def small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "ROWS", 8)
        patch.setattr(shards, "CHUNK", 4)
        yield


@pytest.fixture(scope="module")
def reference(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reference") / "out"
    write_folder(archive_records(archive.root), out, SETTINGS, archive=archive, engine=ONE)
    return out


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(archive: Archive, reference: Path, tmp_path: Path) -> None:
    kill_at_random(archive.root, tmp_path / "out", content(reference), kills=3)


@pytest.mark.slow
def test_parts_at_the_same_time_write_the_same(archive: Archive, reference: Path, tmp_path: Path) -> None:
    processes = [start_writing(archive.root, tmp_path / "out", part=(part, 3)) for part in (1, 2, 3)]
    assert [process.wait(500) for process in processes] == [0, 0, 0]
    assert content(tmp_path / "out") == content(reference)


@pytest.mark.skipif(FORK is None, reason="needs fork")
@pytest.mark.parametrize("moment", ["_publish", "_row", "sha256", "_build", "remove_parts", "replacing"])
def test_a_kill_at_this_moment_changes_nothing(
    moment: str, archive: Archive, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = {"_publish": writer, "_row": shards, "sha256": shards, "replacing": index}.get(moment, index)

    def strike() -> None:
        original, calls = getattr(home, moment), 0

        def die(*arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if moment == "_publish":  # after it
                original(*arguments, **options)
            elif moment in ("_row", "sha256") and calls < 30:
                return original(*arguments, **options)
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        monkeypatch.setattr(home, moment, die)
        write_folder(archive_records(archive.root), tmp_path / "out", SETTINGS, archive=archive, engine=ONE)

    process = child(strike)
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "out" / "index.json").exists()
    found = write_folder(archive_records(archive.root), tmp_path / "out", SETTINGS, archive=archive, engine=ONE)
    assert content(tmp_path / "out") == content(reference)
    assert found == json.loads((reference / "index.json").read_text())


def test_complete_shards_are_not_written_again(archive: Archive, reference: Path, tmp_path: Path) -> None:
    def interrupted() -> Iterator[Record | Excluded]:
        yield from archive_records(archive.root)

    plan = writer.Plan(tmp_path / "out", archive.root, SETTINGS, True, 60)
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:

        def stop(*arguments: object) -> None:
            if arguments[1] == 5:
                raise KeyboardInterrupt
            original(*arguments)

        original = shards._write
        patch.setattr(shards, "_write", stop)
        write_folder(interrupted(), plan.out, SETTINGS, archive=archive, engine=ONE)
    done = {path: path.stat().st_mtime_ns for path in (plan.out / "shards").iterdir()}
    assert {int(path.name[:5]) for path in done} == {0, 1, 2, 3, 4}
    write_folder(interrupted(), plan.out, SETTINGS, archive=archive, engine=ONE)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert content(plan.out) == content(reference)


def test_an_interrupted_append_is_continued(archive: Archive, tmp_path: Path) -> None:
    given = list(archive_records(archive.root))
    for name, append in (("whole", Engine(1)), ("parts", Engine(1, (2, 2)))):
        write_folder(given[:40], tmp_path / name, SETTINGS, archive=archive, engine=ONE)
        before = (tmp_path / name / "index.json").read_bytes()
        found = write_folder(given, tmp_path / name, SETTINGS, archive=archive, engine=append, append=True)
        if found is None:  # still the old folder for who reads it
            assert (tmp_path / name / "index.json").read_bytes() == before
            write_folder(given, tmp_path / name, SETTINGS, archive=archive, engine=ONE)
    assert content(tmp_path / "whole") == content(tmp_path / "parts")


@pytest.mark.skipif(FORK is None, reason="needs fork")
def test_a_full_disk_is_reported_and_fixed(
    archive: Archive, reference: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    for room in (300, 4_000, 6_500):

        def cramped(room: int = room) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            write_folder(archive_records(archive.root), tmp_path / "out", SETTINGS, archive=archive, engine=ONE)

        process = child(cramped)
        process.join(300)
        assert process.exitcode == 7
        message = capfd.readouterr().err
        assert "no space left for" in message and "run the same command again" in message and "\n" not in message
    write_folder(archive_records(archive.root), tmp_path / "out", SETTINGS, archive=archive, engine=ONE)
    assert content(tmp_path / "out") == content(reference)


def child(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    """A forked process that does ``work``; 7 where it ends in a UserError."""

    def run() -> None:
        try:
            work()
        except UserError as error:
            sys.stderr.write(str(error))
            os._exit(7)
        os._exit(0)

    assert FORK
    process = FORK.Process(target=run)
    process.start()
    return process
