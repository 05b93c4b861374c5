from pathlib import Path

import pytest

from imitate.tasks.base import Fit
from imitate.tasks.record import called, numbered, precision


def test_a_row_is_called_after_its_folders_or_its_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ours/0/model", "ours/1/best", "theirs/0", "single/model"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert called(["runs/single"], ["x"]) == called(["runs/single/model"], ["x"]) == "single"
    assert called(["random"], ["resnet50 (random)"]) == "resnet50 (random)"
    assert called(["runs/ours/0"], ["x"]) == called(["runs/ours/0/model"], ["x"]) == "ours/0"
    assert called(["runs/ours/0", "runs/ours/1/best"], ["x", "y"]) == "ours"
    assert called(["runs/ours/0", "runs/theirs/0"], ["x", "y"]) == "ours/0 + theirs/0"
    assert called(["random", "random"], ["r", "r"]) == "r"
    assert called(["runs/single", "random"], ["x", "r"]) == "single + r"
    (tmp_path / "runs/2023").mkdir()
    (tmp_path / "0").touch()
    assert called([str(tmp_path / "0")], ["file"]) == "file"  # a file of weights has its encoder's name


def test_fits_on_the_same_weights_are_heads_of_one_run() -> None:
    expected = [Fit(run=0, head=0), Fit(run=1, head=0), Fit(run=0, head=1), Fit(run=2, head=0), Fit(run=0, head=2)]
    assert numbered(["a", "b", "a", "c", "a"]) == expected and numbered([]) == []


def test_a_cpu_computes_in_float32() -> None:
    assert precision("cpu") == "float32"
