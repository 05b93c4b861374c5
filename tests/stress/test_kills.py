"""SIGKILL at any moment: the same command again ends in the same bytes as a run that nothing disturbed."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import torch
import yaml
from folders import write_folder
from processes import Command, until
from recipes import tiny_recipe
from runs import pretrain

from imitate.models.imitate import Imitate
from imitate.synthetic.layouts import LAYOUTS
from imitate.tasks.retrieval import Retrieval
from imitate.training import loop
from imitate.training.checkpoint import LAST, PREVIOUS
from imitate.training.run_folder import Journal

SIZES = [1, pytest.param(20, marks=pytest.mark.stress)]  # kills
RESULT = ("model/model.safetensors", "model/config.json", "best/model.safetensors", "metrics.jsonl")
Content = dict[str, bytes]


def killed(start: Callable[[Path], Command], read: Callable[[Path], Content], folder: Path, kills: int) -> None:
    """Kill runs at random moments after they make progress. Runs that finish must equal an undisturbed one."""
    assert start(folder / "whole").end()[0] == 0
    random, longest = Random(0), 0.4 if kills > 1 else 0.02
    died, whole, out = 0, read(folder / "whole"), folder / "out"
    while died < kills:
        before, process = size(out), start(out)
        until(lambda: size(out) > before or process.code is not None, what="progress")  # noqa: B023
        time.sleep(random.uniform(0, longest))
        process.kill()
        if process.end()[0] == -signal.SIGKILL:
            died += 1
            continue
        assert process.code == 0 and read(out) == whole
        shutil.rmtree(out)
    assert start(out).end()[0] == 0 and read(out) == whole


def size(folder: Path) -> int:
    """Bytes of all files; those that are renamed meanwhile count as nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def everything(folder: Path) -> Content:
    return content(folder, *(str(path.relative_to(folder)) for path in folder.rglob("[!.]*") if path.is_file()))


def content(folder: Path, *names: str) -> Content:
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("kills", SIZES)
def test_prepare_killed_again_and_again(kills, tmp_path, write_counts):
    images = 60 if kills == 1 else 2600
    LAYOUTS["siim"](tmp_path / "raw", n=images, seed=0, size=64)

    def start(out: Path) -> Command:
        places = ("--raw", tmp_path / "raw", "--out", out)
        return Command("prepare", "siim", *places, "--size", 64, "--workers", min(kills, 2), fork=kills == 1)

    killed(start, everything, tmp_path, kills)
    write_counts("kills_prepare", kills=kills, images=images, identical=True)


@pytest.mark.parametrize("kills", SIZES)
def test_pretrain_killed_again_and_again(kills, tmp_path, write_counts):
    steps = 12 if kills == 1 else 120
    data, recipe = write_folder(tmp_path / "data", n=60), tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(epochs=steps // 4, checkpoint_every=3).model_dump(mode="json")))

    def start(out: Path) -> Command:
        return Command("pretrain", recipe, "--data", data, "--out", out, fork=kills == 1)

    killed(start, lambda out: content(out, *RESULT), tmp_path, kills)
    write_counts("kills_pretrain", kills=kills, steps=steps, identical=True)


MOMENTS: dict[str, tuple[object, str]] = {
    "in a step": (loop, "_step"),
    "in a checkpoint": (torch, "save"),
    "before a checkpoint is synced": (os, "fsync"),
    "between the two checkpoints": (Path, "replace"),
    "while metrics are written": (Journal, "write"),
    "in validation": (Retrieval, "predict"),
    "while the model is written": (Imitate, "save"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_this_moment_it_continues(moment, undisturbed, tmp_path, monkeypatch):
    recipe, data, whole = undisturbed
    home, name = MOMENTS[moment]
    original, calls = getattr(home, name), 0

    def strike(*arguments, **options):
        nonlocal calls
        is_checkpoint = moment != "between the two checkpoints" or arguments[0].name.startswith(LAST)
        calls += is_checkpoint
        if is_checkpoint and calls == 2:
            if moment == "in a checkpoint":
                arguments[1].write(b"PK\3\4 half of it")
                arguments[1].flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    process = os.fork()
    if not process:
        setattr(home, name, strike)
        try:
            pretrain(recipe, data, tmp_path / "run")
        finally:
            os._exit(0)
    assert os.waitpid(process, 0)[1] == signal.SIGKILL
    assert pretrain(recipe, data, tmp_path / "run") == 0
    assert content(tmp_path / "run", *RESULT) == content(whole, *RESULT)


@pytest.mark.parametrize("damages", [60, pytest.param(1000, marks=pytest.mark.stress)])
def test_a_damaged_checkpoint_is_noticed_or_harmless(damages, undisturbed, tmp_path, write_counts, caplog):
    """Bytes that no check covers (paddings, dates of the zip) may change; tensors and structure may not."""
    from imitate.training.checkpoint import load_checkpoint

    last, outcome = (undisturbed[2] / LAST).read_bytes(), {"noticed": 0, "harmless": 0}
    (tmp_path / PREVIOUS).write_bytes((undisturbed[2] / PREVIOUS).read_bytes())
    (tmp_path / LAST).write_bytes(last)
    whole, before = load_checkpoint(tmp_path), None
    assert whole
    random = Random(0)
    for number in range(damages):
        data = bytearray(last)
        if number % 3 == 0:
            del data[random.randrange(len(data)) :]
        for _ in range(number % 3):
            data[random.randrange(len(data)) if number % 2 else -random.randrange(1, 3000)] ^= 1 << random.randrange(8)
        (tmp_path / LAST).write_bytes(data)
        before = load_checkpoint(tmp_path)
        assert before
        harmless = before["step"] == whole["step"]
        outcome["harmless" if harmless else "noticed"] += 1
        if harmless:
            assert all(torch.equal(before["model"][key], value) for key, value in whole["model"].items())
    assert outcome["noticed"] > damages // 2 and "is damaged; continuing from previous.ckpt" in caplog.text
    write_counts("damaged_checkpoints", damaged=damages, **outcome)
