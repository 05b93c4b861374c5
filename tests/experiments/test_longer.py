"""Contrasts of the study of longer training name its methods, and say what their names say."""

import pytest

from longer import compared
from study import ROOT, load_study


def test_the_contrasts_compare_methods_of_the_study_and_leave_none_out():
    methods = set(load_study(ROOT / "experiments/longer.yaml").methods)
    assert {name for weights in compared().values() for name in weights} == methods


def test_planted_gains_are_found():
    """More steps gain 10 points, 4 more with pooled sections; soft targets gain 1, and 6 more with CLIP."""
    values = {}
    for name in load_study(ROOT / "experiments/longer.yaml").methods:
        soft = " soft longer" in name or name in ("IMITATE", "IMITATE longer")
        values[name] = 10 * ("longer" in name) + 4 * (name == "pooled all levels sections longer") + soft
        values[name] += 6 * (name == "CLIP soft longer")
    found = {name: sum(weight * values[key] for key, weight in each.items()) for name, each in compared().items()}
    expected = dict.fromkeys(found, 1.0) | {
        "CLIP: 3,750 − 1,250 steps": 10,
        "pooled all levels sections: 3,750 − 1,250 steps": 14,
        "IMITATE: 3,750 − 1,250 steps": 10,
        "(pooled all levels sections − CLIP) × (3,750 − 1,250 steps)": 4,
        "(IMITATE − CLIP) × (3,750 − 1,250 steps)": 0,
        "CLIP: soft − hard targets": 7,
        "pooled all levels sections: soft − hard targets": 1 - 4,
        "mean of these six: soft − hard targets": (7 - 3 + 4) / 6,
    }
    assert found == pytest.approx(expected)
