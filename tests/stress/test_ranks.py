"""A process of two is killed: the other ends by itself and says so; the run continues alone."""

import json
import socket
import time
from pathlib import Path

import pytest
import yaml
from folders import write_folder
from processes import Command, until
from recipes import tiny_recipe


def start(arguments: list[str], world: int = 1, *, fork: bool) -> list[Command]:
    """The processes as torchrun starts them, without its agent, which would kill the survivor."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    base = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    base |= {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    return [Command(*arguments, fork=fork, **base, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(world)]


def rows(out: Path) -> list[dict[str, float]]:
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [row for row in map(json.loads, lines) if "loss" in row]


def write_recipe(path: Path, epochs: int) -> Path:
    """At a high learning rate, Adam amplifies the last bit of a sum, which depends on its order, to percents in ten steps.
    Group normalisation has no statistics of one process's part of the batch."""
    settings = tiny_recipe(epochs=epochs, checkpoint_every=2, sync_batchnorm=True, learning_rate=1e-5)
    values = settings.model_dump(mode="json")
    values["model"]["backbone_options"] |= {"norm_layer": "groupnorm1"}
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize(
    ("victim", "epochs"), [(1, 4), *(pytest.param(rank, 20, marks=pytest.mark.stress) for rank in (0, 1))]
)
def test_a_rank_that_dies_ends_the_others_and_one_alone_continues(victim, epochs, tmp_path, figures):
    data, recipe = write_folder(tmp_path / "data", n=60), write_recipe(tmp_path / "recipe.yaml", epochs)
    fork = epochs < 20
    arguments = ["pretrain", str(recipe), "--data", str(data), "--out", str(tmp_path / "run")]
    processes = start([*arguments, "--settings", "training.devices=2"], world=2, fork=fork)
    until(lambda: len(rows(tmp_path / "run")) >= 6, alive=lambda: processes[0].code is None, what="six steps")
    processes[victim].kill()
    killed = time.monotonic()
    code, words = processes[1 - victim].end()
    seconds = time.monotonic() - killed
    processes[victim].end()
    assert code == 2 and [line for line in words.splitlines() if "another process of this run has ended" in line]
    before = rows(tmp_path / "run")
    assert start(arguments, fork=fork)[0].end()[0] == 0
    after = rows(tmp_path / "run")
    assert [int(row["step"]) for row in after] == list(range(1, 4 * epochs + 1)) and len(before) < 4 * epochs
    kept = len([row for row, again in zip(before, after, strict=False) if row == again])
    assert kept >= len(before) - 2, "the curve up to the checkpoint is no longer there"
    assert start([*arguments[:-1], str(tmp_path / "alone")], fork=fork)[0].end()[0] == 0
    undisturbed = [row["loss"] for row in rows(tmp_path / "alone")]
    apart = max(abs(row["loss"] / loss - 1) for row, loss in zip(after, undisturbed, strict=True))
    assert apart < 0.01, "not the curve of a run that one process made undisturbed"
    figures(
        f"rank_{victim}_killed", seconds_until_the_other_ended=round(seconds, 1), steps_before=len(before),
        steps=4 * epochs, largest_relative_difference_of_the_loss=float(f"{apart:.1g}"),
    )  # fmt: skip
