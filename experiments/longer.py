"""What a longer budget and soft targets change, from the folder of longer.yaml alone; errors as in effects.py."""

from collections.abc import Mapping, Sequence

import numpy as np

import effects
from imitate.report.markdown import markdown_table
from layout import Folder
from selection import Column

SOFT = {  # without soft targets, and with them, both of 3,750 steps
    "CLIP": ("CLIP longer", "CLIP soft longer"),
    **{
        cell: (f"{cell} longer", f"{cell} soft longer")
        for cell in (
            "pooled all levels sections",
            "pooled all levels report",
            "pooled all levels both",
            "spatial all levels both",
        )
    },
    "IMITATE": ("IMITATE without soft targets longer", "IMITATE longer"),
}
LONGER = ("CLIP", "pooled all levels sections", "IMITATE")  # also of 1,250 steps


def compared() -> dict[str, dict[str, float]]:
    """The weights of the methods in each contrast."""
    gains = {name: {f"{name} longer": 1.0, name: -1.0} for name in LONGER}
    soft = {name: {with_: 1.0, without: -1.0} for name, (without, with_) in SOFT.items()}
    mean = {method: weight / len(soft) for each in soft.values() for method, weight in each.items()}
    base, *others = LONGER
    return {
        **{f"{name}: 3,750 − 1,250 steps": each for name, each in gains.items()},
        **{
            f"({name} − {base}) × (3,750 − 1,250 steps)": {
                **gains[name],
                **{method: -weight for method, weight in gains[base].items()},
            }
            for name in others
        },
        **{f"{name}: soft − hard targets": each for name, each in soft.items()},
        "mean of these six: soft − hard targets": mean,
    }


def table(study: Folder, columns: Sequence[Column]) -> str:
    """The contrasts whose methods are measured."""
    methods = [name for name in study.methods if all(each.of(name) in study.results for each in columns)]
    named = [
        (name, np.array([weights.get(method, 0.0) for method in methods]))
        for name, weights in compared().items()
        if weights.keys() <= set(methods)
    ]
    if not named:
        return ""
    found: Mapping[str, Sequence[effects.Effect]] = {
        each.title: effects.contrasts(effects.per_seed(study, [each.of(name) for name in methods]), named)
        for each in columns
    }
    return effects.corrected(found)


def validations(study: Folder) -> str:
    """The validation metric of the longer runs in the course of training, means over seeds in percent."""
    compute: Mapping[str, list[dict[str, dict[str, float]]]] = study.about["compute"]
    runs = {name: [run["validation"] for run in each] for name, each in compute.items() if "validation" in each[0]}
    steps = list(dict.fromkeys(step for each in runs.values() for run in each for step in run))
    lines = [
        [name, *(f"{100 * float(np.mean([run[step] for run in each])):.1f}" for step in steps)]
        for name, each in runs.items()
    ]
    return markdown_table(["", *(f"step {int(step):,}" for step in steps)], lines)
