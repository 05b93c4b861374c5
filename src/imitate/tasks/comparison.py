"""Paired tests between results on the same test images."""

import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ConfigDict

from imitate.config import Config
from imitate.errors import UserError
from imitate.statistics.delong import delong_test
from imitate.statistics.intervals import FLOOR, holm
from imitate.tasks.base import Predictions, Results, Task
from imitate.tasks.comparable import made_otherwise, measured_otherwise, same_truth, task_of
from imitate.tasks.estimating import Resampled, positions, resampled_metrics, tested
from imitate.tasks.printing import aligned
from imitate.tasks.results import check_out, read_predictions, read_results, write_text

log = logging.getLogger(__name__)


PER_CLASS = ("target", "score", "called", "before", "probability")  # arrays of predictions with a column a class


class Difference(Config):
    """``b`` minus ``a`` in one metric."""

    model_config = ConfigDict(allow_inf_nan=True)  # p is NaN where it cannot be known

    metric: str
    a: str
    b: str
    difference: float
    low: float | None  # 95%, over patients and seeds
    high: float | None
    p: float  # paired by patient and seed, two-sided
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
    first, *others = _distinguished([read_measured(path) for path in files])
    found = adjusted(tests(first, others, metrics=metrics, resamples=resamples))
    if out is not None:
        write_text(out, f"[{','.join(each.model_dump_json(indent=1) for each in found)}]")
    _show(found, split=first.results.data["split"])
    if any(len(each.runs) < 2 for each in (first, *others)):
        sys.stdout.write("One seed says nothing of how seeds vary: these tests are of these very runs.\n")
    return found


def tests(
    first: Measured, others: Sequence[Measured], *, metrics: Sequence[str] = (), resamples: int
) -> list[Difference]:
    """Differences of all others from the first, by default in the main metric; ``p_holm`` is yet to be adjusted.

    UserError where results are not of the same test images, or lack a metric.
    """
    names = metrics or (next(iter(first.results.metrics)),)
    for other in others:
        _require_same_test(first, other)
        _name_differences(first, other)
    for each in (first, *others):
        for name in names:
            _value(each, name)  # a mistaken name is reported before the long work
    return [each for other in others for each in differences(first, other, names, resamples=resamples)]


def adjusted(found: Sequence[Difference]) -> list[Difference]:
    """With ``p_holm`` for all of them together."""
    corrected = holm([each.p for each in found])
    return [each.model_copy(update={"p_holm": p}) for each, p in zip(found, corrected, strict=True)]


def differences(a: Measured, b: Measured, names: Sequence[str], *, resamples: int) -> list[Difference]:
    """``b`` minus ``a``, over the classes that both have; ``p_holm`` is yet to be adjusted."""
    a, b = _of_common_classes(a, b)
    if not same_truth(a.runs[0], b.runs[0]):
        raise UserError(
            f"{a.path} and {b.path} have other labels or marks of the same images: evaluate both with the same version "
            "and settings; of grounding, with classes that both models know"
        )
    first, second = (
        resampled_metrics(each.task, each.runs, like=a.runs[0], resamples=resamples, pretrained=each.results.pretrained)
        for each in (a, b)
    )
    found = []
    for name in names:
        if name not in first.drawn or math.isnan((test := tested(first, second, name)).difference):
            raise UserError(f"{name} is undefined over the classes of both {a.path} and {b.path}: compare another")
        values: dict[str, Any] = {**test._asdict(), "p_holm": test.p, "p_delong": _delong(a, b, name)}
        found.append(Difference(metric=name, a=a.name, b=b.name, **values))
    return found


def p_above(first: Resampled, others: Sequence[Resampled], metric: str) -> list[float]:
    """Of paired tests of one method against each other one, corrected by Holm over them."""
    return holm([tested(other, first, metric).p for other in others])


def read_measured(path: Path) -> Measured:
    """UserError where predictions are lost, or this version does not know the settings."""
    results = read_results(path)
    return Measured(results.model, path, results, task_of(results, path), read_predictions(results, path))


def _distinguished(all_measured: list[Measured]) -> list[Measured]:
    """By the models' names, or by the files' where two models share one."""
    if len({each.name for each in all_measured}) == len(all_measured):
        return all_measured
    return [each._replace(name=str(each.path)) for each in all_measured]


def _require_same_test(a: Measured, b: Measured) -> None:
    if differ := measured_otherwise(a.results, b.results):
        raise UserError(
            f"{a.path} and {b.path} differ in {differ}: evaluate both on the same data, with the same settings of what "
            "is measured"
        )
    one, two = (set(each.runs[0]["image_id"].tolist()) for each in (a, b))
    if one != two:
        raise UserError(
            f"{a.path} and {b.path} have different test images ({len(one)} and {len(two)}, {len(one & two)} in "
            "common): evaluate both with the same settings"
        )


def _name_differences(a: Measured, b: Measured) -> None:
    """What may be the very difference that is tested, or a mistake."""
    if differ := made_otherwise((a.results, a.path), (b.results, b.path)):
        log.warning("%s and %s differ in %s", a.path, b.path, differ)


def _of_common_classes(a: Measured, b: Measured) -> tuple[Measured, Measured]:
    """Both with the classes of both, in one order: a macro average of others would be another metric."""
    if any("classes" not in each.runs[0] for each in (a, b)):
        return a, b
    one, two = (
        [name for name in each.runs[0]["classes"].tolist() if all(name in run["classes"] for run in each.runs)]
        for each in (a, b)
    )
    common = [name for name in one if name in two]
    if not common:
        raise UserError(f"{a.path} and {b.path} have no class in common ({', '.join(one)}; {', '.join(two)})")
    if len(common) < max(len(one), len(two)):
        log.warning("%s and %s are compared over the classes of both: %s", a.path, b.path, ", ".join(common))
    return _with_classes(a, common), _with_classes(b, common)


def _with_classes(measured: Measured, names: list[str]) -> Measured:
    runs = []
    for run in measured.runs:
        columns = [run["classes"].tolist().index(name) for name in names]
        chosen: Predictions = {key: run[key][:, columns] for key in PER_CLASS if key in run}
        runs.append({**run, **chosen, "classes": np.array(names)})
    return measured._replace(runs=runs)


def _value(measured: Measured, name: str) -> float:
    known = measured.results.metrics
    if name not in known:
        raise UserError(f"{measured.path} has no metric {name!r}; it has {', '.join(known)}")
    value = known[name].value
    if value is None:
        raise UserError(f"{name} is undefined in {measured.path}: compare another metric")
    return value


def _delong(a: Measured, b: Measured, name: str) -> float | None:
    """Where the metric is the AUROC of one class, of runs with the same classes, and not within folds."""
    classes = a.runs[0].get("classes", np.array([])).tolist()
    label = classes[0] if name == "auroc" and len(classes) == 1 else name.removeprefix("auroc/")
    if not name.startswith("auroc") or label not in classes or "fold" in a.runs[0]:
        return None
    column = classes.index(label)
    target, patients = a.runs[0]["target"][:, column], a.runs[0]["patient"]
    order = positions(a.runs[0], b.runs[0])
    first, second = (
        np.stack([run["score"][:, column] for run in a.runs]),
        np.stack([run["score"][order, column] for run in b.runs]),
    )
    known = ~np.isnan(target)
    p = delong_test(target[known], second[:, known], first[:, known], patients=patients[known]).p
    return None if math.isnan(p) else p


def _show(found: list[Difference], *, split: str) -> None:
    rows = [("minus " + found[0].a, "metric", "difference", "95% interval", "p", "p (Holm)", "p (DeLong)")]
    for each in found:
        between = "" if each.low is None or each.high is None else f"{each.low:+.4f} to {each.high:+.4f}"
        delong = "" if each.p_delong is None else f"{each.p_delong:.2g}"
        chances = (_chance(each.p), _chance(each.p_holm), delong)
        rows.append((each.b, each.metric, f"{each.difference:+.4f}", between, *chances))
    sys.stdout.write(f"on the same images, split {split}\n{aligned(rows)}\n")


def _chance(p: float) -> str:
    return "unknown" if math.isnan(p) else f"<={p:.2g}" if p <= FLOOR else f"{p:.2g}"
