"""Results as lines of a CSV file: a metric each, with its interval, its levels and its value of each seed.

All but the mean have eight digits, more than the intervals carry.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from imitate.tasks import find_task
from imitate.tasks.base import Results
from imitate.tasks.results import write_text

LEVELS = ("value", "low", "high", "chance", "shuffled")
METRIC = ("metric", "class", *LEVELS, "note")
SEED = "seed "  # and its number: the columns of the seeds


def numbers(found: Results) -> Iterator[dict[str, Any]]:
    """By METRIC, and a seed each."""
    for name, each in found.metrics.items():
        metric, of = _split(found.task, name)
        levels = {level: short(getattr(each, level)) for level in LEVELS} | {"value": each.value}
        seeds = {
            f"{SEED}{seed}": short(values.get(name)) for seed, values in zip(found.seeds, found.per_seed, strict=True)
        }
        yield {"metric": metric, "class": of, **levels, "note": each.note, **seeds}


def write_numbers(path: Path, lines: Sequence[Mapping[str, Any]], head: Sequence[str]) -> None:
    """``head`` are the columns before those of the seeds."""
    seeds = sorted({name for line in lines for name in line if name.startswith(SEED)}, key=lambda name: int(name[5:]))
    frame = pd.DataFrame(lines, columns=[*head, *seeds])
    write_text(path, frame.to_csv(index=False, lineterminator="\n").rstrip("\n"))


def short(value: float | None) -> str:
    return "" if value is None else f"{value:.8g}"


def _split(task: str, name: str) -> tuple[str, str]:
    """Metric and class, of a task that has classes."""
    metric, _, of = name.partition("/") if find_task(task).curves else (name, "", "")
    return metric, of
