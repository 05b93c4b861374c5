"""What a reader must know before methods that stand side by side in a table are compared."""

from typing import Any

from imitate.report.groups import Group, settings_of
from imitate.report.tables import headlines, label

ASKED = ("prompts", "language", "authors", "fitted on")  # that may well differ between methods, but must be said


def cautions(group: Group) -> list[str]:
    """Means over other classes, and methods that are asked with other texts or fitted on other data."""
    return [*_other_classes(group), *_other_methods(group)]


def _other_classes(group: Group) -> list[str]:
    found: dict[str, list[str]] = {}
    for metric in headlines(group):
        for fraction in reversed(group.fractions):
            each = group.averaged(metric, fraction)
            every = frozenset[str]().union(*each.values())
            lacking = {name: ", ".join(sorted(every - own)) for name, own in each.items() if every - own}
            if lacking:
                without = "; ".join(f"{name} without {classes}" for name, classes in lacking.items())
                found.setdefault(without, []).append(label(metric))
                break
    return [
        f"{', '.join(metrics)}: means over different classes, which cannot be compared: {without}. "
        "Compare single classes, or use imitate compare, which takes the classes of both."
        for without, metrics in found.items()
    ]


def _other_methods(group: Group) -> list[str]:
    found = []
    for key in ASKED:
        values: dict[str, list[str]] = {}
        for name, entry in group.at(group.fractions[-1]).items():
            values.setdefault(_said(settings_of(entry.results).get(key)), []).append(name)
        if len(values) > 1:
            each = "; ".join(f"{value} ({', '.join(names)})" for value, names in values.items())
            found.append(f"The methods differ in {key}: {each}.")
    return found


def _said(value: Any) -> str:
    """Of a path its last part."""
    return "default" if value in (None, False, "") else str(value).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
