import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from folders import in_memory, write_folder

from imitate.data.corpus import Corpus
from imitate.statistics import resampling
from imitate.tasks import find_task, results
from imitate.tasks.measuring import estimates
from imitate.tasks.record import called


def test_runs_in_numbered_folders_have_the_name_of_the_folder_above(tmp_path: Path) -> None:
    def name(*folders: str) -> str:
        for folder in folders:
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        return called([str(tmp_path / folder) for folder in folders], ["0"] * len(folders))

    assert name("runs/ours/0", "runs/ours/1", "runs/ours/2") == "ours"
    assert name("runs/ours/0") == "ours/0"
    assert name("runs/first", "runs/second") == "first + second"
    assert name("runs/first", "runs/first") == "first"
    assert name("runs/ours/0/model", "runs/ours/1/best") == "ours"
    assert name("runs/ours/0", "runs/theirs/0") == "ours/0 + theirs/0"
    assert called(["random", "random"], ["random", "random"]) == "random"


@pytest.mark.skipif(not shutil.which("git"), reason="makes a checkout")
def test_results_name_the_commit_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(root: Path) -> str | None:
        monkeypatch.setattr(results, "__file__", str(root / "src" / "imitate" / "tasks" / "results.py"))
        return results.commit()

    def git(*words: str) -> str:
        settings = ("-c", "user.name=x", "-c", "user.email=x@x")
        return subprocess.run(
            ["git", "-C", tmp_path, *settings, *words], capture_output=True, check=True
        ).stdout.decode()

    assert found(tmp_path) is None  # an installed package
    git("init", "-q")
    assert found(tmp_path) is None  # nothing is committed
    git("commit", "-q", "--allow-empty", "-m", "x")
    git("worktree", "add", "-q", "-b", "other", str(tmp_path / "second"))
    here = git("rev-parse", "HEAD").strip()
    assert found(tmp_path) == found(tmp_path / "second") == here
    git("pack-refs", "--all")
    assert found(tmp_path) == found(tmp_path / "second") == here
    git("checkout", "-q", "--detach")
    assert found(tmp_path) == here


def test_intervals_of_average_precision_are_bias_corrected_and_others_are_not(tmp_path: Path) -> None:
    data = in_memory(Corpus.open(write_folder(tmp_path / "data")))
    task, generator = find_task("zero-shot")(), np.random.default_rng(0)
    run = {
        "image_id": data.table["image_id"].to_numpy(str),
        "patient": data.table["patient"].to_numpy(str),
        "target": (generator.random((len(data), 1)) < 0.3).astype(np.float32),
        "score": generator.normal(size=(len(data), 1)).astype(np.float32),
        "classes": np.array(["Edema"]),
    }
    measured = task.measure(run)
    found = estimates(task, [run], [measured], 100)
    drawn = resampling.bootstrap([lambda counts: task.resample(run, counts)], run["patient"], resamples=100)
    for name, corrected in (("auroc", None), ("average-precision/Edema", measured["average-precision/Edema"])):
        assert (found[name].low, found[name].high) == resampling.interval(drawn[name], estimate=corrected)
    assert resampling.interval(drawn["average-precision"]) != (
        found["average-precision"].low,
        found["average-precision"].high,
    )
