"""What of a study's work is committed: its results, and how they were made."""

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import drawn
from imitate.tasks.base import Predictions
from imitate.tasks.results import commit, file_digest, read_predictions, read_results
from imitate.training.run_folder import VALIDATION
from layout import SCORES, Json, digest_of, read_folder, write_about, write_folder, write_scores
from measure import kept as resampled
from study import ROOT, Cell, Study

if TYPE_CHECKING:
    from run import Runner

COMPUTE = ("resumed", "processor", "precision", "seconds", "cpu_seconds", "steps", "pairs")


def publish(runner: "Runner", out: Path, about: Json) -> None:
    """What is committed: everything that tables and plots are made from."""
    study, before = runner.study, runner.before
    every = [cell for name in study.methods for cell in study.cells(name)]
    new = {cell for cell in every if runner.measured(*cell[:2])}
    cells = [cell for cell in every if cell in new or runner.published(*cell[:2])]
    names = list(dict.fromkeys(cell.method for cell in cells))
    known, earlier = (before.results, before.about) if before else ({}, {})
    results = {cell: read_results(runner.path(cell)) if cell in new else known[cell] for cell in cells}
    runs = {cell: read_predictions(results[cell], runner.path(cell)) for cell in cells if cell in new}
    out.mkdir(parents=True, exist_ok=True)
    kept = write_scores(out / SCORES, runs) if study.keep_predictions else None
    if not new and before:  # what was published stays, without what the study has no more
        about = {**about, "made_by": earlier["made_by"], "machine": earlier["machine"]}
    if study.resamples:
        drawn.write(out / drawn.FILE, _resamples(runner, out / drawn.FILE, cells, new))
    tasks = {cell.task for cell in cells}
    positive = {name: counts for name, counts in earlier.get("positives", {}).items() if name in tasks}
    spent = {name: _spent(runner, name) or earlier["compute"][name] for name in names if runner.trained(name)}
    about = {
        **about,
        "rows": {f"{cell.method}--{cell.task}": runner.described(cell.method, cell.task) for cell in cells},
        "recipe": str(study.recipe),
        "reference": study.reference,
        "commits": sorted({results[cell].commit or "unknown" for cell in new} | _earlier(earlier, cells, new)),
        "positives": positive | positives(runs),
        "predictions": {
            "sha256": digest_of(runs) if len(new) == len(cells) else None,  # of all of them or none
            "file": SCORES if kept else None,
            "file_sha256": kept,
        },
        "untested": [name for name, task in study.tasks.items() if not task.tested],
        "families": {name: study.families[name] for name in names},
        "comparisons": study.comparisons,
        "settings": {name: study.methods[name].settings for name in names},
        "compute": spent,
    }
    write_folder(out, about, results)
    same = all(earlier.get(name) == about[name] for name in ("comparisons", "untested"))
    if same and earlier.get("differences", {}).get("of") == file_digest(out / "results.csv"):
        write_about(out, {**read_folder(out).about, "differences": earlier["differences"]})


@dataclass
class Publication:
    """Takes at most a twentieth of the time: it reads all that was measured, and no process starts meanwhile."""

    publish: Callable[[], None]
    wanted: bool = False
    not_before: float = 0.0

    def where_due(self) -> None:
        started = time.monotonic()
        if self.wanted and started >= self.not_before:
            self.publish()
            self.wanted, ended = False, time.monotonic()
            self.not_before = ended + 20 * (ended - started)


def _resamples(runner: "Runner", path: Path, cells: Sequence[Cell], new: Collection[Cell]) -> dict[str, drawn.Drawn]:
    """Of every cell that is tested; of those that were published before, what is there."""
    known = drawn.read(path) if path.is_file() else {}
    tested = [cell for cell in cells if runner.study.tasks[cell.task].tested]
    return {
        cell.file: drawn.read(resampled(runner.path(cell), runner.study.resamples))[""]
        if cell in new
        else known[cell.file]
        for cell in tested
    }


def _earlier(about: Json, cells: Sequence[Cell], new: Collection[Cell]) -> set[str]:
    """The commits of the results that were published before."""
    return set(about.get("commits", [])) if any(cell not in new for cell in cells) else set()


def positives(runs: Mapping[Cell, Sequence[Predictions]]) -> Json:
    """Of each task with classes, the positive test images of each class."""
    found = {}
    for cell, (run, *_) in runs.items():
        if {"target", "classes"} <= run.keys():
            counts = (run["target"] > 0).sum(0).tolist()
            found[cell.task] = dict(zip(run["classes"].astype(str).tolist(), counts, strict=True))
    return found


def _spent(runner: "Runner", method: str) -> list[Json] | None:
    """What each run of the method took, and its validations; None where its runs are not here."""
    folders = [runner.folder(method, seed) for seed in runner.seeds]
    if not all((folder / "done.json").is_file() for folder in folders):
        return None
    done = [json.loads((folder / "done.json").read_text(encoding="utf-8")) for folder in folders]
    spent = [{key: each[key] for key in COMPUTE if key in each} for each in done]
    return [{**each, **validations(folder)} for each, folder in zip(spent, folders, strict=True)]


def validations(run: Path) -> Json:
    """The main validation metric by step, where it was measured before the end, too."""
    found = {}
    for line in map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()):
        if metric := next((name for name in line if name.startswith(VALIDATION)), None):
            found[str(line["step"])] = line[metric]
    return {"validation": found} if len(found) > 1 else {}


def made_by(study: Study, arguments: argparse.Namespace) -> Json:
    """The command that makes the study from its archives, the code that the results are of, and the machine."""
    diff = ["git", "diff", "--quiet", "HEAD", "--", "src"]
    try:
        changed = subprocess.run(diff, cwd=ROOT, capture_output=True, check=False).returncode == 1
    except OSError:  # there is no git
        changed = False
    raw = [
        f"{name}=FOLDER" for name, options in study.data.items() if options.get("source", "synthetic") != "synthetic"
    ]
    file, fold = arguments.study, arguments.fold
    command = f"python experiments/run.py experiments/{file.name} --work WORK --out docs/results/{file.stem}"
    command += "" if fold is None else f"/fold-{fold} --fold {fold}"
    return {
        "made_by": {
            "commit": (commit() or "unknown") + (" with changes" if changed else ""),
            "command": " ".join([command, "--raw", *raw]) if raw else command,
        },
        "machine": {"processor": processor(), "threads": arguments.threads, "workers": arguments.workers},
    }


def processor() -> str:
    """The name of the processor, where the system knows it, and whether it has AVX-512, with which runs are faster."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())
    return f"{name} with AVX-512" if any(line.startswith("flags") and "avx512f" in line for line in lines) else name
