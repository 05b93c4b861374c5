"""A process of two is killed: the other ends by itself and says so; the run continues alone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from folders import write_folder
from recipes import tiny_recipe

SOURCE = Path(__file__).parents[2] / "src"
SECONDS = 180  # in which the survivor has ended, on a busy machine


def start(arguments: list[str], world: int = 1) -> list[subprocess.Popen]:
    """The processes as torchrun starts them, without its agent, which would kill the survivor."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    base = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    base |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    base |= {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "imitate", *arguments], env={**base, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(world)
    ]  # fmt: skip


def rows(out: Path) -> list[dict[str, float]]:
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [row for row in map(json.loads, lines) if "loss" in row]


@pytest.mark.stress
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_dies_ends_the_others_and_one_alone_continues(victim, tmp_path, figures):
    data, recipe = write_folder(tmp_path / "data", n=60), tmp_path / "recipe.yaml"
    slow = {
        "learning_rate": 1e-5
    }  # else Adam makes of the last bit, which the order of a sum decides, percents in ten steps
    settings = tiny_recipe(epochs=20, checkpoint_every=2, sync_batchnorm=True, **slow).model_dump(mode="json")
    settings["model"]["backbone_options"] |= {"norm_layer": "groupnorm1"}  # no statistics of a process's share
    recipe.write_text(yaml.safe_dump(settings))
    arguments = ["pretrain", str(recipe), "--data", str(data), "--out", str(tmp_path / "run")]
    processes = start([*arguments, "--settings", "training.devices=2"], world=2)
    deadline = time.monotonic() + 400
    while len(rows(tmp_path / "run")) < 6 and time.monotonic() < deadline:
        time.sleep(0.05)
    processes[victim].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    words = processes[1 - victim].communicate(timeout=SECONDS)[1]
    seconds = time.monotonic() - killed
    processes[victim].communicate()
    assert processes[1 - victim].returncode == 2
    assert [line for line in words.splitlines() if "another process of this run has ended" in line]
    before = rows(tmp_path / "run")
    for process in start(arguments):
        process.communicate(timeout=500)
        assert process.returncode == 0
    after = rows(tmp_path / "run")
    steps = [int(row["step"]) for row in after]
    assert steps == list(range(1, 81)) and len(before) < 80
    kept = len([row for row, again in zip(before, after, strict=False) if row == again])
    assert kept >= len(before) - 2, "the curve up to the checkpoint is no longer there"
    start([*arguments[:-1], str(tmp_path / "alone")])[0].communicate(timeout=500)
    undisturbed = [row["loss"] for row in rows(tmp_path / "alone")]
    apart = max(abs(row["loss"] / loss - 1) for row, loss in zip(after, undisturbed, strict=True))
    assert apart < 0.01, "not the curve of a run that one process made undisturbed"
    figures(
        f"rank_{victim}_killed", seconds_until_the_other_ended=round(seconds, 1), steps_before=len(before), steps=80,
        largest_relative_difference_of_the_loss=float(f"{apart:.1g}"),
    )  # fmt: skip
