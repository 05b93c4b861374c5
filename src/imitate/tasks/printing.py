"""Results on a terminal: a line a metric, then a line a class. A table that is wider than the terminal is divided."""

import logging
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from imitate.tasks import find_task
from imitate.tasks.base import Estimate, Results, extent

HEADS = ("", "value", "95% interval", "chance", "shuffled")


def shown(results: Results) -> str:
    """As ``imitate evaluate`` prints it."""
    where, seeds = results.data, len(results.seeds)
    blocks = [
        f"{results.task}: {results.model} on {where['name']}, split {where['split']}, {extent(where)}, "
        f"{seeds} seed{'s' if seeds > 1 else ''}"
    ]
    chosen = find_task(results.task).printed
    metrics = {name: each for name, each in results.metrics.items() if not chosen or name.partition("/")[0] in chosen}
    parts = {name for name in metrics if name.partition("/")[0] in metrics and "/" in name}
    whole = {name: each for name, each in metrics.items() if name not in parts}
    blocks.append(aligned([HEADS, *((name, *_cells(each)) for name, each in whole.items())]))
    if parts:
        bases = list(dict.fromkeys(name.partition("/")[0] for name in metrics if name in parts))
        labels = list(dict.fromkeys(name.partition("/")[2] for name in metrics if name in parts))
        values = ([_value(results.metrics.get(f"{base}/{label}")) for base in bases] for label in labels)
        rows = [[label, *each] for label, each in zip(labels, values, strict=True)]
        blocks += ["\n" + aligned(table) for table in _divided([["", *bases], *rows])]
    notes = defaultdict(list)
    for name, each in whole.items():
        if each.note:
            notes[each.note].append(name)
    blocks += [f"  {', '.join(names)}: {note}" for note, names in notes.items()]
    return "\n".join(blocks) + "\n"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right; empty columns are omitted."""
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in zip(*columns, strict=True):
        first, *others = (
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  " + "  ".join([first, *others]).rstrip())
    return "\n".join(lines)


class Once(logging.Filter):
    """Passes a warning the first time only: of every seed, fraction and model it would be the same."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text, known = record.getMessage(), len(self.seen)
        if record.levelno == logging.WARNING:
            self.seen.add(text)
        return record.levelno != logging.WARNING or len(self.seen) > known


@contextmanager
def warned_once() -> Iterator[None]:
    """Inside, a warning that was given is not given again."""
    filters = {handler: Once() for handler in [*logging.getLogger().handlers, logging.lastResort] if handler}
    for handler, once in filters.items():
        handler.addFilter(once)
    try:
        yield
    finally:
        for handler, once in filters.items():
            handler.removeFilter(once)


def _divided(rows: Sequence[Sequence[str]]) -> list[list[list[str]]]:
    """The table in as few parts as fit the terminal, side by side columns one below the other; the first in each."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    parts: list[list[int]] = [[0]]
    for number in range(1, len(widths)):
        if len(parts[-1]) > 1 and sum(widths[i] for i in parts[-1]) + widths[number] > width:
            parts.append([0])
        parts[-1].append(number)
    return [[[row[i] for i in part] for row in rows] for part in parts]


def _cells(each: Estimate) -> list[str]:
    between = "" if each.low is None or each.high is None else f"{each.low:.4f} - {each.high:.4f}"
    levels = ("" if level is None else f"{level:.4f}" for level in (each.chance, each.shuffled))
    return [_value(each), between, *levels]


def _value(each: Estimate | None) -> str:
    return "-" if each is None or each.value is None else f"{each.value:.4f}"
