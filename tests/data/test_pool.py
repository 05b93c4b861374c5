import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imitate.data.pool import Pool
from imitate.data.worker import Failure
from imitate.errors import UserError

SCRIPTED = "pool_functions:scripted"


def results(folder: Path, *jobs: list[object], workers: int = 1, time_limit: float = 60) -> list[object]:
    with Pool(SCRIPTED, setup=folder, workers=workers, time_limit=time_limit) as pool:
        found = list(pool.map(enumerate(jobs)))
    assert [key for key, _ in found] == list(range(len(jobs)))
    return [each if isinstance(each, Failure) else each[0] for _, some in found for each in some]


def test_results_come_in_order_from_any_number_of_workers(tmp_path: Path) -> None:
    jobs = [[*range(5 * n, 5 * n + n % 4)] for n in range(20)]
    expected = [item for job in jobs for item in job]
    assert results(tmp_path, *jobs) == results(tmp_path, *jobs, workers=3) == expected


def test_a_crash_costs_the_item_that_caused_it(tmp_path: Path) -> None:
    crashed = Failure("crashes its decoder")
    found = results(tmp_path, [1, "crash", 2, "crash"], ["crash once", 3, "print"], [4], workers=2)
    assert found == [1, crashed, 2, crashed, "crash once", 3, "print", 4]
    assert (tmp_path / "crashed").exists()


def test_a_hang_costs_the_item_that_caused_it(tmp_path: Path) -> None:
    assert results(tmp_path, [1, "hang", 2], time_limit=1.5) == [1, Failure("decoder takes over 1.5 s"), 2]


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ("raise", RuntimeError, "a fault of ours"),
        ("disk", UserError, "cannot be read .*Input/output error.*: run the same command again"),
        ("memory", UserError, "out of memory in a worker process: .* fewer --workers"),
    ],
)
def test_other_faults_stop_the_run(item: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        results(tmp_path, [1], [2, item, 3], [4])


def test_workers_that_do_not_start_are_no_fault_of_the_items(capfd: pytest.CaptureFixture) -> None:
    with (
        Pool("pool_functions:broken", setup=None, workers=1, time_limit=60) as pool,
        pytest.raises(RuntimeError, match="does not start"),
    ):
        list(pool.map([(0, [1])]))
    assert "ValueError: does not start" in capfd.readouterr().err


def test_a_script_needs_no_main_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers do not import the program that starts them."""
    (tmp_path / "script.py").write_text("raise SystemExit('imported again')")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "script.py"), raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert results(tmp_path, [1, 2]) == [1, 2]


def test_leaving_ends_the_workers(tmp_path: Path) -> None:
    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt), Pool(SCRIPTED, setup=tmp_path, workers=2, time_limit=600) as pool:
        found = pool.map((n, [n] if n < 2 else ["hang"]) for n in range(50))
        pids += [pid for _, some in (next(found), next(found)) for _, pid in some]
        raise KeyboardInterrupt
    assert pids
    assert not any(alive(pid) for pid in pids)


SCRIPT = """
import sys
from imitate.data.pool import Pool
with Pool("pool_functions:scripted", setup=None, workers=2, time_limit=600) as pool:
    for _, some in pool.map((n, [n] if n < 2 else ["hang"]) for n in range(50)):
        print(*(pid for _, pid in some), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_killed_parent_leaves_no_workers() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout
    pids = [int(process.stdout.readline()) for _ in range(2)]
    assert all(map(alive, pids))
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 120
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")
