import shutil
import subprocess
from pathlib import Path

import pytest

from imitate.tasks import results
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

    monkeypatch.delenv("IMITATE_COMMIT", raising=False)
    assert found(tmp_path) is None  # an installed package
    monkeypatch.setenv("IMITATE_COMMIT", "of-a-copy")
    assert found(tmp_path) == "of-a-copy"
    git("init", "-q")
    assert found(tmp_path) == "of-a-copy"  # nothing is committed
    git("commit", "-q", "--allow-empty", "-m", "x")
    git("worktree", "add", "-q", "-b", "other", str(tmp_path / "second"))
    here = git("rev-parse", "HEAD").strip()
    assert found(tmp_path) == found(tmp_path / "second") == here
    git("pack-refs", "--all")
    assert found(tmp_path) == found(tmp_path / "second") == here
    git("checkout", "-q", "--detach")
    assert found(tmp_path) == here
