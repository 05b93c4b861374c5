from pathlib import Path

import numpy as np
import pytest
import results_files
from results_files import CLASSES, estimated, write_file

from imitate.report.best import with_best
from imitate.report.groups import Group, read_groups
from imitate.statistics import metrics
from imitate.tasks.base import Estimate
from imitate.tasks.estimating import Resampled


def probes(folder: Path, skills: dict[str, float], **changes: object) -> Group:
    paths = [
        results_files.classification(folder / f"{name}.json", model=name, skill=skill, n=200, seeds=1, **changes)
        for name, skill in skills.items()
    ]
    (group,) = read_groups(paths)
    return group


@pytest.mark.parametrize(
    ("skills", "best"),
    [
        ({"a": 0.2, "b": 1.5}, "b"),
        ({"a": 1.0, "b": 1.001}, None),  # however narrow each interval is
        ({"a": 1.5, "b": 1.5, "c": 0.2}, None),  # two that are alike are above the third
        ({"a": 1.5}, None),
    ],
)
def test_the_best_passes_a_paired_test_against_each_other(
    tmp_path: Path, skills: dict[str, float], best: str | None
) -> None:
    group = with_best(probes(tmp_path, skills), resamples=200)
    assert group.best.get((1.0, "auroc")) == best
    assert best is None or group.best[1.0, "auroc/Edema"] == best
    assert (1.0, "auroc/Fracture") not in group.best  # undefined


def test_nothing_is_best_at_chance(tmp_path: Path) -> None:
    """Not even where the other is significantly worse than chance."""
    group = probes(tmp_path, {"a": 0.02, "b": -1.5})
    (path, results) = group.at(1.0)["a"]
    low: Estimate = results.metrics["auroc"].model_copy(update={"low": 0.47})
    path.write_text(results.model_copy(update={"metrics": {**results.metrics, "auroc": low}}).model_dump_json())
    (group,) = read_groups([entry.path for entry in group.entries])
    assert (1.0, "auroc") not in with_best(group, resamples=200).best


def test_less_is_better_where_the_task_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"a": 0.1, "b": 0.5}
    paths = [
        results_files.segmentation(
            tmp_path / f"{name}.json", model=name, metrics={"false_positive_rate": estimated(rate, chance=0.3)}
        )
        for name, rate in rates.items()
    ]
    noise, metric = np.random.default_rng(0).normal(0, 0.02, (2, 1, 1000)), "false_positive_rate"
    drawn = {
        name: Resampled([{metric: rate}], {metric: rate + each}, {}, 40, ())
        for each, (name, rate) in zip(noise, rates.items(), strict=True)
    }
    monkeypatch.setattr("imitate.report.best._drawn", lambda *_: drawn)
    assert with_best(read_groups(paths)[0]).best == {(1.0, "false_positive_rate"): "a"}


def test_without_every_prediction_nothing_is_best(tmp_path: Path) -> None:
    group = probes(tmp_path, {"a": 0.2, "b": 1.5})
    (tmp_path / "a.npz").unlink()
    assert with_best(group).best == {}


def test_predictions_of_other_images_are_not_compared(tmp_path: Path) -> None:
    group = probes(tmp_path, {"a": 0.2, "b": 1.5})
    run = results_files.scored(200, 1.5, 0)
    run["image_id"][0] = "other"
    found = {"auroc": estimated(float(metrics.auroc(run["target"][:, 0], run["score"][:, 0])[0]))}
    other = write_file(tmp_path / "c.json", "linear-classification", [run], found, model="c")
    (group,) = read_groups([*(entry.path for entry in group.entries), other])
    assert len(CLASSES) == 4 and with_best(group).best == {}
