"""On systems that lack what Linux has: the commands, in a process from which it was taken away."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from processes import SERVING
from recipes import tiny_recipe

LACKING = {
    "fcntl, as on Windows": "sys.modules['fcntl'] = None",
    "sysconf and sched_getaffinity, as on Windows or macOS": """
try: import psutil  # what it imports on Linux needs them
except ImportError: pass
del os.sysconf, os.sched_getaffinity
""",
    "flock, as on some network file systems": """
import fcntl
def flock(*_): raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = flock
""",
    "flock, as on Lustre": """
import fcntl
def flock(*_): raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
fcntl.flock = flock
""",
}
COMMANDS = """
import json
from imitate.cli import main
for words in json.loads(sys.argv[1]):
    assert main(words) == 0, words
"""


def run(lacking: str, folder: Path, *commands: list[str]) -> str:
    """What a process without ``lacking`` prints."""
    program = f"import errno, os, sys\n{lacking}\n{SERVING}\n{COMMANDS}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", program, json.dumps(commands)]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def preparing(folder: Path) -> list[str]:
    del folder
    return ["prepare", "synthetic", "--n", "48", "--out", "data", "--size", "36", "--workers", "2"]


def training(folder: Path) -> list[str]:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tiny_recipe(epochs=1).model_dump(mode="json")))
    return ["pretrain", "recipe.yaml", "--data", "data", "--out", "run", "--threads", "1"]


@pytest.mark.slow
@pytest.mark.parametrize("lacking", [name for name in LACKING if "Windows" in name])
def test_every_command_that_people_need_runs(lacking: str, tmp_path: Path) -> None:
    measuring = ["evaluate", "retrieval", "--model", "run", "--data", "data", "--out", "r.json", "--resamples", "5"]
    asking = ["predict", "retrieve", "--model", "run", "--index", "data", "--text", "effusion", "--out", "found.json"]
    serving = ["serve", "--model", "run", "--index", "data", "--port", "0"]
    commands = (preparing(tmp_path), training(tmp_path), measuring, asking, serving)
    assert "listening" in run(LACKING[lacking], tmp_path, *commands)
    assert json.loads((tmp_path / "found.json").read_text())
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("lacking", [name for name in LACKING if "file systems" in name or "Lustre" in name])
def test_a_folder_is_written_without_locks_of_the_file_system(lacking: str, tmp_path: Path) -> None:
    run(LACKING[lacking], tmp_path, preparing(tmp_path), training(tmp_path))
    assert (tmp_path / "data" / "index.json").is_file() and (tmp_path / "run" / "model").is_dir()
    assert not list(tmp_path.glob("*/*.soft"))
