"""Results on a terminal: a line a metric, then a line a class. Nothing is wrapped, whatever the terminal's width."""

from collections import defaultdict
from collections.abc import Sequence

from imitate.tasks.base import Estimate, Results, extent

HEADS = ("", "value", "95% interval", "chance", "shuffled")


def shown(results: Results) -> str:
    """As ``imitate evaluate`` prints it."""
    where, seeds = results.data, len(results.seeds)
    blocks = [
        f"{results.task}: {results.model} on {where['name']}, split {where['split']}, {extent(where)}, "
        f"{seeds} seed{'s' if seeds > 1 else ''}"
    ]
    parts = {name for name in results.metrics if name.partition("/")[0] in results.metrics and "/" in name}
    whole = {name: each for name, each in results.metrics.items() if name not in parts}
    blocks.append(aligned([HEADS, *((name, *_cells(each)) for name, each in whole.items())]))
    if parts:
        bases = list(dict.fromkeys(name.partition("/")[0] for name in results.metrics if name in parts))
        labels = list(dict.fromkeys(name.partition("/")[2] for name in results.metrics if name in parts))
        values = ([_value(results.metrics.get(f"{base}/{label}")) for base in bases] for label in labels)
        rows = [[label, *each] for label, each in zip(labels, values, strict=True)]
        blocks.append("\n" + aligned([["", *bases], *rows]))
    notes = defaultdict(list)
    for name, each in whole.items():
        if each.note:
            notes[each.note].append(name)
    blocks += [f"  {', '.join(names)}: {note}" for note, names in notes.items()]
    return "\n".join(blocks) + "\n"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right; empty columns are left out."""
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


def _cells(each: Estimate) -> list[str]:
    between = "" if each.low is None or each.high is None else f"{each.low:.4f} - {each.high:.4f}"
    levels = ("" if level is None else f"{level:.4f}" for level in (each.chance, each.shuffled))
    return [_value(each), between, *levels]


def _value(each: Estimate | None) -> str:
    return "-" if each is None or each.value is None else f"{each.value:.4f}"
