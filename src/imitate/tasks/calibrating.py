"""Calibrate a model, or the probes and heads of results: measured as a task, and written down to be used."""

import logging
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imitate.config import validate
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference import calibration
from imitate.inference.encoder import choose_device, load_encoder
from imitate.inference.predictor import Predictor
from imitate.models.hub import HUB, is_ours, local_folder
from imitate.tasks import measuring
from imitate.tasks.base import Estimate, Predictions, Results
from imitate.tasks.calibration import Recalibration
from imitate.tasks.calibration_points import table, written
from imitate.tasks.comparison import read_measured
from imitate.tasks.estimating import estimates
from imitate.tasks.printing import aligned, shown, warned_once
from imitate.tasks.results import check_out, digest_of, read_predictions, write_results
from imitate.tasks.zero_shot import class_prompts

log = logging.getLogger(__name__)
ZERO_SHOT_ONLY = ("branch", "prompts", "projections", "split")


class Request(NamedTuple):
    """``imitate calibrate`` has the details."""

    model: str | None
    data: Path | None
    results: Path | None
    to: Path | None
    name: str | None
    settings: dict[str, Any]


def calibrate(request: Request, *, out: Path, resamples: int, device: str) -> Results:
    """Write results, and the calibration of each of their runs."""
    check_out(out)
    if request.results is not None:
        if request.model or request.data:
            raise UserError("calibrate needs either --model and --data, or --results")
        return _of_results(request, request.results, out, resamples)
    if request.model is None or request.data is None:
        raise UserError("calibrate needs --model and --data, or the --results of imitate evaluate")
    return _of_model(request, request.model, request.data, out, resamples, device)


def _of_model(request: Request, model: str, data: Path, out: Path, resamples: int, device: str) -> Results:
    place = _place(model, request.to)
    asked = measuring.Request(
        "calibration", None, None, None, request.settings, (model,), (), None, request.name, 1
    )  # fmt: skip
    with warned_once():
        results = measuring.measure(asked, data=data, out=out, resamples=resamples, device=device)
        task = Recalibration(**results.settings)
        corpus = task.selected(Corpus.open(data))
        encoder = load_encoder(model, data=corpus)
        prompts = class_prompts(corpus, task.prompts, encoder.text)
        scorer = Predictor(encoder, device=choose_device(device)).scorer(prompts, branch=task.branch)
    facts = {
        "task": "zero-shot",
        "data": {**_data(corpus), "split": "val"},
        "weights": encoder.digest(),
        "encoder": encoder.identity,
        "preprocessing": calibration.preprocessing_digest(encoder),
        "branch": task.branch,
        "versions": results.versions,
    }
    (predictions,) = read_predictions(results, out)
    found = written(task, predictions, results.metrics, prompts=scorer.prompts, facts=facts)
    _keep(task, found, place)
    return results


def _place(model: str, to: Path | None) -> Path:
    """UserError before the work, where there is no place for it beside the weights."""
    if to is not None:
        return _made(to)
    folder = local_folder(model)
    if model.startswith(HUB) or not is_ours(folder):
        raise UserError(f"{model} has no model folder to keep a calibration in: give --to FILE.json")
    return calibration.beside(folder)


def _made(to: Path) -> Path:
    if to.suffix != ".json":
        raise UserError(f"--to {to} must be the path of a .json file")
    to.parent.mkdir(parents=True, exist_ok=True)
    return to


def _of_results(request: Request, path: Path, out: Path, resamples: int) -> Results:
    started = time.perf_counter()
    if given := [name for name in ZERO_SHOT_ONLY if name in request.settings]:
        raise UserError(
            f"--{given[0]} applies to zero-shot scores only: those of --results are used as they were evaluated"
        )
    place = _made(request.to or out.with_name(f"{out.stem}-calibration.json"))
    measured = read_measured(path)
    source = measured.results
    task = validate(Recalibration, request.settings, where="imitate calibrate")
    with warned_once():
        runs = _in_all([_of_head(task, run, path) for run in measured.runs])
    per_seed = [task.measure(run) for run in runs]
    metrics = estimates(task, runs, per_seed, resamples, pretrained=source.pretrained)
    changes: dict[str, Any] = {
        "task": task.name,
        "model": request.name or f"{source.model} ({measured.task.title.lower()})",
        "settings": task.model_dump(mode="json"),
        "used": {**task.used("clean", image_size=0), "of": source.task},
        "metrics": metrics,
        "headline": "",
        "published": None,
        "per_seed": [{key: value for key, value in each.items() if value == value} for each in per_seed],
        "sweeps": [],
        "method": task.method(),
        "digests": {"results": digest_of(source.digests, source.weights)},
        "resamples": resamples,
        "seconds": round(time.perf_counter() - started, 1),
    }
    results = write_results(source.model_copy(update=changes), runs, out)
    sys.stdout.write(shown(results))
    for seed, run in zip(results.seeds, runs, strict=True):
        alone = metrics if len(runs) == 1 else {name: Estimate(value=each) for name, each in per_seed[seed].items()}
        facts = {
            "task": source.task,
            "data": {**{key: source.train.get(key, source.data.get(key)) for key in ("name", "fingerprint")},
                     "split": "val"},
            "weights": source.weights[seed] if source.weights else "",
            "preprocessing": "",
            "settings": digest_of(source.settings, source.fraction, seed),
            "versions": source.versions,
        }  # fmt: skip
        found = written(task, run, alone, prompts={}, facts=facts)
        number = "" if len(runs) == 1 else f"-{seed}"
        _keep(task, found, place.with_stem(f"{place.stem}{number}"))
    return results


def _of_head(task: Recalibration, run: Predictions, path: Path) -> Predictions:
    if "target" not in run or "score" not in run:
        raise UserError(f"{path} holds no scores of classes: give results of linear, k-nearest-neighbour or fine-tuned "
                        "classification")  # fmt: skip
    try:
        return task.of_head(run)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _in_all(runs: list[Predictions]) -> list[Predictions]:
    """Without the probabilities of classes that not every run has: means over runs would be of different classes."""
    lacking = np.array([np.isnan(run["probability"]).any(0) for run in runs])
    every = lacking.any(0)
    if some := runs[0]["classes"][every & ~lacking.all(0)].tolist():
        log.warning("not calibrated in every seed, so without metrics of probabilities: %s", ", ".join(some))
    if every.all():
        raise UserError(f"no class of {', '.join(runs[0]['classes'])} can be calibrated in each seed")
    return [{**run, "probability": np.where(every, np.nan, run["probability"])} for run in runs]


def _data(corpus: Corpus) -> dict[str, Any]:
    unit = corpus.traits.get("patients", "patients")
    return {
        "name": corpus.name,
        "source": corpus.meta.get("source"),
        "fingerprint": corpus.fingerprint,
        **({} if unit == "patients" else {"unit": unit}),
    }


def _keep(task: Recalibration, found: calibration.Calibration, place: Path) -> None:
    found.save(place)
    sys.stdout.write(f"\n{aligned(table(task, found))}\n{found.provenance}: {place}\n")
