"""studies.sh: two studies at a time, each once, with the options of its fold and family."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("timeout")), reason="needs bash and timeout")
def test_each_study_is_run_once_with_its_options(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/usr/bin/env bash\necho "$@" >> "$CALLS"\n')
    python.chmod(0o755)
    command = [
        "bash",
        str(ROOT / "experiments/studies.sh"),
        "WORK",
        "60",
        "longer",
        "folds/2:chosen",
        "dense",
        "folds/0",
    ]
    environment = {**os.environ, "PYTHON": str(python), "CALLS": str(tmp_path / "calls")}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines() if "run.py" in line]
    given = {Path(call[1]).stem: call[2:] for call in calls if "--fold" not in call}
    assert set(given) == {"longer", "dense"} and given["dense"][:4] == [
        "--work",
        "WORK",
        "--out",
        "docs/results/dense",
    ]
    folds = {call[call.index("--fold") + 1]: call for call in calls if "--fold" in call}
    assert (
        len(calls) == 4
        and set(folds) == {"0", "2"}
        and all("docs/results/folds/fold-" in " ".join(c) for c in folds.values())
    )
    assert folds["2"][-2:] == ["--families", "chosen"] and "--families" not in folds["0"]
