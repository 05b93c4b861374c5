"""What of a study's work is committed: its results, and how they were made."""

import argparse
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imitate.tasks.base import Predictions
from imitate.tasks.results import commit, read_predictions, read_results
from layout import SCORES, Json, digest_of, write_folder, write_scores
from study import ROOT, Cell, Study

if TYPE_CHECKING:
    from run import Runner

COMPUTE = ("resumed", "seconds", "cpu_seconds", "steps", "pairs")


def publish(runner: "Runner", out: Path, about: Json) -> None:
    """What is committed: everything that tables and plots are made from."""
    study = runner.study
    cells = [cell for name in study.methods for cell in study.cells(name) if runner.measured(*cell[:2])]
    names = list(dict.fromkeys(cell.method for cell in cells))
    results = {cell: read_results(runner.path(cell)) for cell in cells}
    runs = {cell: read_predictions(results[cell], runner.path(cell)) for cell in cells}
    out.mkdir(parents=True, exist_ok=True)
    kept = write_scores(out / SCORES, runs) if study.keep_predictions else None
    trained = [name for name in names if runner.trained(name)]
    about = {
        **about,
        "recipe": str(study.recipe),
        "reference": study.reference,
        "commits": sorted({found.commit or "unknown" for found in results.values()}),
        "positives": positives(runs),
        "predictions": {"sha256": digest_of(runs), "file": SCORES if kept else None, "file_sha256": kept},
        "families": {name: study.families[name] for name in names},
        "settings": {name: study.methods[name].settings for name in names},
        "compute": {name: [_spent(runner.folder(name, seed)) for seed in runner.seeds] for name in trained},
    }
    write_folder(out, about, results)


def positives(runs: Mapping[Cell, Sequence[Predictions]]) -> Json:
    """Of each task with classes, the positive test images of each class."""
    found = {}
    for cell, (run, *_) in runs.items():
        if {"target", "classes"} <= run.keys():
            counts = (run["target"] > 0).sum(0).tolist()
            found[cell.task] = dict(zip(run["classes"].astype(str).tolist(), counts, strict=True))
    return found


def _spent(folder: Path) -> Json:
    done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    return {key: done[key] for key in COMPUTE}


def made_by(study: Study, arguments: argparse.Namespace) -> Json:
    """The command that makes the study from its archives, the code that the results are of, and the machine."""
    diff = ["git", "diff", "--quiet", "HEAD", "--", "src"]
    try:
        changed = subprocess.run(diff, cwd=ROOT, capture_output=True, check=False).returncode == 1
    except OSError:  # there is no git
        changed = False
    raw = [f"{name}=FOLDER" for name, options in study.data.items() if options["source"] != "synthetic"]
    file = arguments.study
    command = f"python experiments/run.py experiments/{file.name} --work WORK --out docs/results/{file.stem}"
    return {
        "made_by": {
            "commit": (commit() or "unknown") + (" with changes" if changed else ""),
            "command": " ".join([command, "--raw", *raw]) if raw else command,
        },
        "machine": {"processor": processor(), "threads": arguments.threads, "workers": arguments.workers},
    }


def processor() -> str:
    """The name of the processor, where the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())
