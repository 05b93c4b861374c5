"""The folder of a study: study.json (everything but numbers), results.csv (the numbers), predictions.parquet.

One line of results.csv is one metric: its mean over the seeds with its 95% interval over seeds and patients, the levels
to read it against, and its value of each seed. All but the mean have eight digits, more than the intervals carry.
predictions.parquet is kept for small studies on synthetic data only.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from imitate.errors import UserError
from imitate.report.numbers import LEVELS, METRIC, SEED, numbers, write_numbers
from imitate.tasks.base import Estimate, Predictions, Results
from imitate.tasks.results import file_digest, write_text
from study import Cell

Json = dict[str, Any]
SCORES = "predictions.parquet"
COLUMNS = ("method", "task", "fraction", *METRIC)


class Folder(NamedTuple):
    """A study as it was read: ``about`` is study.json, ``results`` has the order of the study's methods and tasks."""

    about: Json
    results: dict[Cell, Results]

    @property
    def differences(self) -> list[Json]:
        """The paired tests that `compare.py` added."""
        return self.about.get("differences", {}).get("tests", [])

    @property
    def cells(self) -> list[Cell]:
        return list(self.results)

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(cell.method for cell in self.results))

    def seeds(self, method: str) -> int:
        return next(len(found.seeds) for cell, found in self.results.items() if cell.method == method)

    def main_metric(self, cell: Cell) -> str:
        return next(iter(self.results[cell].metrics))

    def estimate(self, cell: Cell, metric: str | None = None) -> Estimate | None:
        """Of the task's main metric by default; None where it was not measured."""
        found = self.results.get(cell)
        return found.metrics.get(metric or self.main_metric(cell)) if found else None


def write_folder(folder: Path, about: Json, results: Mapping[Cell, Results]) -> None:
    lines = [{**_where(cell), **line} for cell, found in results.items() for line in numbers(found)]
    write_numbers(folder / "results.csv", lines, COLUMNS)
    about = {**about, "tasks": _tasks(results), "versions": next(iter(results.values())).versions if results else {}}
    write_about(folder, about)


def write_about(folder: Path, about: Json) -> None:
    write_text(folder / "study.json", json.dumps(about, indent=1))


def read_folder(folder: Path) -> Folder:
    about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    file = folder / "results.csv"
    texts = dict.fromkeys(("method", "task", "metric", "class", "note"), str)
    numbers = [name for name in pd.read_csv(file, nrows=0).columns if name not in texts]
    empty: dict[Any, Any] = {name: [""] for name in numbers}
    types: dict[Any, Any] = {**texts, **dict.fromkeys(numbers, float)}
    frame = pd.read_csv(file, dtype=types, keep_default_na=False, na_values=empty, float_precision="round_trip")
    grouped = frame.groupby(["method", "task", "fraction"], sort=False)
    return Folder(
        about, {cell: _results(about, cell, lines) for key, lines in grouped if (cell := Cell(*cast(Any, key)))}
    )


def _where(cell: Cell) -> Json:
    return {"method": cell.method, "task": cell.task, "fraction": f"{cell.fraction:g}"}


def _results(about: Json, cell: Cell, lines: pd.DataFrame) -> Results:
    names = lines["metric"] + ("/" + lines["class"]).where(lines["class"] != "", "")
    levels = lines[list(LEVELS)].astype(object).where(lines[list(LEVELS)].notna(), None)
    metrics = {
        name: Estimate(**dict(zip(LEVELS, each, strict=True)), note=note)
        for name, each, note in zip(names, levels.to_numpy(), lines["note"], strict=True)
    }
    columns = [name for name in map(str, lines.columns) if name.startswith(SEED) and lines[name].notna().any()]
    seeds = {int(name.removeprefix(SEED)): lines[name] for name in columns}
    return Results(
        **about["tasks"][cell.task],
        model=cell.method,
        fraction=cell.fraction,
        seeds=list(seeds),
        metrics=metrics,
        per_seed=[
            {name: value for name, value in zip(names, values, strict=True) if not np.isnan(value)}
            for values in seeds.values()
        ],
        versions=about["versions"],
        seconds=0.0,
    )


def _tasks(results: Mapping[Cell, Results]) -> dict[str, Json]:
    """What the cells of a task have in common; a setting that a later version added counts for all.

    UserError where they are of other data, or of other code that measured.
    """
    found: dict[str, Json] = {}
    for cell, each in results.items():
        values = each.model_dump(mode="json", include={"task", "data", "mode", "settings", "method"})
        known = found.setdefault(cell.task, values)
        for name in values.keys() - {"settings"}:
            if known[name] != values[name]:
                raise UserError(f"{cell}: {name} {values[name]}, of others {known[name]}: measure them again")
        known["settings"].update(values["settings"])
    return found


def digest_of(runs: Mapping[Cell, list[Predictions]]) -> str:
    """The SHA-256 of every array of every prediction: whoever runs the study's command again can compare."""
    found = hashlib.sha256()
    for cell, each in runs.items():
        for seed, run in enumerate(each):
            for name in sorted(run):
                found.update(repr((*cell, seed, name, run[name].dtype.str, run[name].shape)).encode())
                found.update(np.ascontiguousarray(run[name]).tobytes())
    return found.hexdigest()


def write_scores(path: Path, runs: Mapping[Cell, list[Predictions]]) -> str:
    """Scores and targets of every test image, seed and class; the file's SHA-256.

    Patients are hashed; their lines are in the order of the patients' identifiers, since the bootstrap draws patients
    in that order: paired tests from this file give the same numbers as those from the predictions.
    """
    frames = [_scores(cell, seed, run) for cell, each in runs.items() for seed, run in enumerate(each)]
    frame = pd.concat(frames, ignore_index=True)
    for name in ("method", "task", "patient", "class"):
        frame[name] = frame[name].astype("category")
    frame.to_parquet(path, index=False, compression="zstd")
    return file_digest(path)


def _scores(cell: Cell, seed: int, run: Predictions) -> pd.DataFrame:
    order = np.argsort(run["patient"], kind="stable")
    images, classes = run["score"].shape
    score = run["score"][order].astype(np.float32)
    assert np.array_equal(score, run["score"][order], equal_nan=True), f"{cell}: scores are not float32"
    hashed = [hashlib.sha256(str(name).encode()).hexdigest()[:16] for name in run["patient"][order]]
    return pd.DataFrame(
        {
            **cell._asdict(),
            "seed": np.int16(seed),
            "row": np.repeat(order.astype(np.int32), classes),
            "patient": np.repeat(hashed, classes),
            "class": np.tile(run["classes"].astype(str), images),
            "target": run["target"][order].astype(np.float32).ravel(),
            "score": score.ravel(),
        }
    )


def read_scores(path: Path) -> dict[Cell, list[Predictions]]:
    """Of each cell, a run's predictions a seed; an image's identifier is its number, a patient's the hash's place."""
    frame = pd.read_parquet(path)
    found: dict[Cell, list[Predictions]] = {}
    for key, lines in frame.groupby(["method", "task", "fraction"], sort=False, observed=True):
        found[Cell(*cast(Any, key))] = [_run(part) for _, part in lines.groupby("seed", sort=True)]
    return found


def _run(lines: pd.DataFrame) -> Predictions:
    classes = np.array(list(lines["class"].unique()), dtype=np.str_)
    first = lines.iloc[:: len(classes)]
    order = np.argsort(first["row"].to_numpy(), kind="stable")
    target, score = (lines[name].to_numpy().reshape(-1, len(classes))[order] for name in ("target", "score"))
    places = pd.factorize(first["patient"].astype(str))[0]
    return {
        "image_id": first["row"].to_numpy()[order].astype(str),
        "patient": places[order],
        "target": target,
        "score": score,
        "classes": classes,
    }
