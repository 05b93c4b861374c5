"""What a results file says of how it was made: data, weights, device, and digests of all that its metrics depend on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from imitate.data.corpus import Corpus
from imitate.tasks.base import Budget, Fit, Predictions, Task
from imitate.tasks.evaluation import Evaluation
from imitate.tasks.fitting import autocast, training_rows
from imitate.tasks.results import digest_of, file_digest


class Method(NamedTuple):
    """An encoder for each seed, the architecture of those that have none, and the name in tables."""

    models: tuple[str, ...]
    like: str | None
    name: str | None
    out: Path


class Data(NamedTuple):
    """The folder of the training images, and that of the test images where it is another."""

    train: Corpus
    test: Corpus | None


class Job(NamedTuple):
    """What one results file holds."""

    plan: Evaluation
    task: Task
    data: Data
    measured: Method
    budget: Budget
    resamples: int


def called(models: Sequence[str], encoders: Sequence[str]) -> str:
    """What tables call a method. Runs in numbered folders, such as runs/ours/0, have the name of the folder above."""
    names = []
    for model, encoder in zip(models, encoders, strict=True):
        parts = [part for part in Path(model).resolve().parts if part not in ("model", "best")]
        numbered = Path(model).is_dir() and parts[-1].isdecimal()
        names.append("/".join(parts[-2:]) if numbered else parts[-1] if Path(model).is_dir() else encoder)
    distinct = list(dict.fromkeys(names))
    above = {name.rpartition("/")[0] for name in distinct}
    return above.pop() if len(distinct) > 1 and len(above) == 1 and "" not in above else " + ".join(distinct)


def numbered(weights: Sequence[str]) -> list[Fit]:
    """Fits on the same weights are heads of one run."""
    runs = list(dict.fromkeys(weights))
    return [Fit(run=runs.index(each), head=weights[:i].count(each)) for i, each in enumerate(weights)]


def digests(job: Job) -> dict[str, str]:
    """Of all that the metrics depend on, but for the weights."""
    task, budget, data = job.task, job.budget, [job.data.train, job.data.test]
    settings = task.model_dump(mode="json")
    if settings.get("language", "") is None:  # as it was before there was this setting
        del settings["language"]
    files = {name: file_digest(each) for name, each in task if isinstance(each, Path) and each.is_file()}
    sweep = [job.plan.sweep] if job.plan.sweep else []
    return {
        "method": task.method(),
        "settings": digest_of(task.name, {**settings, **files}, budget.mode, budget.fraction, *sweep),
        "data": digest_of([each.fingerprint for each in data if each is not None]),
        "device": f"{torch.device(budget.device).type}, {precision(budget.device)}",
        "resamples": str(job.resamples),
    }


def precision(device: str) -> str:
    found = autocast(device)
    return f"{str(found.fast_dtype).removeprefix('torch.')} autocast" if device.startswith("cuda") else "float32"


def training(task: Task, folder: Corpus, data: Corpus, budget: Budget) -> dict[str, Any]:
    """What the fits were given; {} of a task that trains nothing."""
    if not task.trains:
        return {}
    chosen = task.selected(data)
    if folds := getattr(task, "folds", 0):
        chosen = next(chosen.folds(folds, test=getattr(task, "split", "test")))
    rows = training_rows(chosen, budget)
    counts = {"images": len(rows), "patients": chosen.table["patient"].iloc[rows].nunique()}
    return {"name": folder.name, "fingerprint": folder.fingerprint, **counts, **({"folds": folds} if folds else {})}


def tested(data: Corpus, predictions: Predictions, *, split: str, unit: str = "image") -> dict[str, Any]:
    rows = predictions["part"] == "test" if "part" in predictions else np.full(len(predictions["image_id"]), True)
    return {
        "name": data.root.resolve().name,
        "source": data.meta["source"],
        "fingerprint": data.meta["fingerprint"],
        "split": split,
        "images": int(rows.sum()),
        "patients": len(np.unique(predictions["patient"][rows])),
        **({"measured": "studies"} if unit == "study" else {}),
        **({"unit": ids} if (ids := data.traits.get("patients", "patients")) != "patients" else {}),
    }
