"""Quality against CPU seconds on Open-i: the published objective in the network of ``open_i_small``, and others.

    python benchmarks/quality.py --data PREPARED_OPEN_I --work WORK

PREPARED_OPEN_I is Open-i at 72 px. Each method is trained with several seeds; weights are kept after every epoch and
measured on the validation split. CPU seconds are those of the process when the weights were written, with its start.
Seeds are the outer loop, so that a slow spell of the machine is in all methods. Finished curves are kept in WORK: the
same command continues.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

from measuring import Row, Tables, environment, finish, options

ROOT = Path(__file__).parents[1]
PUBLISHED = ("objective.name=imitate",)
POOLED = (
    "objective.views=1",
    "objective.visual_visual=0",
    "objective.kernel=none",
    "objective.temperature_text=0.1",
    "model.aggregation=pooled",
)
MILD = ("augment.rotation=5", "augment.scale=0.05")  # half of the recipe's
METHODS: dict[str, tuple[tuple[str, ...], int]] = {  # settings, epochs
    "published objective": (PUBLISHED, 8),
    "published objective, mild augmentation": ((*PUBLISHED, *MILD), 8),
    "CLIP": (("objective.name=clip", "objective.views=1", "objective.temperature_text=0.1"), 8),
    "pooled levels": (POOLED, 8),
    "pooled levels, 16 epochs": (POOLED, 16),
    "pooled levels, mild augmentation, growing images": ((*POOLED, *MILD, "training.image_sizes=[32,48,64]"), 12),
    "pooled levels, mild augmentation, quarter width": (
        (*POOLED, *MILD, "model.backbone_options.channels=[16,32,64,128]"),
        12,
    ),
}
REFERENCE = "published objective"
MEASURES = {"recall": ("retrieval", "mean-recall"), "zero-shot AUROC": ("zero-shot", "auroc")}
LEAST = 10  # positive images of a class that counts in zero-shot classification, as in the studies
EVERY = 46  # steps: an epoch of Open-i's 2,953 training images at 64 a batch


def trained(folder: Path, data: Path, settings: Sequence[str]) -> dict[str, float]:
    """CPU seconds of the process at each snapshot of a run, by the snapshot's name; a stopped run starts again."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "imitate", "pretrain", str(ROOT / "experiments/bases/open_i.yaml")]
    command += ["--data", str(data), "--out", str(folder), "--threads", "1", "--log", "csv", "--settings", *settings]
    seconds: dict[str, float] = {}
    with folder.with_suffix(".log").open("wb") as log:
        child = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment() | {"OMP_NUM_THREADS": "1"}
        )
        while child.poll() is None:
            spent = spent_by(child.pid)
            for snapshot in (folder / "snapshots").glob("step-*"):
                seconds.setdefault(snapshot.name, spent)
            time.sleep(0.05)
    if child.returncode:
        raise SystemExit(f"pre-training failed: see {folder.with_suffix('.log')}")
    return seconds


def spent_by(process: int) -> float:
    """CPU seconds of a running process, which Linux counts in ticks."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def quality(snapshot: Path, data: Path, work: Path) -> dict[str, float]:
    import imitate

    found = {}
    shutil.copytree(snapshot.parents[1] / "text", snapshot / "text", dirs_exist_ok=True)
    for name, (task, metric) in MEASURES.items():
        more: dict[str, Any] = {"macro_least": LEAST} if task == "zero-shot" else {}
        out = work / f"{snapshot.parts[-4]}-{snapshot.parts[-3]}-{snapshot.name}-{task}.json"
        results = imitate.evaluate(task, model=str(snapshot), data=data, out=out, split="val", resamples=10, **more)
        value = results.metrics[metric].value
        assert value is not None
        found[name] = value
    return found


def curve(name: str, seed: int, data: Path, work: Path, *, quick: bool = False) -> list[Row]:
    """A row for each epoch; a quick one has two, of four steps."""
    chosen, epochs = METHODS[name]
    epochs, every = (2, 4) if quick else (epochs, EVERY)
    steps = epochs * every
    folder = work / f"{name.replace(' ', '-').replace(',', '')}-{steps}" / str(seed)
    done = folder.with_suffix(".done.json")
    settings = [*chosen, f"training.seed={seed}", f"training.steps={steps}"]
    settings += [f"training.validate_every={steps}", f"training.snapshot_every={every}"]
    fingerprint = json.loads((data / "index.json").read_text())["fingerprint"]
    made = {"settings": settings, "least": LEAST, "data": fingerprint}
    if done.is_file() and (kept := json.loads(done.read_text()))["made"] == made:
        found: list[Row] = kept["rows"]
        return found
    seconds = trained(folder, data, settings)
    rows = []
    for snapshot in sorted((folder / "snapshots").iterdir()):
        step, spent = int(snapshot.name.rpartition("-")[2]), round(seconds[snapshot.name], 1)
        rows.append({"method": name, "seed": seed, "steps": step, "CPU s": spent, **quality(snapshot, data, work)})
    done.write_text(json.dumps({"made": made, "rows": rows}))
    return rows


def summary(curves: Sequence[Row]) -> list[Row]:
    """Means over seeds, and the first epoch whose means reach those at the end of the reference."""
    last = {row["method"]: row["steps"] for row in sorted(curves, key=lambda row: row["steps"])}

    def means(name: str, steps: int) -> dict[str, float]:
        rows = [row for row in curves if (row["method"], row["steps"]) == (name, steps)]
        assert len(rows) == len({row["seed"] for row in curves}), f"{name}: a seed has no step {steps}"
        return {key: mean(row[key] for row in rows) for key in ("CPU s", *MEASURES)}

    goal = means(REFERENCE, last[REFERENCE])
    lines = []
    for name in dict.fromkeys(row["method"] for row in curves):
        end = means(name, last[name])
        line: Row = {"method": name, "CPU s": end["CPU s"]}
        line |= {f"{key}, %": 100 * end[key] for key in MEASURES}
        for key in MEASURES:
            passed = [
                each
                for steps in sorted({row["steps"] for row in curves if row["method"] == name})
                if (each := means(name, steps))[key] >= goal[key]
            ]
            line[f"CPU s to the published objective's {key}"] = passed[0]["CPU s"] if passed else "–"
            line[f"fraction of its time ({key})"] = passed[0]["CPU s"] / goal["CPU s"] if passed else "–"
        lines.append(line)
    return lines


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each on one thread")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    seeds = 1 if arguments.quick else arguments.seeds
    jobs = [(name, seed) for seed in range(seeds) for name in METHODS]
    one = partial(curve, data=arguments.data, work=arguments.work, quick=arguments.quick)
    curves: list[Row] = []
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        for found in pool.map(one, *zip(*jobs, strict=True)):
            print(json.dumps(found[-1]), flush=True)
            curves += found
    tables: Tables = {"summary": summary(curves), "curves": curves}
    finish(arguments, "quality", tables)


if __name__ == "__main__":
    main()
