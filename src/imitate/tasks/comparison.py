"""Paired tests between results on the same test images."""

import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import ConfigDict

from imitate.config import Config, validate
from imitate.errors import UserError
from imitate.statistics import resampling
from imitate.tasks import find_task
from imitate.tasks.base import Predictions, Results, Task
from imitate.tasks.printing import aligned
from imitate.tasks.results import check_out, read_predictions, read_results, write_text


class Difference(Config):
    """``b`` minus ``a`` in one figure."""

    model_config = ConfigDict(allow_inf_nan=True)  # p is NaN where no resample has the figure

    metric: str
    a: str
    b: str
    difference: float
    low: float | None  # 95%, over seeds and patients
    high: float | None
    p: float  # paired bootstrap, two-sided
    p_holm: float  # adjusted for all differences tested together
    p_delong: float | None  # AUROC of one class: of these very runs, patients as clusters


class Measured(NamedTuple):
    name: str
    path: Path
    results: Results
    task: Task
    runs: list[Predictions]


def compare_results(
    files: Sequence[Path], *, metrics: Sequence[str] = (), out: Path | None = None, resamples: int = 1000
) -> list[Difference]:
    """Differences of all other files from the first, printed and returned; ``imitate compare`` has the details."""
    if out is not None:
        check_out(out)
    first, *others = _told_apart([_read(path) for path in files])
    names = metrics or (next(iter(first.results.metrics)),)
    for other in others:
        _require_same_test(first, other)
    for each in (first, *others):
        for name in names:
            _value(each, name)  # a mistaken name is reported before the long work
    drawn = _drawn(first, first, resamples)
    found = []
    for other in others:
        other_drawn = _drawn(other, first, resamples)
        found += [difference(first, other, name, other_drawn[name] - drawn[name]) for name in names]
    adjusted = resampling.holm([each.p for each in found])
    found = [each.model_copy(update={"p_holm": p}) for each, p in zip(found, adjusted, strict=True)]
    if out is not None:
        write_text(out, f"[{','.join(each.model_dump_json(indent=1) for each in found)}]")
    _show(found, split=first.results.data["split"])
    return found


def difference(a: Measured, b: Measured, metric: str, drawn: resampling.Distribution) -> Difference:
    """``b`` minus ``a`` in one figure, beside the bootstrap's differences; ``p_holm`` is yet to be adjusted."""
    low, high = resampling.interval(drawn) or (None, None)
    p = resampling.bootstrap_p(drawn)
    return Difference(
        metric=metric,
        a=a.name,
        b=b.name,
        difference=_value(b, metric) - _value(a, metric),
        low=low,
        high=high,
        p=p,
        p_holm=p,
        p_delong=_delong(a, b, metric),
    )


def _drawn(measured: Measured, first: Measured, resamples: int) -> dict[str, resampling.Distribution]:
    return resampled(measured.task, measured.runs, like=first.runs[0], resamples=resamples)


def resampled(
    task: Task, runs: Sequence[Predictions], *, like: Predictions, resamples: int
) -> dict[str, resampling.Distribution]:
    """Bootstrap samples of every metric: the same runs and patients for all that are compared with ``like``.

    The predictions are of the same images, in any order.
    """
    order = _positions(runs[0], like)
    each = [_reordered(partial(task.resample, run), order) for run in runs]
    return resampling.bootstrap(each, like["patient"], resamples=resamples)


def p_above(first: resampling.Distribution, others: Sequence[resampling.Distribution]) -> list[float]:
    """Of paired bootstrap tests of one method against each other one, corrected by Holm over them."""
    return resampling.holm([resampling.bootstrap_p(first - other) for other in others])


def task_of(results: Results, path: Path) -> Task:
    """With the settings of the results; UserError where this version does not know them."""
    return validate(find_task(results.task), results.settings, where=f"settings in {path}")


def _read(path: Path) -> Measured:
    results = read_results(path)
    return Measured(results.model, path, results, task_of(results, path), read_predictions(results, path))


def _told_apart(all_measured: list[Measured]) -> list[Measured]:
    """By the models' names, or by the files' where two models share one."""
    if len({each.name for each in all_measured}) == len(all_measured):
        return all_measured
    return [each._replace(name=str(each.path)) for each in all_measured]


def _require_same_test(a: Measured, b: Measured) -> None:
    for what in ("task", "fingerprint", "split"):
        one, two = ({"task": each.results.task, **each.results.data}.get(what) for each in (a, b))
        if one != two:
            raise UserError(f"{a.path} and {b.path} differ in {what} ({one}, {two}): evaluate both on the same data")
    one, two = (set(each.runs[0]["image_id"].tolist()) for each in (a, b))
    if one != two:
        raise UserError(
            f"{a.path} and {b.path} have different test images ({len(one)} and {len(two)}, {len(one & two)} in "
            "common): evaluate both with the same settings"
        )


def _value(measured: Measured, name: str) -> float:
    known = measured.results.metrics
    if name not in known:
        raise UserError(f"{measured.path} has no figure {name!r}; it has {', '.join(known)}")
    value = known[name].value
    if value is None:
        raise UserError(f"{name} is undefined in {measured.path}: compare another figure")
    return value


def _positions(of: Predictions, among: Predictions) -> np.ndarray:
    place = {image: i for i, image in enumerate(among["image_id"].tolist())}
    return np.array([place[image] for image in of["image_id"].tolist()])


def _reordered(resample: resampling.Resample, order: np.ndarray) -> resampling.Resample:
    return lambda counts: resample(counts[:, order])


def _delong(a: Measured, b: Measured, name: str) -> float | None:
    """Where the figure is the AUROC of one class."""
    classes = [key for key in a.results.metrics if key.startswith("auroc/")]
    column = 0 if name == "auroc" and len(classes) == 1 else classes.index(name) if name in classes else None
    if column is None:
        return None
    target, patients = a.runs[0]["target"][:, column], a.runs[0]["patient"]
    order = _positions(a.runs[0], b.runs[0])
    first, second = (
        np.stack([run["score"][:, column] for run in a.runs]),
        np.stack([run["score"][order, column] for run in b.runs]),
    )
    known = ~np.isnan(target)
    p = resampling.delong_test(target[known], second[:, known], first[:, known], patients=patients[known]).p
    return None if math.isnan(p) else p


def _show(found: list[Difference], *, split: str) -> None:
    rows = [("minus " + found[0].a, "metric", "difference", "95% interval", "p", "p (Holm)", "p (DeLong)")]
    for each in found:
        between = "" if each.low is None or each.high is None else f"{each.low:+.4f} to {each.high:+.4f}"
        delong = "" if each.p_delong is None else f"{each.p_delong:.2g}"
        chances = (f"{each.p:.2g}", f"{each.p_holm:.2g}", delong)
        rows.append((each.b, each.metric, f"{each.difference:+.4f}", between, *chances))
    sys.stdout.write(f"on the same images, split {split}\n{aligned(rows)}\n")
