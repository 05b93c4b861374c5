"""What a comparison prints, and whose images it takes."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from imitate.statistics.delong import delong_test
from imitate.tasks import comparison
from imitate.tasks.comparison import Difference, Measured


def _difference(**changes: Any) -> Difference:
    values = {"metric": "auroc", "a": "a", "b": "b", "difference": -0.05, "low": -0.1, "high": 0.0123}
    return Difference(**{**values, "p": 0.03, "p_holm": 0.06, "p_delong": None, **changes})


def test_the_table_has_a_head_and_a_row_for_each_difference(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = _difference(b="c", low=None, high=None, p=math.nan, p_holm=math.nan, p_delong=0.25)
    comparison._show([_difference(), unknown], split="val")
    first, head, *rows = (line for line in capsys.readouterr().out.splitlines() if line)
    assert first == "on the same images, split val"
    assert head.split() == [
        "minus",
        "a",
        "metric",
        "difference",
        "95%",
        "interval",
        "p",
        "p",
        "(Holm)",
        "p",
        "(DeLong)",
    ]
    cells = [row.split() for row in rows if row]
    assert cells == [
        ["b", "auroc", "-0.0500", "-0.1000", "to", "+0.0123", "0.03", "0.06"],
        ["c", "auroc", "-0.0500", "unknown", "unknown", "0.25"],
    ]
    assert comparison._chance(comparison.FLOOR) == f"<={comparison.FLOOR:.2g}"


def _measured(name: str, seed: int, order: np.ndarray, **more: Any) -> Any:
    generator = np.random.default_rng(0)
    target = generator.integers(0, 2, (60, 2)).astype(float)
    target[3, 1] = np.nan
    score = target + np.random.default_rng(seed).normal(0, 1, target.shape)
    score[3] = 0
    run = {
        "target": target[order],
        "score": score[order],
        "image_id": np.array([f"i{i}" for i in range(60)])[order],
        "patient": np.array([f"p{i // 2}" for i in range(60)])[order],
        "classes": np.array(["Edema", "Mass"]),
        **more,
    }
    return Measured(name, Path(name), SimpleNamespace(metrics={}), SimpleNamespace(), [run])  # type: ignore[arg-type]


def test_delong_s_test_is_of_one_class_its_known_images_and_the_same_order() -> None:
    straight = np.arange(60)
    a, b, turned = _measured("a", 1, straight), _measured("b", 2, straight), _measured("b", 2, straight[::-1])
    for column, name in enumerate(("Edema", "Mass")):
        target = a.runs[0]["target"][:, column]
        known = ~np.isnan(target)
        one, two = (each.runs[0]["score"][None, known, column] for each in (a, b))
        expected = delong_test(target[known], two, one, patients=a.runs[0]["patient"][known]).p
        assert comparison._delong(a, b, f"auroc/{name}") == comparison._delong(a, turned, f"auroc/{name}") == expected
    first, second = (comparison._with_classes(each, ["Mass"]) for each in (a, b))
    assert comparison._delong(first, second, "auroc") == comparison._delong(a, b, "auroc/Mass")
    for name in ("auroc", "auroc/Hernia", "average-precision/Mass", "Mass"):
        assert comparison._delong(a, b, name) is None
    folds = _measured("a", 1, straight, fold=np.zeros(60))
    assert comparison._delong(folds, b, "auroc/Mass") is None


def test_classes_of_both_are_chosen_in_one_order_with_what_is_called(caplog: pytest.LogCaptureFixture) -> None:
    a = _measured("a", 1, np.arange(60), called=np.arange(120).reshape(60, 2))
    chosen = comparison._with_classes(a, ["Mass", "Edema"]).runs[0]
    assert chosen["classes"].tolist() == ["Mass", "Edema"]
    for key in ("target", "score", "called"):
        np.testing.assert_array_equal(chosen[key], a.runs[0][key][:, ::-1])
    same, other = comparison._of_common_classes(a, a)
    assert not caplog.records and same.runs[0].keys() == a.runs[0].keys() == other.runs[0].keys()
    comparison._of_common_classes(a, comparison._with_classes(a, ["Mass"]))
    assert caplog.messages == ["a and a are compared over the classes of both: Mass"]
    plain = _measured("a", 1, np.arange(60))
    del plain.runs[0]["classes"]
    assert comparison._of_common_classes(plain, a) == (plain, a)
