"""Measure an encoder on a task, with intervals over seeds and patients, and write the results."""

import logging
import math
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import Encoder, choose_device, load_encoder
from imitate.names import Mode
from imitate.tasks import check_data, check_encoder, check_preparation
from imitate.tasks.base import Budget, Predictions, Results, Task
from imitate.tasks.estimating import estimates
from imitate.tasks.evaluation import planned
from imitate.tasks.printing import shown
from imitate.tasks.results import check_out, commit, write_results

log = logging.getLogger(__name__)
VERSIONS = ("imitate-cxr", "torch", "timm", "numpy", "scikit-learn")


class Row(NamedTuple):
    """Of a table: an encoder for each seed, the architecture of those that have none, what the row is called."""

    models: tuple[str, ...]
    like: str | None
    name: str | None
    out: Path


class Request(NamedTuple):
    """What to measure, by a task or a recipe, and the models to measure it of; ``imitate evaluate`` has the details."""

    task: str | None
    recipe: Path | None
    mode: Mode | None
    fraction: float | None
    settings: dict[str, Any]
    models: tuple[str, ...]
    beside: tuple[str, ...]
    like: str | None
    name: str | None
    seeds: int


def measure(
    request: Request, *, data: Path, out: Path, resamples: int, device: str = "auto", cache: Path | None = None
) -> Results:
    """Write a results file for each model and fraction; returns that of the models at the largest fraction."""
    check_out(out)
    seeds, models = request.seeds, len(request.models)
    if min(seeds, resamples, models) < 1:
        raise UserError(f"seeds {seeds}, resamples {resamples}, models {models}: each must be at least 1")
    plan = planned(*request[:2], mode=request.mode, fraction=request.fraction, settings=request.settings)
    tasks = plan.tasks()
    prepared = Corpus.open(data)
    plan = plan.on(prepared)
    budget = Budget(mode=plan.mode, device=choose_device(device), cache=cache)
    written = []
    for row in _rows(request, out):
        for share, chosen in tasks.items():
            path = row.out if len(tasks) == 1 else _with(row.out, f"{share:g}")
            found, runs = _measured(chosen, row, prepared, budget._replace(fraction=share), resamples=resamples)
            written.append(write_results(found.model_copy(update={"published": plan.published}), runs, path))
            sys.stdout.write(shown(written[-1]))
    return written[len(tasks) - 1]


def _rows(request: Request, out: Path) -> list[Row]:
    """The row of the models first; those beside it have as many seeds, and by default its architecture."""
    models = tuple(path for path in request.models for _ in range(request.seeds))
    like = request.like or next((path for path in request.models if Path(path).is_dir()), None)
    plain = [Row((each,) * len(models), like, None, _with(out, Path(each).name)) for each in request.beside]
    return [Row(models, like, request.name, out), *plain]


def _with(out: Path, what: str) -> Path:
    return out.with_name(f"{out.stem}-{what.replace(':', '-')}{out.suffix}")


def _measured(
    task: Task, row: Row, data: Corpus, budget: Budget, *, resamples: int
) -> tuple[Results, list[Predictions]]:
    started = time.perf_counter()
    names, runs = [], []
    for seed, path in enumerate(row.models):
        encoder = _encoder(path, row.like, task, data, budget._replace(seed=seed))
        log.info("%s of %s, %g%% of the patients, seed %d", task.name, encoder.name, 100 * budget.fraction, seed)
        names.append(encoder.name)
        runs.append(task.predict(encoder, data, budget._replace(seed=seed)))
    encoders = list(dict.fromkeys(names))
    per_seed = [task.measure(run) for run in runs]
    results = Results(
        task=task.name,
        model=row.name or called(row.models, names),
        data=_provenance(data, runs[0], split=getattr(task, "split", "test")),
        mode=budget.mode,
        fraction=budget.fraction,
        seeds=list(range(len(runs))),
        settings=task.model_dump(mode="json"),
        metrics=estimates(task, runs, per_seed, resamples),
        per_seed=[{key: value for key, value in each.items() if not math.isnan(value)} for each in per_seed],
        encoders=encoders,
        versions={package: version(package) for package in VERSIONS},
        commit=commit(),
        seconds=round(time.perf_counter() - started, 1),
    )
    return results, runs


def called(models: Sequence[str], encoders: Sequence[str]) -> str:
    """What tables call a row. Runs in numbered folders, such as runs/ours/0, have the name of the folder above."""
    names = []
    for model, encoder in zip(models, encoders, strict=True):
        parts = [part for part in Path(model).resolve().parts if part not in ("model", "best")]
        numbered = Path(model).is_dir() and parts[-1].isdecimal()
        names.append("/".join(parts[-2:]) if numbered else parts[-1] if Path(model).is_dir() else encoder)
    distinct = list(dict.fromkeys(names))
    above = {name.rpartition("/")[0] for name in distinct}
    return above.pop() if len(distinct) > 1 and len(above) == 1 and "" not in above else " + ".join(distinct)


def _encoder(model: str, like: str | None, task: Task, data: Corpus, budget: Budget) -> Encoder:
    """After checking that data and model have what the task needs."""
    check_data(task, data)
    encoder = load_encoder(model, like=like, data=data, seed=budget.seed, cache=budget.cache)
    check_preparation(task, encoder, data)
    check_encoder(task, encoder)
    return encoder


def _provenance(data: Corpus, predictions: Predictions, *, split: str) -> dict[str, Any]:
    return {
        "name": data.root.resolve().name,
        "source": data.meta["source"],
        "fingerprint": data.meta["fingerprint"],
        "split": split,
        "images": len(predictions["image_id"]),
        "patients": len(np.unique(predictions["patient"])),
        **({"unit": unit} if (unit := data.traits.get("patients", "patients")) != "patients" else {}),
    }
