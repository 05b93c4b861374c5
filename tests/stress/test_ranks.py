"""Several processes: one is killed or fails anywhere, and the others end by themselves; settings change between starts."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from folders import edit_rows, write_folder
from processes import Command, until
from recipes import tiny_recipe

from imitate.data import text_cache
from imitate.data.corpus import Corpus
from imitate.data.text_cache import TextCache
from imitate.models.imitate import Imitate
from imitate.tasks import pretraining
from imitate.training import checkpoint, loop


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
def test_a_rank_that_dies_ends_the_others_and_one_alone_continues(victim, epochs, tmp_path, write_counts):
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
    write_counts(
        f"rank_{victim}_killed", seconds_until_the_other_ended=round(seconds, 1), steps_before=len(before),
        steps=4 * epochs, largest_relative_difference_of_the_loss=float(f"{apart:.1g}"),
    )  # fmt: skip


def failing(original: Callable[..., Any], rank: int, call: int = 1) -> Callable[..., Any]:
    """The function, which fails in this process when it is called for the so manieth time."""
    calls = 0

    def fail(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += int(os.environ["RANK"]) == rank
        if calls == call:
            raise ValueError(f"process {rank} fails here")
        return original(*arguments, **options)

    return fail


PLACES: dict[str, tuple[object, str, int]] = {  # and the call that fails
    "before the run folder is made": (pretraining, "_with_text", 1),
    "after it is made": (pretraining, "save_text_encoder", 1),
    "while a model is built": (pretraining, "seeded_model", 1),
    "while texts are embedded": (TextCache, "fill", 1),
    "before the first step": (pretraining, "_job", 1),
    "while the loop is set up": (loop, "_set_up", 1),
    "while a checkpoint is read": (loop, "load_checkpoint", 1),
    "in a step": (loop, "_step", 3),
    "in a checkpoint": (checkpoint.torch, "save", 2),
    "while the model is written": (Imitate, "save", 1),
    "in the validation loss": (loop, "_held_out_loss", 1),
    "while metrics are written": (loop.Journal, "write", 3),
}
FIRST_ONLY = {"before the run folder is made", "after it is made", "in a checkpoint", "while the model is written",
              "while metrics are written"}  # fmt: skip
QUICK = {("while texts are embedded", 1), ("in a checkpoint", 0)}


@pytest.mark.parametrize(
    ("place", "rank", "world"),
    [
        pytest.param(place, rank, world, marks=() if world == 2 and (place, rank) in QUICK else pytest.mark.stress)
        for place in PLACES
        for rank, world in ((0, 2), (1, 2), (3, 4))
        if rank == 0 or place not in FIRST_ONLY
    ],
)
def test_an_error_in_one_process_ends_all(place, rank, world, tmp_path, monkeypatch):
    """They wait for each other nowhere: this test ends, and would not, if one of them stood at a barrier."""
    home, name, call = PLACES[place]
    monkeypatch.setattr(home, name, failing(getattr(home, name), rank, call))
    data, recipe = write_folder(tmp_path / "data", n=60), tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(checkpoint_every=2).model_dump(mode="json")))
    arguments = ["pretrain", str(recipe), "--data", str(data), "--out", str(tmp_path / "run")]
    ended = [process.end() for process in start(arguments, world, fork=True)]
    assert [code for code, _ in ended] == [1 if each == rank else 2 for each in range(world)]
    assert f"process {rank} fails here" in ended[rank][1]
    for other in range(world):
        assert other == rank or "another process of this run has ended" in ended[other][1]


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.stress)])
def test_several_processes_continue_with_other_settings_on_data_too_small_to_validate(world, tmp_path, monkeypatch):
    """The first one's recipe is everyone's: with others' ``log_every`` they would wait in different collectives."""
    data, recipe, out = write_folder(tmp_path / "data", n=60), tmp_path / "recipe.yaml", tmp_path / "run"
    few = Corpus.open(data).table["split"].eq("val").map({True: "The same.", False: None})
    for name in ("findings", "impression"):
        edit_rows(data, **{name: few.fillna(Corpus.open(data).text(name)).tolist()})
    recipe.write_text(yaml.safe_dump(tiny_recipe(checkpoint_every=2, epochs=3).model_dump(mode="json")))
    arguments = ["pretrain", str(recipe), "--data", str(data), "--out", str(out)]
    monkeypatch.setattr(text_cache, "BLOCK", 2**3)
    computing = TextCache._compute

    def compute(self: TextCache, blocks: list, *texts: Any) -> None:
        (tmp_path / f"embedded by {os.environ['RANK']}").write_text(str(sum(map(len, blocks))))
        computing(self, blocks, *texts)

    monkeypatch.setattr(TextCache, "_compute", compute)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "_step", failing(loop._step, 0, call=8))
        assert start(arguments, world, fork=True)[1].end()[0] == 2
    assert rows(out)[-1]["step"] == 7
    shares = [int(path.read_text()) for path in tmp_path.glob("embedded by *")]
    assert len(shares) == world and max(shares) < sum(shares)
    changed = ["--settings", "training.log_every=5", "training.checkpoint_every=3"]
    ended = [process.end() for process in start([*arguments, *changed], world, fork=True)]
    assert [code for code, _ in ended] == [0] * world
    written = (out / "metrics.jsonl").read_text()
    assert "recall" not in written and "val/loss" in written
    assert [row["step"] for row in rows(out)] == [1, 2, 3, 4, 5, 6, 10, 12]
    starts = [json.loads(line) for line in (out / "starts.jsonl").read_text().splitlines()]
    assert [each["step"] for each in starts] == [0, 6] and {each["processes"] for each in starts} == {world}
    assert starts[1]["changed"] == [
        "training.checkpoint_every is 2 there and 3 here", "training.log_every is 1 there and 5 here"
    ]  # fmt: skip
    settings = yaml.safe_load((out / "config.yaml").read_text())["training"]
    assert (settings["log_every"], settings["checkpoint_every"]) == (5, 3)


@pytest.mark.stress
@pytest.mark.parametrize("fails", [False, True])
def test_processes_that_fabric_starts_end_with_the_first(fails, tmp_path):
    data, recipe = write_folder(tmp_path / "data", n=60), tmp_path / "recipe.yaml"
    settings = tiny_recipe(devices=2, accelerator="cpu", epochs=1)
    recipe.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    (tmp_path / "file").touch()
    out = tmp_path / ("file" if fails else "folder") / "run"
    code, words = Command("pretrain", recipe, "--data", data, "--out", out, "--threads", 1, fork=False).end()
    assert code == (2 if fails else 0)
    assert ("cannot write into" in words) == ("another process of this run has ended" in words) == fails
    assert not subprocess.run(["pgrep", "-f", str(out)], capture_output=True).stdout
    if not fails:
        assert {each["processes"] for each in map(json.loads, (out / "starts.jsonl").open())} == {2}
