"""SIGKILL at any moment: the same command again ends in the same bytes as a run that nothing disturbed.

A few random kills are in the ordinary suite in ``test_pretrain`` and ``test_writer_interrupted``.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
import yaml
from folders import write_folder
from killing import kill_at_random, start_writing
from raw_archive import N, make_archive
from raw_archive import content as content_of
from recipes import tiny_recipe

from imitate import cli
from imitate.models.imitate import Imitate
from imitate.tasks.retrieval import Retrieval
from imitate.training import loop
from imitate.training.checkpoint import LAST, PREVIOUS
from imitate.training.run_folder import Journal

SOURCE = Path(__file__).parents[2] / "src"
STEPS, KILLS = 120, 20


def command(*arguments: object) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, "-m", "imitate", *map(str, arguments)], env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def killed(
    start: Callable[[Path], subprocess.Popen], out: Path, mark: str, whole: dict[str, bytes], kills: int
) -> None:
    """Kill runs at random moments after ``mark`` grows; whatever gets through, and the last, must equal ``whole``."""
    random, died = Random(0), 0

    def size() -> int:
        return (out / mark).stat().st_size if (out / mark).is_file() else 0

    while died < KILLS:
        process, before, deadline = start(out), size(), time.monotonic() + 240
        while process.poll() is None and size() <= before:
            assert time.monotonic() < deadline, "no progress"
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.4))
        process.kill()
        if process.wait() == -signal.SIGKILL:
            died += 1
            continue
        assert process.returncode == 0 and content(out, *whole) == whole
        shutil.rmtree(out)
    assert start(out).wait(600) == 0 and content(out, *whole) == whole


def content(folder: Path, *names: str) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.stress
def test_prepare_killed_again_and_again(tmp_path, figures):
    (tmp_path / "raw").mkdir()
    make_archive(tmp_path / "raw")
    assert start_writing(tmp_path / "raw", tmp_path / "whole").wait(600) == 0
    kill_at_random(tmp_path / "raw", tmp_path / "killed", content_of(tmp_path / "whole"), kills=KILLS)
    figures("kills_prepare", kills=KILLS, images=N, identical=True)


RESULT = ("model/model.safetensors", "model/config.json", "best/model.safetensors", "metrics.jsonl")


@pytest.mark.stress
def test_pretrain_killed_again_and_again(tmp_path, figures):
    data, recipe = write_folder(tmp_path / "data", n=60), tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(epochs=STEPS // 4, checkpoint_every=3).model_dump(mode="json")))

    def start(out: Path) -> subprocess.Popen:
        return command("pretrain", recipe, "--data", data, "--out", out)

    assert start(tmp_path / "whole").wait(600) == 0
    killed(start, tmp_path / "out", "metrics.jsonl", content(tmp_path / "whole", *RESULT))
    figures("kills_pretrain", kills=KILLS, steps=STEPS, identical=True)


MOMENTS: dict[str, tuple[object, str]] = {
    "in a step": (loop, "_step"),
    "in a checkpoint": (torch, "save"),
    "before a checkpoint is synced": (os, "fsync"),
    "between the two checkpoints": (Path, "replace"),
    "while metrics are written": (Journal, "write"),
    "in validation": (Retrieval, "predict"),
    "while the model is written": (Imitate, "save"),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("undisturbed")
    data, recipe = write_folder(folder / "data", n=40), folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(checkpoint_every=1).model_dump(mode="json")))
    assert pretrain(recipe, data, folder / "run") == 0
    return recipe, data, folder / "run"


def pretrain(recipe: Path, data: Path, out: Path) -> int:
    return cli.main(["pretrain", str(recipe), "--data", str(data), "--out", str(out)])


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
def test_a_damaged_checkpoint_is_noticed_or_harmless(damages, undisturbed, tmp_path, figures, caplog):
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
    figures("damaged_checkpoints", damaged=damages, **outcome)
