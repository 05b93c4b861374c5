"""Run a study: prepare, pre-train rows x seeds, measure each row, test the rows against the reference.

    python experiments/run.py experiments/open_i.yaml --work WORK --out docs/results/open_i \
        --raw open-i=OPEN_I_FOLDER chestxray14=CHESTXRAY14_FOLDER

What is done is skipped: the same command continues after a stop or a kill, and re-runs only what is missing. WORK holds
prepared folders, runs, predictions and logs; only results without predictions go to --out.
"""

import argparse
import json
import logging
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from imitate.errors import UserError
from study import ROOT, Cell, Study, flags, load_study, slug

log = logging.getLogger("study")
IMITATE = ("-m", "imitate")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone")
Task = Callable[[], bool]


class Runner:
    """The commands of a study, each a process of its own with a log in WORK/logs."""

    def __init__(self, study: Study, work: Path, out: Path, *, threads: int, seeds: int) -> None:
        self.study, self.work, self.out, self.threads = study, work.resolve(), out, threads
        self.seeds = range(seeds)
        self.children: set[subprocess.Popen[bytes]] = set()
        self.stopping = False
        for folder in (self.work / "logs", self.work / "results", out):
            folder.mkdir(parents=True, exist_ok=True)

    def prepare(self, name: str, raw: str | None) -> bool:
        folder, options = self.work / name, dict(self.study.data[name])
        if any((folder / name).is_file() for name in ("index.json", "meta.json")):
            return True
        source = options.pop("source")
        where = ["--raw", raw] if raw else []
        if source != "synthetic" and not raw:
            raise UserError(f"{folder} is not prepared and --raw {name}=FOLDER is missing: say where its archive lies")
        more = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        return (
            self.run(f"prepare-{name}", [*IMITATE, "prepare", source, *where, "--out", str(folder), *more]) is not None
        )

    def pretrain(self, row: str, seed: int) -> bool:
        folder, settings = self.folder(row, seed), {**self.study.rows[row].settings, "training.seed": seed}
        done = folder / "done.json"
        if done.is_file():
            if json.loads(done.read_text())["settings"] != settings:
                log.info("%s is finished with other settings: rename the row %r or delete the folder", folder, row)
                return False
            return True
        resumed = (folder / "last.ckpt").is_file()
        processes = settings.get("training.devices", 1)
        launcher = [*TORCHRUN, f"--nproc-per-node={processes}"] if processes != 1 else []
        command = [*launcher, *IMITATE, "pretrain", str(ROOT / self.study.recipe)]
        command += ["--data", str(self.work / self.study.train)]
        command += ["--out", str(folder), "--threads", str(self.threads), *flags(settings)]
        spent = self.run(f"pretrain-{slug(row)}-{seed}", command)
        if spent is None:
            return False
        write_json(done, {"settings": settings, "resumed": resumed, **spent, **pairs(folder)})
        return True

    def measure(self, row: str) -> bool:
        """All of a row's results that are missing, in one process."""
        wanted = cells(self.study, [row])
        missing = [cell for cell in wanted if not self.measured(cell)]
        commands = [json.dumps(self.command(cell)) for cell in missing]
        done = not missing or self.run(f"measure-{slug(row)}", [str(ROOT / "experiments/measure.py"), *commands])
        for cell in wanted:
            if self.measured(cell):
                text = (self.work / "results" / cell.file).read_text(encoding="utf-8")
                (self.out / cell.file).write_text(text, encoding="utf-8")
        return bool(done)

    def command(self, cell: Cell) -> list[str]:
        measure, path = self.study.tasks[cell.measure], self.work / "results" / cell.file
        command = ["evaluate", measure.task, "--data", str(self.work / measure.data), "--out", str(path)]
        command += ["--name", cell.row, "--fraction", str(cell.fraction), *flags(measure.settings)]
        return [*command, "--cache", str(self.work / "cache" / slug(cell.row)), *self.models(cell.row)]

    def measured(self, cell: Cell) -> bool:
        """Whether the results are there, of these runs, these settings and as many seeds."""
        path = self.work / "results" / cell.file
        runs = [done for seed in self.seeds if (done := self.folder(cell.row, seed) / "done.json").is_file()]
        if not path.is_file() or any(done.stat().st_mtime > path.stat().st_mtime for done in runs):
            return False
        found, wanted = json.loads(path.read_text(encoding="utf-8")), self.study.tasks[cell.measure].settings
        seeds = 1 if self.study.rows[cell.row].model == "pixels" else len(self.seeds)
        alike = json.loads(json.dumps(wanted)).items() <= found["settings"].items() if wanted else True
        return len(found["seeds"]) == seeds and alike and found["task"] == self.study.tasks[cell.measure].task

    def models(self, name: str) -> list[str]:
        row = self.study.rows[name]
        if row.model == "run":
            return ["--model", *(str(self.folder(name, seed)) for seed in self.seeds)]
        like = ["--like", str(self.folder(self.study.reference, 0))]  # its network, its text encoder
        return ["--model", row.model, *like, *(["--seeds", str(len(self.seeds))] if row.model == "random" else [])]

    def folder(self, row: str, seed: int) -> Path:
        return self.work / "runs" / slug(row) / str(seed)

    def run(self, name: str, arguments: list[str]) -> dict[str, Any] | None:
        """Seconds of wall clock and of processors that the command took; None if it failed or was stopped."""
        if self.stopping:
            return None
        path, started = self.work / "logs" / f"{name}.log", time.monotonic()
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "COLUMNS": "120"}
        with path.open("ab") as file:
            child = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            self.children.add(child)
            _, status, usage = os.wait4(child.pid, 0)
            self.children.discard(child)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - started
        if self.stopping and child.returncode:
            return None
        if child.returncode:
            last = (path.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"])[-1]
            log.info("%s stopped with %d: %s (%s)", name, child.returncode, last, path)
            return None
        log.info("%s: %.0f s", name, seconds)
        return {"seconds": round(seconds, 1), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1)}

    def stop(self, *_: object) -> None:
        """Each pre-training saves its state after its step and ends."""
        if not self.stopping:
            log.info("stopping; the same command continues")
        self.stopping = True
        for child in list(self.children):
            child.send_signal(signal.SIGTERM)


def pairs(folder: Path) -> dict[str, int]:
    """Steps of a finished run, and the image-report pairs that these took."""
    step = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])["step"]
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    return {"steps": step, "pairs": step * config["training"]["batch_size"]}


def write_json(path: Path, values: object) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def cells(study: Study, rows: Iterable[str]) -> list[Cell]:
    return [
        Cell(name, measure, fraction)
        for name in rows
        for measure, each in study.measures(study.rows[name]).items()
        for fraction in each.fractions
    ]


def together(pool: ThreadPoolExecutor, tasks: Iterable[Task]) -> bool:
    """All of them, some at a time and in this order; whether all went well."""
    went_well = [job.result() for job in [pool.submit(task) for task in tasks]]
    return all(went_well)


def carry_out(runner: Runner, *, workers: int) -> bool:
    """Stage after stage: every row's first seed, then the next seed, then the measurements."""
    good = True
    with ThreadPoolExecutor(workers) as pool:
        for stage in runner.study.stages:
            trained = [name for name, row in stage.rows.items() if row.model == "run"]
            good &= together(pool, [partial(runner.pretrain, name, seed) for seed in runner.seeds for name in trained])
            ready = [name for name, row in stage.rows.items() if row.model != "run" or finished(runner, name)]
            good &= together(pool, [partial(runner.measure, name) for name in ready])
            write_json(runner.out / "study.json", summary(runner, workers))
            if runner.stopping:
                return False
    return good


def finished(runner: Runner, row: str) -> bool:
    return all((runner.folder(row, seed) / "done.json").is_file() for seed in runner.seeds)


def summary(runner: Runner, workers: int) -> dict[str, Any]:
    """What the tables need beside the results: families, settings, and the compute of every run."""
    study = runner.study
    runs = {
        name: [json.loads((runner.folder(name, seed) / "done.json").read_text()) for seed in runner.seeds]
        for name, row in study.rows.items()
        if row.model == "run" and finished(runner, name)
    }
    return {
        "recipe": str(study.recipe),
        "reference": study.reference,
        "families": {name: stage.family for stage in study.stages for name in stage.rows},
        "settings": {name: row.settings for name, row in study.rows.items()},
        "results": {cell.file: list(cell) for cell in cells(study, study.rows) if (runner.out / cell.file).is_file()},
        "compute": runs,
        "machine": {"processor": processor(), "threads": runner.threads, "workers": workers},
    }


def processor() -> str:
    """The name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--raw", nargs="*", default=[], metavar="NAME=FOLDER", help="the raw archive of a data set")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time")
    parser.add_argument("--threads", type=int, default=1, help="compute threads of each")
    parser.add_argument("--seeds", type=int, help="fewer than the study's: a whole study of one seed can grow later")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        study = load_study(arguments.study)
        seeds = arguments.seeds or study.seeds
        runner = Runner(study, arguments.work, arguments.out, threads=arguments.threads, seeds=seeds)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, runner.stop)
        raw = dict(each.split("=", 1) for each in arguments.raw if "=" in each)
        good = all(runner.prepare(name, raw.get(name)) for name in study.data)
        good = good and carry_out(runner, workers=arguments.workers)
    except UserError as error:
        log.info("%s", error)
        return 2
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
