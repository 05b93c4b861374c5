"""A Dask cluster on this machine, one worker of which is killed on the way."""

import os
import sys
from pathlib import Path

import pytest
from raw_archive import SETTINGS, archive_records, content, make_archive

from imitate.data import cluster, manifest
from imitate.data.writer import Engine, write_folder
from imitate.errors import UserError

distributed = pytest.importorskip("distributed", reason="needs the extra [cluster]")


@pytest.mark.slow
def test_a_cluster_writes_the_same_though_a_worker_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "ROWS", 16)
    (tmp_path / "raw").mkdir()
    archive = make_archive(tmp_path / "raw")
    given = list(archive_records(archive.root))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**settings, host="127.0.0.1") as running:
        original = cluster.on_cluster
        killed = []

        def watch(*arguments: object) -> object:
            for number, shard in enumerate(original(*arguments)):
                if number == 1:
                    worker = next(iter(running.workers.values()))
                    killed.append(worker.pid)
                    os.kill(worker.pid, 9)
                yield shard

        monkeypatch.setattr("imitate.data.writer.on_cluster", watch)
        engine = Engine(cluster=running.scheduler_address)
        write_folder(given, tmp_path / "cluster", SETTINGS, archive=archive, engine=engine)
    assert killed
    write_folder(given, tmp_path / "alone", SETTINGS, archive=archive, engine=Engine(workers=1))
    assert content(tmp_path / "cluster") == content(tmp_path / "alone")


def test_nobody_at_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_LIMIT", 1)
    archive = make_archive(tmp_path)
    for address in ("tcp://127.0.0.1:9", "nonsense"):
        with pytest.raises(UserError, match=f"no Dask scheduler responds at {address} .* omit --cluster"):
            write_folder(
                archive_records(tmp_path), tmp_path / "out", SETTINGS, archive=archive, engine=Engine(cluster=address)
            )


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    archive = make_archive(tmp_path)
    with pytest.raises(UserError, match="pip install 'imitate-cxr\\[cluster\\]'"):
        write_folder(archive_records(tmp_path), tmp_path / "out", SETTINGS, archive=archive, engine=Engine(cluster="x"))
