"""Results as Markdown tables, for a README, a paper's draft or a merge request."""

from collections.abc import Sequence

import pandas as pd

from imitate.report.cautions import cautions
from imitate.report.groups import Entry, Group
from imitate.report.tables import headlines, label
from imitate.tasks.base import Estimate, extent


def markdown(groups: Sequence[Group]) -> str:
    """A section a group: metrics as lines, chance and the methods as columns, in percent with 95% intervals."""
    return "\n".join(_section(group) for group in groups)


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Cells are written as they are; the first ``left`` columns are aligned to the left, the others to the right."""
    safe = [[cell.replace("|", "∣") for cell in line] for line in (head, *lines)]
    align = ["left"] * left + ["right"] * (len(head) - left)
    frame = pd.DataFrame(safe[1:], columns=safe[0])
    return str(frame.to_markdown(index=False, disable_numparse=True, colalign=align))


def percent(estimate: Estimate | None, scale: int = 100) -> str:
    """With its 95% interval, where it has one; with ``scale`` 1 in the metric's own unit."""
    if estimate is None or estimate.value is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{scale * estimate.value:.1f}"
    to = " to " if min(estimate.low, estimate.high) < 0 else "–"  # a dash beside a minus is hard to read
    return f"{scale * estimate.value:.1f} ({scale * estimate.low:.1f}{to}{scale * estimate.high:.1f})"


def _section(group: Group) -> str:
    data, methods = group.data, list(group.methods)
    columns = [(name, fraction) for fraction in group.fractions for name in methods if fraction in group.methods[name]]
    heads = [name if fraction == 1 else f"{name}, {100 * fraction:g}%" for name, fraction in columns]
    lines = []
    for metric in _metrics(group):
        scale, level = group.scale(metric), group.chance(metric)
        cells = [percent(group.estimates(metric, fraction).get(name), scale) for name, fraction in columns]
        lines.append([label(metric), "" if level is None else f"{scale * level:.1f}", *cells])
    where = (
        f"{extent(data)}, split {data['split']}; in percent, with 95% "
        f"intervals over seeds and patients; {_seeds(group)}."
    )
    notes = "".join(f"\n{each}\n" for each in cautions(group))
    return f"### {group.title}\n\n{where}\n\n{markdown_table(['', 'chance', *heads], lines)}\n{notes}"


def _metrics(group: Group) -> list[str]:
    """The headlines, what belongs beside them, and the classes of the main metric that are defined."""
    chosen = headlines(group)
    for metric in group.metrics:
        base, *rest = metric.split("/")
        beside = base in group.kind.also and rest[:1] == ["both"]
        defined = any(entry.results.metrics[metric].value is not None for entry in _having(group, metric))
        if (beside or base == group.metrics[0]) and rest and defined and metric not in chosen:
            chosen.append(metric)
    return chosen


def _having(group: Group, metric: str) -> list[Entry]:
    return [entry for entry in group.entries if metric in entry.results.metrics]


def _seeds(group: Group) -> str:
    counts = sorted({len(entry.results.seeds) for entry in group.entries})
    return f"{' or '.join(map(str, counts))} seed{'' if counts == [1] else 's'}"
