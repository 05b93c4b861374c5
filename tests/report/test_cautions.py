"""What is said where methods of one table are not measured, or made, in the same way."""

import json
from pathlib import Path
from typing import Any

import pytest
import results_files

from imitate.report.best import with_best
from imitate.report.build import write_report
from imitate.report.cautions import cautions
from imitate.report.figures import styles
from imitate.report.groups import Group, read_groups
from imitate.report.tables import main_table


def group_of(*paths: Path) -> Group:
    (group,) = read_groups(list(paths))
    return group


def without(path: Path, *classes: str, **changes: Any) -> Path:
    """The results file, of a model that does not know these classes."""
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    values["metrics"] = {key: each for key, each in values["metrics"].items() if key.partition("/")[2] not in classes}
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_means_over_different_classes_are_said_and_not_bold(tmp_path: Path) -> None:
    good, bad = (
        results_files.classification(
            tmp_path / f"{name}.json", task="zero-shot", model=name, skill=skill, n=200, seeds=1
        )
        for name, skill in (("good", 1.5), ("bad", 0.2))
    )
    same = with_best(group_of(good, bad), resamples=100)
    assert same.best[1.0, "auroc"] == "good" and not cautions(same)

    fewer = with_best(group_of(good, without(bad, "Edema")), resamples=100)

    assert (1.0, "auroc") not in fewer.best and fewer.best[1.0, "auroc/Atelectasis"] == "good"
    (said,) = cautions(fewer)
    assert said.startswith(
        "AUROC, average precision: means over different classes, which cannot be compared: bad without"
    )
    assert "bad without Edema. Compare single classes" in said
    for name in ("page.html", "page.md"):
        assert said in write_report([good, bad], out=tmp_path / name).read_text(encoding="utf-8")
    without(good, "Edema")
    assert with_best(group_of(good, bad), resamples=100).best[1.0, "auroc"] == "good"


def test_means_over_other_calibrated_classes_are_said(tmp_path: Path) -> None:
    paths = [results_files.calibration(tmp_path / f"{name}.json", model=name) for name in ("one", "two")]
    assert not cautions(group_of(*paths))
    values = json.loads(paths[0].read_text(encoding="utf-8"))
    values["metrics"]["brier/Edema"]["value"] = None
    paths[0].write_text(json.dumps(values), encoding="utf-8")
    (said,) = cautions(group_of(*paths))
    assert "one without Edema" in said and said.startswith("Brier score, Brier score before, ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": {"split": "test", "prompts": "my/own.yaml"}}, "The methods differ in prompts: default (a); own.yaml (b)."),
        ({"settings": {"split": "test", "authors": True}}, "The methods differ in authors: default (a); True (b)."),
        ({"train": {"name": "elsewhere"}}, "The methods differ in fitted on: folder (a); elsewhere (b)."),
        ({"settings": {"split": "test", "branch": "findings"}}, None),
    ],
)  # fmt: skip
def test_other_texts_and_other_training_data_are_said(
    tmp_path: Path, changes: dict[str, Any], said: str | None
) -> None:
    a = results_files.classification(tmp_path / "a.json", task="zero-shot", model="a", n=60)
    b = results_files.classification(tmp_path / "b.json", task="zero-shot", model="b", n=60, **changes)
    assert cautions(group_of(a, b)) == ([said] if said else [])


def test_a_level_of_chance_that_differs_is_that_of_each_method(tmp_path: Path) -> None:
    """Of calibration errors it depends on the probabilities, of a mean on its classes."""
    chances = {"a": 0.1, "b": 0.3}
    paths = [
        results_files.detection(
            tmp_path / f"{name}.json", model=name, metrics={"map": results_files.estimated(0.4, chance=chance)}
        )
        for name, chance in chances.items()
    ]
    group = group_of(*paths)
    assert group.chance("map") is None
    lines = {line.heading: line.cells[0].value for line in main_table(group, styles(list(group.methods))).lines}
    assert (lines["a, chance"], lines["b, chance"]) == ("10.0", "30.0") and "chance" not in lines
    alone = group_of(paths[0])
    assert alone.chance("map") == 0.1
    assert [line.heading for line in main_table(alone, styles(list(alone.methods))).lines] == ["a", "chance"]
