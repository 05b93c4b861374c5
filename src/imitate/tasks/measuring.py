"""Measure an encoder on a task, with intervals over seeds and patients, and write the results."""

import logging
import math
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import Encoder, choose_device, load_encoder
from imitate.models.hub import is_ours
from imitate.names import Mode
from imitate.tasks import check_data, check_encoder, check_preparation
from imitate.tasks.base import Budget, Predictions, Results, Task, Tried
from imitate.tasks.estimating import estimates
from imitate.tasks.evaluation import planned
from imitate.tasks.fitting import FitError
from imitate.tasks.printing import shown, warned_once
from imitate.tasks.record import Data, Job, Method, called, digests, numbered, precision, tested, training
from imitate.tasks.results import (
    check_out,
    commit,
    digest_of,
    keep_fit,
    kept_fit,
    read_results,
    write_results,
    write_text,
)
from imitate.tasks.seen import warn_of_seen
from imitate.tasks.sweeping import best_first, candidates, taken, warn_of_ends
from imitate.tasks.transfer import fitted_elsewhere

log = logging.getLogger(__name__)
VALIDATION = "validation"  # the metric beside the predictions of a fit, until the results are written
VERSIONS = ("imitate-cxr", "torch", "timm", "numpy", "scikit-learn")


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
    sweep: Mapping[str, Any] = MappingProxyType({})


def measure(
    request: Request,
    *,
    data: Path,
    out: Path,
    resamples: int,
    device: str = "auto",
    cache: Path | None = None,
    test_data: Path | None = None,
) -> Results:
    """Write a results file for each model and fraction; returns that of the models at the largest fraction.

    Files that are there, of the same method, settings, data and weights, are kept.
    """
    check_out(out)
    seeds, models = request.seeds, len(request.models)
    if min(seeds, resamples, models) < 1:
        raise UserError(f"seeds {seeds}, resamples {resamples}, models {models}: each must be at least 1")
    plan = planned(
        *request[:2], mode=request.mode, fraction=request.fraction, settings=request.settings, sweep=request.sweep
    )
    tasks = plan.tasks()
    for task in tasks.values():
        candidates(task, plan.sweep, plan.mode)  # a mistake is said before any work
    folders = Data(Corpus.open(data), None if test_data is None else Corpus.open(test_data))
    plan = plan.on(folders.train)
    if plan.note:
        log.info("%s: %s", request.recipe, plan.note)
    if test_data is not None:
        plan = plan.without_published(f"fitted on {data}, tested on {test_data}")
    budget = Budget(mode=plan.mode, device=choose_device(device), cache=cache)
    written = []
    with warned_once():
        for method in _methods(request, out):
            for fraction, chosen in tasks.items():
                path = method.out if len(tasks) == 1 else _with(method.out, f"{fraction:g}")
                job = Job(plan, chosen, folders, method, budget._replace(fraction=fraction), resamples)
                written.append(results_of(job, path))
                sys.stdout.write(shown(written[-1]))
    return written[len(tasks) - 1]


def results_of(job: Job, path: Path) -> Results:
    """Those that are there, if they are of the same method, settings, data and weights; else measured and written."""
    warn_of_seen(job)
    return _kept(job, path) or _measured(job, path)


def _methods(request: Request, out: Path) -> list[Method]:
    """The one of the models first; those beside it have as many seeds, and by default its architecture."""
    models = tuple(path for path in request.models for _ in range(request.seeds))
    like = request.like or next((path for path in request.models if is_ours(Path(path))), None)
    baselines = [Method((each,) * len(models), like, None, _with(out, Path(each).name)) for each in request.beside]
    return [Method(models, like, request.name, out), *baselines]


def _with(out: Path, what: str) -> Path:
    return out.with_name(f"{out.stem}-{what.replace(':', '-')}{out.suffix}")


def _kept(job: Job, path: Path) -> Results | None:
    """The results that are there, under today's name and with what the recipe says of them; None: measure again."""
    if not path.is_file():
        return None
    try:
        found = read_results(path)
    except UserError:
        log.warning("%s is measured again: this version cannot read it", path)
        return None
    differ = [name for name, digest in digests(job).items() if found.digests.get(name) != digest]
    if not path.with_name(found.predictions or "").is_file():
        differ.append("predictions")
    if job.plan.headline and job.plan.headline not in found.metrics:
        differ.append("metrics")  # written before there was this one
    if not differ and found.weights != [_encoder(job, seed).identity for seed in range(len(job.measured.models))]:
        differ.append("weights")
    if differ:
        log.warning("%s is measured again, since this has changed: %s", path, ", ".join(differ))
        return None
    log.info("%s is kept: its method, settings, data and weights are the same", path)
    return _renamed(job, found, path)


def _renamed(job: Job, found: Results, path: Path) -> Results:
    plan = job.plan.seen_at(found.used["image_size"])
    changes = {"model": job.measured.name or found.model, "published": plan.published, "headline": plan.headline}
    changed = found.model_copy(update={**changes, "metrics": _main_first(found.metrics, plan.headline)})
    if changed != found or list(changed.metrics) != list(found.metrics):
        write_text(path, changed.model_dump_json(indent=1))
    return changed


def _measured(job: Job, path: Path) -> Results:
    started = time.perf_counter()
    task, data = job.task, job.data.train
    if job.data.test is not None:
        task, data = fitted_elsewhere(task, data, job.data.test)
    encoders, runs, sweeps = [], [], []
    for seed in range(len(job.measured.models)):
        encoder = _encoder(job, seed)
        encoders.append((encoder.name, encoder.identity))
        run, tried = _swept(job, path, seed, encoder, task, data)
        runs.append(run)
        sweeps.append(tried)
    names, weights = zip(*encoders, strict=True)
    fits = numbered(weights)
    per_seed = [task.measure(run) for run in runs]
    _main_first(per_seed[0], job.plan.headline)  # a mistaken name is reported before the long work
    metrics = estimates(task, runs, per_seed, job.resamples, pretrained=[fit.run for fit in fits])
    used = job.task.used(job.budget.mode, image_size=encoder.preprocessing.image_size)
    image_size = used.get("image_size", encoder.preprocessing.image_size)
    plan = job.plan.seen_at(image_size)
    device = torch.device(job.budget.device)
    results = Results(
        task=task.name,
        model=job.measured.name or called(job.measured.models, names),
        data=tested(
            job.data.test or job.data.train,
            runs[0],
            split=getattr(job.task, "split", "test"),
            unit=getattr(job.task, "unit", "image"),
        ),
        mode=job.budget.mode,
        fraction=job.budget.fraction,
        seeds=list(range(len(runs))),
        settings=job.task.model_dump(mode="json"),
        used={**used, **taken(sweeps), "image_size": image_size},
        train=training(task, job.data.train, data, job.budget),
        metrics=_main_first(metrics, plan.headline),
        headline=plan.headline,
        per_seed=[{key: value for key, value in each.items() if not math.isnan(value)} for each in per_seed],
        fits=fits,
        sweeps=sweeps if job.plan.sweep else [],
        encoders=list(dict.fromkeys(names)),
        weights=list(weights),
        published=plan.published,
        method=task.method(),
        digests=digests(job),
        resamples=job.resamples,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        precision=precision(job.budget.device),
        versions={package: _version(package) for package in VERSIONS},
        commit=commit(),
        seconds=round(time.perf_counter() - started, 1),
    )
    return write_results(results, runs, path)


def _swept(
    job: Job, path: Path, seed: int, encoder: Encoder, task: Task, data: Corpus
) -> tuple[Predictions, list[Tried]]:
    """The predictions of one fit; of a sweep those of its best one, and the validation metric of each."""
    sweep = job.plan.sweep
    if not sweep:
        return _fit(job, path, seed, encoder, task, data)[0], []
    best: tuple[float, Predictions] = (math.inf, {})
    every: list[Tried] = []
    for values in candidates(job.task, sweep, job.budget.mode):
        plan = job.plan.model_copy(update={"sweep": {}})
        alone = job._replace(task=job.task.model_copy(update=values), plan=plan)
        log.info("sweep: %s", ", ".join(f"{key} {value}" for key, value in values.items()))
        run, value = _fit(alone, path, seed, encoder, task.model_copy(update=values), data, may_fail=True)
        every.append(Tried(settings=values, validation=None if math.isnan(value) else value))
        if value < best[0]:
            best = value, run
    ordered = best_first(every)
    warn_of_ends(sweep, ordered[0].settings)
    return best[1], ordered


def _fit(
    job: Job, path: Path, seed: int, encoder: Encoder, task: Task, data: Corpus, *, may_fail: bool = False
) -> tuple[Predictions, float]:
    """The predictions of one fit, and its validation metric; NaN and nothing of one that failed, if it may.

    Those of an evaluation that was stopped are taken from where it left them.
    """
    budget = job.budget._replace(seed=seed, validated=[])
    known = {name: digest for name, digest in digests(job).items() if name != "resamples"}
    digest = digest_of(known, encoder.identity, seed)
    run = kept_fit(path, digest)
    if run is not None and (may_fail or run.keys() != {VALIDATION}):  # else it failed in a sweep: to be said again
        log.info("%s of %s, seed %d: kept from an interrupted evaluation", task.name, encoder.name, seed)
        return run, float(run.pop(VALIDATION, math.nan))
    log.info("%s of %s, %g%% of the patients, seed %d", task.name, encoder.name, 100 * budget.fraction, seed)
    try:
        run = task.predict(encoder, data, budget)
    except FitError as error:
        if not may_fail:
            raise
        log.warning("%s; these settings are skipped", error)
        run = {}
    value = float(np.mean(budget.validated)) if budget.validated and run else math.nan
    keep_fit(path, digest, {**run, VALIDATION: np.array(value)})
    return run, value


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a source tree that was never installed
        return "unknown"


def _main_first(metrics: dict[str, Any], headline: str) -> dict[str, Any]:
    """UserError: there is no such metric."""
    if headline and headline not in metrics:
        raise UserError(f"there is no metric {headline!r} for the headline; there are {', '.join(metrics)}")
    return {headline: metrics[headline], **metrics} if headline else metrics


def _encoder(job: Job, seed: int) -> Encoder:
    """After checking that data and model have what the task needs."""
    task, data = job.task, job.data.train
    for each in job.data:
        if each is not None:
            check_data(task, each)
    encoder = load_encoder(
        job.measured.models[seed], like=job.measured.like, data=data, seed=seed, cache=job.budget.cache
    )
    check_preparation(task, encoder, data)
    check_encoder(task, encoder)
    return encoder
