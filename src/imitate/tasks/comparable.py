"""Which results can be compared: on the same test images and labels, with the same settings of what is measured.

All that puts results side by side asks here: ``imitate compare``, the tables of reports, audits.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from imitate.config import validate
from imitate.tasks import find_task
from imitate.tasks.base import Predictions, Results, Task

RETIRED = frozenset({"search"})
"""Settings of earlier versions that changed nothing of what was measured."""
TRUTH = ("target", "label", "marks", "objects")  # arrays of predictions that the model has no part in


def task_of(results: Results, path: Path) -> Task:
    """With the settings of the results; UserError where this version does not know them."""
    settings = {name: value for name, value in results.settings.items() if name not in RETIRED}
    return validate(find_task(results.task), settings, where=f"settings in {path}")


def measuring(results: Results) -> dict[str, Any]:
    """The settings that define what is measured, as they took effect; one that a file does not know is its default."""
    kind = find_task(results.task)
    fields = {name: kind.model_fields[name].default for name in sorted(kind.measuring & kind.model_fields.keys())}
    found = {name: {**results.settings, **results.used}.get(name, default) for name, default in fields.items()}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def measured_otherwise(a: Results, b: Results) -> str:
    """In what a metric of the same name is another; "" where it is the same."""
    one, two = (
        {
            "task": each.task,
            "mode": each.mode,
            "fingerprint": each.data.get("fingerprint"),
            "split": each.data.get("split"),
            **{name: value for name, value in measuring(each).items() if name != "split"},
        }
        for each in (a, b)
    )
    return _differing(one, two)


def made_otherwise(a: tuple[Results, Path], b: tuple[Results, Path], *, but: Collection[str] = ()) -> str:
    """In what the methods differ, as their files say it: that may be what is compared, or a mistake."""
    one, two = (
        {"fraction": results.fraction, **task_of(results, path).model_dump(mode="json"), "of": results.used.get("of")}
        for results, path in (a, b)
    )
    first, second = a[0], b[0]
    if first.train and second.train:
        one["fitted on"], two["fitted on"] = (_folder(each.train) for each in (first, second))
    if found := _differing(*({key: each[key] for key in each if key not in but} for each in (one, two))):
        return found
    digests = {each.digests.get("settings") for each in (first, second)}
    if first.settings == second.settings and not first.sweeps and len(digests - {None}) > 1:
        return "the contents of the files that their settings name, such as prompts"
    return ""


def same_truth(a: Predictions, b: Predictions) -> bool:
    """Of the same images in any order: whether both have the same labels and marks."""
    place = {image: i for i, image in enumerate(b["image_id"].tolist())}
    order = np.array([place[image] for image in a["image_id"].tolist()])
    each = [(a[name], b[name][order]) for name in TRUTH if name in a and name in b]
    return all(np.array_equal(one, two, equal_nan=one.dtype.kind == "f") for one, two in each)


def _folder(train: dict[str, Any]) -> str:
    return f"{train.get('name')} {str(train.get('fingerprint', ''))[:8]}".strip()


def _differing(one: dict[str, Any], two: dict[str, Any]) -> str:
    keys = [key for key in {**one, **two} if one.get(key) != two.get(key)]
    return ", ".join(f"{key} ({one.get(key)}, {two.get(key)})" for key in keys)
