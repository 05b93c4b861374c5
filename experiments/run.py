"""Run a study: prepare, pre-train methods x seeds, measure each method; writes study.json and results.csv to --out.

    python experiments/run.py experiments/open_i.yaml --work WORK --out docs/results/open_i \
        --raw open-i=OPEN_I_FOLDER chestxray14=CHESTXRAY14_FOLDER

What is done is skipped: the same command continues after a stop or a kill, and runs only what is missing. WORK holds
prepared folders, runs, results with their predictions, and logs.
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
from imitate.tasks import find_task
from imitate.tasks.results import read_predictions, read_results, write_text
from layout import SCORES, Json, digest, digest_of, write_folder, write_scores
from study import ROOT, Cell, Study, flags, load_study, slug

log = logging.getLogger("study")
IMITATE = ("-m", "imitate")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone")
COMPUTE = ("resumed", "seconds", "cpu_seconds", "steps", "pairs")
Job = Callable[[], bool]


class Runner:
    """The commands of a study, each a process of its own with a log in WORK/logs."""

    def __init__(self, study: Study, work: Path, *, threads: int, seeds: int) -> None:
        self.study, self.work, self.threads = study, work.resolve(), threads
        self.seeds = range(seeds)
        self.children: set[subprocess.Popen[bytes]] = set()
        self.stopping = False
        for folder in (self.work / "logs", self.work / "results"):
            folder.mkdir(parents=True, exist_ok=True)

    def prepare(self, name: str, raw: str | None) -> bool:
        folder, options = self.work / name, dict(self.study.data[name])
        if any((folder / index).is_file() for index in ("index.json", "meta.json")):
            return True
        source = options.pop("source")
        where = ["--raw", raw] if raw else []
        if source != "synthetic" and not raw:
            raise UserError(f"{folder} is not prepared and --raw {name}=FOLDER is missing: say where its archive lies")
        more = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        command = [*IMITATE, "prepare", source, *where, "--out", str(folder), *more]
        return self.run(f"prepare-{name}", command) is not None

    def pretrain(self, method: str, seed: int) -> bool:
        folder, settings = self.folder(method, seed), {**self.study.methods[method].settings, "training.seed": seed}
        done = folder / "done.json"
        if done.is_file():
            if json.loads(done.read_text())["settings"] != settings:
                log.info("%s was trained with other settings: rename %r or delete the folder", folder, method)
                return False
            return True
        resumed = (folder / "last.ckpt").is_file()
        processes = settings.get("training.devices", 1)
        launcher = [*TORCHRUN, f"--nproc-per-node={processes}"] if processes != 1 else []
        command = [*launcher, *IMITATE, "pretrain", str(ROOT / self.study.recipe)]
        command += ["--data", str(self.work / self.study.train)]
        command += ["--out", str(folder), "--threads", str(self.threads), *flags(settings)]
        spent = self.run(f"pretrain-{slug(method)}-{seed}", command)
        if spent is None:
            return False
        write_text(done, json.dumps({"settings": settings, "resumed": resumed, **spent, **pairs(folder)}, indent=1))
        return True

    def measure(self, method: str) -> bool:
        """All of a method's results, in one process; `imitate evaluate` keeps those of which nothing changed."""
        if self.measured(method):
            return True
        commands = [json.dumps(self.command(cell)) for cell in self.study.cells(method)]
        if commands and self.run(f"measure-{slug(method)}", [str(ROOT / "experiments/measure.py"), *commands]) is None:
            return False
        write_text(self.stamp(method), json.dumps(self.state(method), indent=1))
        return True

    def command(self, cell: Cell) -> list[str]:
        measure = self.study.tasks[cell.task]
        command = ["evaluate", measure.task, "--data", str(self.work / measure.data), "--out", str(self.path(cell))]
        command += ["--name", cell.method, "--fraction", str(cell.fraction), *flags(measure.settings)]
        return [*command, "--cache", str(self.work / "cache" / slug(cell.method)), *self.models(cell.method)]

    def measured(self, method: str) -> bool:
        """Whether the results are there, and of these commands, this code, these weights and data."""
        stamp = self.stamp(method)
        if not stamp.is_file() or not all(self.path(cell).is_file() for cell in self.study.cells(method)):
            return False
        state: bool = json.loads(stamp.read_text(encoding="utf-8")) == json.loads(json.dumps(self.state(method)))
        return state

    def stamp(self, method: str) -> Path:
        return self.work / "results" / f"{slug(method)}.state"

    def state(self, method: str) -> Json:
        """All that a method's results depend on."""
        cells = self.study.cells(method)
        tasks = [self.study.tasks[cell.task] for cell in cells]
        runs = [(method, seed) for seed in self.seeds] if self.trained(method) else [(self.study.reference, 0)]
        weights = [path for run in runs for path in sorted((self.folder(*run) / "model").glob("*")) if path.is_file()]
        folders = [path for each in tasks for path in (self.work / each.data).glob("*.json")]
        return {
            "commands": [self.command(cell) for cell in cells],
            "code": {each.task: find_task(each.task).method() for each in tasks},
            "files": {str(path.relative_to(self.work)): digest(path) for path in [*weights, *folders]},
        }

    def models(self, name: str) -> list[str]:
        method = self.study.methods[name]
        if method.model == "run":
            return ["--model", *(str(self.folder(name, seed)) for seed in self.seeds)]
        like = ["--like", str(self.folder(self.study.reference, 0))]  # its network, its text encoder
        return [
            "--model",
            method.model,
            *like,
            *(["--seeds", str(len(self.seeds))] if method.model == "random" else []),
        ]

    def folder(self, method: str, seed: int) -> Path:
        return self.work / "runs" / slug(method) / str(seed)

    def path(self, cell: Cell) -> Path:
        return self.work / "results" / cell.file

    def trained(self, method: str) -> bool:
        return self.study.methods[method].model == "run"

    def finished(self, method: str) -> bool:
        return not self.trained(method) or all(
            (self.folder(method, seed) / "done.json").is_file() for seed in self.seeds
        )

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


def together(pool: ThreadPoolExecutor, jobs: Iterable[Job]) -> bool:
    """All of them, some at a time and in this order; whether all succeeded."""
    succeeded = [job.result() for job in [pool.submit(job) for job in jobs]]
    return all(succeeded)


def carry_out(runner: Runner, *, workers: int) -> bool:
    """Stage after stage: every method's first seed, then the next seed, then the measurements."""
    good = True
    with ThreadPoolExecutor(workers) as pool:
        for stage in runner.study.stages:
            trained = [name for name in stage.methods if runner.trained(name)]
            good &= together(pool, [partial(runner.pretrain, name, seed) for seed in runner.seeds for name in trained])
            ready = [name for name in stage.methods if runner.finished(name)]
            good &= together(pool, [partial(runner.measure, name) for name in ready])
    return good and not runner.stopping


def publish(runner: Runner, out: Path, about: Json) -> None:
    """What is committed: everything that tables and plots are made from."""
    study = runner.study
    names = [name for name in study.methods if runner.finished(name)]
    cells = [cell for name in names if runner.measured(name) for cell in study.cells(name)]
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
        "predictions": {"sha256": digest_of(runs), "file": SCORES if kept else None, "file_sha256": kept},
        "families": {name: study.families[name] for name in names},
        "settings": {name: study.methods[name].settings for name in names},
        "compute": {name: [_spent(runner.folder(name, seed)) for seed in runner.seeds] for name in trained},
    }
    write_folder(out, about, results)


def _spent(folder: Path) -> Json:
    done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    return {key: done[key] for key in COMPUTE}


def made_by(arguments: argparse.Namespace) -> Json:
    """The command and the code that the results are of, and the machine."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "src"], cwd=ROOT, check=False).returncode
    raw = " ".join(f"{each.split('=')[0]}=FOLDER" for each in arguments.raw)
    command = f"python experiments/run.py {arguments.study} --work WORK --out {arguments.out}"
    return {
        "made_by": {
            "commit": commit.stdout.strip() + (" with changes" if changed else ""),
            "command": f"{command} --raw {raw}" if raw else command,
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
        runner = Runner(study, arguments.work, threads=arguments.threads, seeds=arguments.seeds or study.seeds)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, runner.stop)
        raw = dict(each.split("=", 1) for each in arguments.raw if "=" in each)
        good = all(runner.prepare(name, raw.get(name)) for name in study.data)
        good = good and carry_out(runner, workers=arguments.workers)
        if not runner.stopping:
            publish(runner, arguments.out, made_by(arguments))
    except UserError as error:
        log.info("%s", error)
        return 2
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
