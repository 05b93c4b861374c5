"""Results, grouped into those that can stand in one table."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from imitate.errors import UserError
from imitate.names import Mode
from imitate.tasks import find_task, task_names
from imitate.tasks.base import Estimate, Predictions, Published, Results, Task
from imitate.tasks.comparable import measuring
from imitate.tasks.results import read_predictions, read_results

FORMAT_VERSION = 1
SAME = 1e-6  # a smaller difference of two levels of chance is rounding
CALIBRATED = "brier"  # the metric that each calibrated class has
DATA = ("name", "fingerprint", "split", "images", "patients")


class Entry(NamedTuple):
    path: Path
    results: Results

    def predictions(self) -> list[Predictions]:
        """One a seed; none where the file that should lie beside the results is gone."""
        if not self.results.predictions or not (self.path.parent / self.results.predictions).is_file():
            return []
        try:
            return read_predictions(self.results, self.path)
        except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
            raise UserError(f"the predictions of {self.path} cannot be read ({error}): evaluate again") from error


class Group(NamedTuple):
    """One task in one mode on the same test images, with the same settings of what is measured.

    Method -> fraction of the training patients -> results.
    """

    task: str
    mode: Mode
    data: dict[str, Any]
    methods: dict[str, dict[float, Entry]]
    best: Mapping[tuple[float, str], str] = MappingProxyType({})  # the method that is clearly so, by fraction, metric
    apart: Mapping[str, Any] = MappingProxyType({})  # settings that distinguish it from a group of the same images

    @property
    def kind(self) -> type[Task]:
        return find_task(self.task)

    @property
    def entries(self) -> list[Entry]:
        return [entry for fractions in self.methods.values() for entry in fractions.values()]

    @property
    def fractions(self) -> list[float]:
        return sorted({fraction for fractions in self.methods.values() for fraction in fractions})

    @property
    def metrics(self) -> list[str]:
        """Every metric that any of the results has, the main one first."""
        every = dict.fromkeys(metric for entry in self.entries for metric in entry.results.metrics)
        named = [entry.results.headline for entry in self.entries if entry.results.headline in every]
        main = named[0] if named else self.kind.main_metric(self.mode)
        return sorted(every, key=lambda metric: metric != main)

    @property
    def published(self) -> list[Published]:
        """What the recipes of these results quote, each once."""
        found: list[Published] = []
        for entry in self.entries:
            quoted = entry.results.published
            if quoted and quoted not in found:
                found.append(quoted)
        return found

    @property
    def title(self) -> str:
        settings = "".join(f", {name} {value}" for name, value in self.apart.items())
        return f"{self.kind.title} on {self.data['name']}{', mode paper' if self.mode == 'paper' else ''}{settings}"

    def at(self, fraction: float) -> dict[str, Entry]:
        return {name: fractions[fraction] for name, fractions in self.methods.items() if fraction in fractions}

    def estimates(self, metric: str, fraction: float) -> dict[str, Estimate]:
        """Of the methods that have this metric at this fraction."""
        found = {name: entry.results.metrics.get(metric) for name, entry in self.at(fraction).items()}
        return {name: estimate for name, estimate in found.items() if estimate}

    def scale(self, metric: str) -> int:
        """100 where it is shown in percent, 1 where in the unit that its name says."""
        return 100 if self.kind.units.get(metric.partition("/")[0], "%") == "%" else 1

    def chance(self, metric: str) -> float | None:
        """Of the test images; None where it is another for each method, such as of means over other classes."""
        levels = self.chances(metric)
        return levels[0] if levels and max(levels) - min(levels) < SAME else None

    def chances(self, metric: str) -> list[float]:
        found = (entry.results.metrics.get(metric) for entry in self.entries)
        return [each.chance for each in found if each and each.chance is not None]

    def averaged(self, metric: str, fraction: float) -> dict[str, frozenset[str]]:
        """Over which classes it is a mean, by method; none of a metric that is no such mean."""
        of = f"{CALIBRATED if self.task == 'calibration' else metric}/"

        def classes(found: Mapping[str, Estimate]) -> frozenset[str]:
            return frozenset(
                key.removeprefix(of) for key in found if key.startswith(of) and found[key].value is not None
            )

        entries = self.at(fraction) if "/" not in metric else {}
        return {name: classes(entries[name].results.metrics) for name in self.estimates(metric, fraction) if entries}


def read_groups(paths: Sequence[Path]) -> list[Group]:
    return group_entries([Entry(path, _read(path)) for path in paths])


def group_entries(entries: Sequence[Entry]) -> list[Group]:
    """In the order of the tasks, then of the entries. UserError where two results would share a cell."""
    together: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        data, settings = entry.results.data, repr(measuring(entry.results))
        key = (entry.results.task, *(data[name] for name in DATA[1:]), entry.results.mode, settings)
        together.setdefault(key, []).append(entry)
    order = task_names()
    keys = sorted(together, key=lambda key: order.index(key[0]))
    groups = [_group(together[key]) for key in keys]
    alike: dict[tuple[Any, ...], list[Group]] = {}
    for key, group in zip(keys, groups, strict=True):
        alike.setdefault(key[:-1], []).append(group)
    return [_apart(group, alike[key[:-1]]) for key, group in zip(keys, groups, strict=True)]


def _apart(group: Group, alike: list[Group]) -> Group:
    """With what distinguishes it from those that differ in nothing but these settings."""
    every = [measuring(each.entries[0].results) for each in alike]
    own = measuring(group.entries[0].results)
    return group._replace(apart={key: value for key, value in own.items() if any(each[key] != value for each in every)})


def _read(path: Path) -> Results:
    results = read_results(path)
    if results.format_version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {results.format_version}, but imitate reads {FORMAT_VERSION}: evaluate again"
        )
    try:
        find_task(results.task)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    missing = [name for name in DATA if name not in results.data]
    if missing:
        raise UserError(f"{path} does not state the {missing[0]} of its data: evaluate again")
    if not results.metrics:
        raise UserError(f"{path} holds no metrics: evaluate again")
    return results


def _group(entries: list[Entry]) -> Group:
    first = entries[0].results
    methods: dict[str, dict[float, Entry]] = {}
    for entry, name in zip(entries, _names(entries), strict=True):
        fractions = methods.setdefault(name, {})
        fraction = entry.results.fraction
        if fraction in fractions:
            raise UserError(
                f"{fractions[fraction].path} and {entry.path} are both {first.task} of {name} on {first.data['name']} "
                f"at {100 * fraction:g}%: give one of them, or evaluate one with another --name"
            )
        fractions[fraction] = entry
    return Group(first.task, first.mode, first.data, methods)


def _names(entries: list[Entry]) -> list[str]:
    """The models' names, with those settings that differ where everything else agrees, and where they were fitted."""
    alike: dict[tuple[str, float], list[Results]] = {}
    for entry in entries:
        alike.setdefault((entry.results.model, entry.results.fraction), []).append(entry.results)
    differing: dict[str, list[str]] = {}
    for (model, _), same in alike.items():
        keys = dict.fromkeys(key for results in same for key in settings_of(results))
        found = [key for key in keys if len({repr(settings_of(results).get(key)) for results in same}) > 1]
        differing[model] = list(dict.fromkeys([*differing.get(model, []), *found]))
    names = []
    for _, results in entries:
        settings = ", ".join(f"{key} {settings_of(results).get(key)}" for key in differing[results.model])
        names.append(f"{results.model} ({settings})" if settings else results.model)
    return names


def settings_of(results: Results) -> dict[str, Any]:
    return {**results.settings, "fitted on": results.train.get("name", results.data["name"])}
