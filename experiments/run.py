"""Run a study: prepare, pre-train methods x seeds, measure each method; writes study.json and results.csv to --out.

    python experiments/run.py experiments/open_i.yaml --work WORK --out docs/results/open_i \
        --raw open-i=OPEN_I_FOLDER chestxray14=CHESTXRAY14_FOLDER

What is done is skipped: the same command continues after a stop or a kill, and runs only what is missing. Results are
written to --out whenever a method is measured; what is there, of the same settings, data and code, is not run again,
also without WORK. WORK holds prepared folders, runs, results with their predictions, and logs. A data set whose
prepared folder lies in WORK/NAME needs no --raw. In a copy of the repository without .git, set IMITATE_COMMIT to its
commit, which results record.
"""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Hashable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from children import Child
from folds import check_folds
from imitate.errors import UserError
from imitate.tasks import find_task
from imitate.tasks.results import file_digest, write_text
from layout import Folder, read_folder
from measure import Wanted, measured
from prepared import check_prepared
from publish import Publication, made_by, processor, publish
from study import ROOT, Cell, Study, flags, load_study, slug

log = logging.getLogger("study")
IMITATE = ("-m", "imitate")
ALIKE = {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"}  # the same pixels with and without AVX-512
TORCHRUN = ("-m", "torch.distributed.run", "--standalone")
Job = Callable[[], bool]


class Runner:
    """The commands of a study, each a process of its own with a log in WORK/logs."""

    def __init__(
        self,
        study: Study,
        data: Path,
        *,
        threads: int,
        seeds: int,
        part: str = "",
        before: Folder | None = None,
    ) -> None:
        """``data`` holds prepared folders, its ``part`` all else; ``before``: what was published of the study."""
        self.study, self.data, self.threads = study, data.resolve(), threads
        self.work = self.data / part
        self.seeds = range(seeds)
        self.before = before
        self.children: set[Child] = set()
        self.stopping = False
        for folder in (self.work / "logs", self.work / "results"):
            folder.mkdir(parents=True, exist_ok=True)

    def prepare(self, name: str, raw: str | None) -> bool:
        folder, options = self.data / name, dict(self.study.data[name])
        if origin := options.get("folds-of"):
            if (folder / "index.json").is_file():
                check_folds(self.data / origin, folder)
                return True
            made = [str(ROOT / "experiments/folds.py"), str(self.data / origin)]
            return self.run(f"prepare-folds-of-{origin}", made) is not None
        if (folder / "index.json").is_file():
            check_prepared(folder, options)
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
        trained_on = list(self.study.trained_on(method))
        made = {
            "settings": settings,
            "train": trained_on,
            "data": [self.study.made_of(name) for name in trained_on],
            "recipe": str(self.study.recipe),
            "recipe_sha256": file_digest(ROOT / self.study.recipe),
        }
        done = folder / "done.json"
        if done.is_file():
            before = json.loads(done.read_text())
            if any(before[name] != value for name, value in made.items() if name in before):
                log.info(
                    "%s has another recipe, other settings or other data: give another --work or delete it", folder
                )
                return False
            return True
        resumed = (folder / "last.ckpt").is_file()
        processes = settings.get("training.devices", 1)
        launcher = [*TORCHRUN, f"--nproc-per-node={processes}"] if processes != 1 else []
        command = [*launcher, *IMITATE, "pretrain", str(ROOT / self.study.recipe)]
        command += ["--data", *(str(self.data / name) for name in trained_on)]
        command += ["--out", str(folder), "--threads", str(self.threads), *flags(settings)]
        spent = self.run(f"pretrain-{slug(method)}-{seed}", command)
        if spent is None:
            return False
        write_text(
            done,
            json.dumps({**made, "resumed": resumed, "processor": processor(), **spent, **computed(folder)}, indent=1),
        )
        return True

    def measure(self, method: str, task: str) -> bool:
        """At every fraction, in one process; what is there and of which nothing changed is kept."""
        if self.measured(method, task):
            return True
        wanted = json.dumps(self.wanted(method, task)._asdict())
        name = f"measure-{slug(method)}--{task}"
        return self.run(name, [str(ROOT / "experiments/measure.py"), wanted]) is not None

    def measured(self, method: str, task: str) -> bool:
        return measured(self.wanted(method, task))

    def cells(self, method: str, task: str) -> list[Cell]:
        return [cell for cell in self.study.cells(method) if cell.task == task]

    def wanted(self, method: str, task: str) -> Wanted:
        measure, model = self.study.tasks[task], self.study.methods[method].model
        return Wanted(
            name=method,
            models=[str(self.folder(method, seed)) for seed in self.seeds] if model == "run" else [model],
            like=None if model == "run" else str(self.folder(self.study.reference, 0)),  # its network and text encoder
            seeds=len(self.seeds) if model == "random" else 1,
            task=measure.task,
            data=str(self.data / measure.data),
            settings=measure.settings,
            paths={f"{cell.fraction:g}": str(self.path(cell)) for cell in self.cells(method, task)},
            work=str(self.work / "cache" / f"{slug(method)}--{task}"),  # tasks are measured at the same time
            resamples=self.study.resamples if measure.tested else 0,
        )

    def described(self, method: str, task: str) -> str:
        """The digest of all that decides a method's results of a task, whichever machine they are measured on."""
        study, measure, of = self.study, self.study.tasks[task], self.study.methods[method]
        facts: dict[str, Any] = {
            "recipe": file_digest(ROOT / study.recipe),
            "train": [study.made_of(name) for name in of.train] if of.train else study.made_of(study.train),
            "method": of.model_dump(mode="json", include={"settings", "model"}),
            "measure": measure.model_dump(mode="json", exclude={"tested"}),
            "data": study.made_of(measure.data),
            "code": find_task(measure.task).method(),
            "seeds": len(self.seeds),
        }
        if not self.trained(method):
            facts["network"] = study.methods[study.reference].settings
        if study.resamples and measure.tested:
            facts["resamples"] = study.resamples
        return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def published(self, method: str, task: str) -> bool:
        """Whether the results were published, of the same settings, data and code."""
        if self.study.keep_predictions or self.before is None:
            return False
        if any(cell not in self.before.results for cell in self.cells(method, task)):
            return False
        found: bool = self.before.about.get("rows", {}).get(f"{method}--{task}") == self.described(method, task)
        return found

    def needed(self, method: str) -> list[tuple[str, int]]:
        """The runs that measuring a method reads: its own, or of the reference the network and text encoder."""
        return [(method, seed) for seed in self.seeds] if self.trained(method) else [(self.study.reference, 0)]

    def folder(self, method: str, seed: int) -> Path:
        return self.work / "runs" / slug(method) / str(seed)

    def path(self, cell: Cell) -> Path:
        return self.work / "results" / cell.file

    def trained(self, method: str) -> bool:
        return self.study.methods[method].model == "run"

    def run(self, name: str, arguments: list[str]) -> dict[str, Any] | None:
        """Seconds of wall clock and of processors that the command took; None if it failed or was stopped."""
        if self.stopping:
            return None
        path = self.work / "logs" / f"{name}.log"
        child = Child(arguments, path)
        self.children.add(child)
        code, spent = child.wait()
        self.children.discard(child)
        if self.stopping and code:
            return None
        if code:
            last = (path.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"])[-1]
            log.info("%s stopped with %d: %s (%s)", name, code, last, path)
            return None
        log.info("%s: %.0f s", name, spent.seconds)
        return {"seconds": round(spent.seconds, 1), "cpu_seconds": round(spent.cpu_seconds, 1)}

    def stop(self, *_: object) -> None:
        """Each pre-training saves its state after its step and ends."""
        if not self.stopping:
            log.info("stopping; the same command continues")
        self.stopping = True
        for child in list(self.children):
            child.stop()


def computed(folder: Path) -> dict[str, Any]:
    """Steps of a finished run, the image-report pairs that these took, and its precision on this processor."""
    step, start = (
        json.loads((folder / name).read_text(encoding="utf-8").splitlines()[-1])
        for name in ("metrics.jsonl", "starts.jsonl")
    )
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    return {
        "steps": step["step"],
        "pairs": step["step"] * config["training"]["batch_size"],
        "precision": start["precision"],
    }


def carry_out(
    runner: Runner, *, workers: int, families: Collection[str] = (), publish: Callable[[], None] = lambda: None
) -> bool:
    """Everything that is missing; whether all of it succeeded. ``publish`` is called after measurements.

    ``families``: only the methods of these; none: all.

    Method after method, so that a study that is stopped has whole methods; whatever can start, does: no process waits
    for the end of a method.
    """
    waiting = jobs(runner, families)
    every = len(waiting)
    measurements = {(name, task) for name in runner.study.methods for task in runner.study.tasks_of(name)}
    running: dict[Future[bool], Hashable] = {}
    done: set[Hashable] = set()
    publication = Publication(publish)
    with ThreadPoolExecutor(workers) as pool:
        while True:
            ready = [key for key, (needs, _) in waiting.items() if done.issuperset(needs)]
            for key in ready[: workers - len(running)]:
                running[pool.submit(waiting.pop(key)[1])] = key
            if not running:
                break
            publication.where_due()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                key = running.pop(future)
                done.update([key] if future.result() else [])
                publication.wanted |= future.result() and key in measurements
    return len(done) == every


def jobs(runner: Runner, families: Collection[str] = ()) -> dict[Hashable, tuple[list[tuple[str, int]], Job]]:
    """Each with the runs that it needs, the most urgent first: run (method, seed), measurement (method, task)."""
    found: dict[Hashable, tuple[list[tuple[str, int]], Job]] = {}
    for name, family in runner.study.families.items():
        if families and family not in families:
            continue
        tasks = runner.study.tasks_of(name)
        missing = [task for task in tasks if not runner.published(name, task)]
        own = [(name, seed) for seed in runner.seeds] if runner.trained(name) and (missing or not tasks) else []
        needed = [*own, *runner.needed(name)] if missing else own
        found |= {run: ([], partial(runner.pretrain, *run)) for run in dict.fromkeys(needed) if run not in found}
        found |= {(name, task): (runner.needed(name), partial(runner.measure, name, task)) for task in missing}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--raw", nargs="*", default=[], metavar="NAME=FOLDER", help="the raw archive of a data set")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time")
    parser.add_argument("--threads", type=int, default=1, help="compute threads of each")
    parser.add_argument("--fold", type=int, help="which of the folds, for a study on folds; each has its own --out")
    parser.add_argument("--families", nargs="*", default=[], help="only the methods of these")
    parser.add_argument("--seeds", type=int, help="fewer than the study's: a whole study of one seed can grow later")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    os.environ |= {"OMP_NUM_THREADS": str(arguments.threads), "COLUMNS": "120", **ALIKE}  # of all that it starts
    try:
        study = load_study(arguments.study)
        if study.in_folds != (arguments.fold is not None):
            raise UserError(f"{arguments.study} {'needs' if study.in_folds else 'has no folds for'} --fold")
        before = read_folder(arguments.out) if (arguments.out / "study.json").is_file() else None
        if unknown := set(arguments.families) - set(study.families.values()):
            known = ", ".join(dict.fromkeys(study.families.values()))
            raise UserError(f"{arguments.study} has no family {', '.join(sorted(unknown))}; it has {known}")
        seeds = study.seeds if arguments.seeds is None else arguments.seeds
        part = f"fold-{arguments.fold}" if study.in_folds else study.runs
        study = study if arguments.fold is None else study.of_fold(arguments.fold)
        runner = Runner(study, arguments.work, threads=arguments.threads, seeds=seeds, part=part, before=before)
        write = partial(publish, runner, arguments.out, made_by(study, arguments))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, runner.stop)
        raw = dict(each.split("=", 1) for each in arguments.raw if "=" in each)
        good = all(runner.prepare(name, raw.get(name)) for name in study.data)
        good = good and carry_out(runner, workers=arguments.workers, families=arguments.families, publish=write)
        write()
    except UserError as error:
        log.info("%s", error)
        return 2
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
