"""A small study gives the curve, the metrics and the predictions of ``study.json``, to the bit.

Losses, recall and detection are those of version 0.1.0. Corrections changed the rest: which images are normal
(precision@k), which prompts an encoder can express (zero-shot), a decay for each class (linear probes), AUROC within
folds, Dice in the stored mask's pixels (segmentation), weight decay and learning rates by block (segmentation and
fine-tuning), and all intervals. Values hold for the kind of machine
that recorded them (``tests/test_recipes.py`` says which).
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imitate.commands.evaluate import evaluate
from imitate.commands.prepare import prepare
from imitate.commands.pretrain import pretrain
from imitate.commands.synthesize import synthesize
from imitate.config import shipped

GOLDEN = json.loads(Path(__file__).with_name("study.json").read_text())
SETTINGS: dict[str, dict[str, Any]] = {
    "segmentation": {"epochs": 2},
    "detection": {"epochs": 2},
    "finetune-classification": {"epochs": 2, "batch_size": 16},
}
MEASURED = [key for key in GOLDEN if key != "curve"]

pytestmark = pytest.mark.stress


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("study")
    synthesize("mimic-cxr", out=folder / "raw", n=400, seed=5)
    prepare("mimic-cxr", raw=folder / "raw", out=folder / "reports", size=72)
    prepare("synthetic", n=300, seed=6, out=folder / "labels", size=72)
    settings = ("training.epochs=3", "training.log_every=1", "training.devices=1")
    recipe = shipped(Path("recipes/tiny.yaml"))
    pretrain(recipe, data=folder / "reports", out=folder / "run", threads=1, settings=settings)
    return folder


def test_the_curve(root: Path) -> None:
    written = [json.loads(line) for line in (root / "run/metrics.jsonl").read_text().splitlines()]
    assert len(written) == len(GOLDEN["curve"])
    for row, kept in zip(written, GOLDEN["curve"], strict=True):
        assert {name: row[name] for name in kept} == kept


@pytest.mark.parametrize("key", MEASURED)
def test_metrics_and_predictions(root: Path, key: str) -> None:
    task, name, fraction = key.split()
    paired = task in ("retrieval", "zero-shot")
    settings = SETTINGS.get(task, {}) | ({"split": "test"} if paired else {})
    settings |= {"folds": 3} if name == "folds" else {}
    run = str(root / "run")
    results = evaluate(
        task,
        model={"IMITATE": run, "folds": run}.get(name, name),
        data=root / ("reports" if paired else "labels"),
        out=root / f"{key.replace(' ', '-')}.json",
        like=run,
        fraction=float(fraction),
        name=name,
        resamples=100,
        device="cpu",
        **settings,
    )
    with np.load(root / f"{key.replace(' ', '-')}.npz", allow_pickle=False) as arrays:
        found = {each: hashlib.sha256(np.ascontiguousarray(arrays[each]).tobytes()) for each in arrays.files}
    expected = GOLDEN[key]
    assert {each: digest.hexdigest() for each, digest in found.items()} == expected["predictions"]
    for metric, values in expected["metrics"].items():
        estimate = results.metrics[metric]
        assert [estimate.value, estimate.low, estimate.high, estimate.chance, estimate.shuffled] == values
