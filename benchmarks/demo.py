"""Whether pre-training pays in the demo: `imitate demo` with three seeds, and what IMITATE gains in each task.

    python benchmarks/demo.py --work FOLDER

Each seed has patients and a training of its own. Intervals are those of the paired test over the test patients of
one seed. What is finished in FOLDER is not run again.
"""

import logging
from pathlib import Path

from imitate.commands.demo import BASELINES, demo
from imitate.tasks import find_task
from imitate.tasks.comparison import compare_results
from imitate.tasks.results import read_results
from measuring import Row, finish, options

SEEDS = 3
RESAMPLES = 2000


def differences(folder: Path, seed: int) -> list[Row]:
    """IMITATE minus each baseline of one demo, in points."""
    rows = []
    for file in sorted((folder / "results").glob("*-IMITATE-*.json")):
        results = read_results(file)
        metric = find_task(results.task).headline
        for name in BASELINES:
            other = file.with_name(file.name.replace("-IMITATE-", f"-{name.replace(' ', '-')}-"))
            if not other.is_file():
                continue
            (found,) = compare_results([other, file], metrics=[metric], resamples=RESAMPLES)
            assert found.low is not None and found.high is not None
            value = 100 * (results.metrics[metric].value or 0)
            row: Row = {"seed": seed, "task": results.task, "patients": f"{100 * results.fraction:g}%"}
            row |= {"metric, %": metric, "IMITATE": value, "minus": name, "difference": 100 * found.difference}
            low, high = 100 * found.low, 100 * found.high
            rows.append(row | {"low": low, "high": high, "above 0": "yes" if low > 0 else "no"})
    return rows


def beside(rows: list[Row]) -> list[Row]:
    """A row for each comparison: the difference and its interval in every demo."""
    table: dict[tuple[str, ...], Row] = {}
    for row in rows:
        key = {name: row[name] for name in ("task", "patients", "metric, %", "minus")}
        value = f"{row['difference']:+.1f} [{row['low']:.1f}, {row['high']:.1f}]"
        table.setdefault(tuple(key.values()), key)[f"demo {row['seed']}"] = value
    return list(table.values())


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--threads", type=int, help="compute threads")
    parser.add_argument("--work", type=Path, default=Path("runs/demo"), help="folder for the demos")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rows = []
    for seed in range(1 if arguments.quick else SEEDS):
        folder = arguments.work / str(seed)
        if not (folder / "report.html").is_file():
            demo(out=folder, seed=seed, threads=arguments.threads)
        rows += differences(folder, seed)
    finish(arguments, "demo", {"differences": rows, "demos": beside(rows)})


if __name__ == "__main__":
    main()
