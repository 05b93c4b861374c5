"""Planted differences are found, absent ones are not, and unlike results are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import results_files

from imitate import cli
from imitate.commands.compare import compare
from imitate.errors import UserError
from imitate.statistics import metrics
from imitate.tasks.base import Estimate, Predictions, Results
from imitate.tasks.results import write_results
from imitate.tasks.zero_shot import ZeroShot

CLASSES = ["Edema", "Mass"]
TARGET = np.random.default_rng(0).integers(0, 2, (300, 2)).astype(float)
IMAGES = np.array([f"i{i}" for i in range(300)])
PATIENTS = np.array([f"p{i // 2}" for i in range(300)])


def _run(noise: float, seed: int) -> Predictions:
    score = TARGET + np.random.default_rng(seed).normal(0, noise, TARGET.shape)
    return {"target": TARGET, "score": score, "classes": np.array(CLASSES), "image_id": IMAGES, "patient": PATIENTS}


def _write(path: Path, runs: list[Predictions], **changes: Any) -> Path:
    each = [ZeroShot().measure(run) for run in runs]
    found = {name: Estimate(value=float(np.mean([values[name] for values in each]))) for name in each[0]}
    values: dict[str, Any] = {
        "task": "zero-shot",
        "model": path.stem,
        "data": {"fingerprint": "abc", "split": "test"},
        "mode": "clean",
        "fraction": 1.0,
        "seeds": list(range(len(runs))),
        "settings": {},
        "metrics": found,
        "per_seed": each,
        "versions": {},
        "seconds": 1.0,
    }
    write_results(Results.model_validate({**values, **changes}), runs, path)
    return path


def test_a_planted_difference_is_found_and_a_null_is_not(tmp_path: Path) -> None:
    good, same, bad = (
        _write(tmp_path / f"{name}.json", [_run(noise, seed + i) for i in range(3)])
        for name, noise, seed in (("good", 0.8, 0), ("same", 0.8, 10), ("bad", 1.6, 20))
    )
    out = tmp_path / "differences.json"
    found = compare(good, bad, (same,), metric=("auroc", "auroc/Edema"), out=out)
    assert [(each.b, each.metric) for each in found] == [
        (name, metric) for name in ("bad", "same") for metric in ("auroc", "auroc/Edema")
    ]
    for each in found[:2]:
        assert each.difference < -0.05 and each.high is not None and each.high < 0
        assert each.p < each.p_holm < 0.05
    for each in found[2:]:
        assert each.low is not None and each.high is not None and each.low < 0 < each.high
        assert each.p_holm > 0.05
    assert found[0].p_delong is None and found[1].p_delong is not None and found[3].p_delong is not None
    assert found[1].p_delong < 1e-4 and found[3].p_delong > 0.05
    assert [entry["p"] for entry in json.loads(out.read_text())] == [each.p for each in found]


def test_the_order_of_the_images_does_not_matter(tmp_path: Path) -> None:
    first, second = _run(0.8, 0), _run(1.0, 1)
    order = np.random.default_rng(2).permutation(300)
    turned = {key: value if key == "classes" else value[order] for key, value in second.items()}
    a = _write(tmp_path / "a.json", [first])
    straight = compare(a, _write(tmp_path / "b.json", [second]), metric=("auroc/Mass",), resamples=100)
    crooked = compare(a, _write(tmp_path / "b.json", [turned]), metric=("auroc/Mass",), resamples=100)
    assert straight[0].model_dump() == pytest.approx(crooked[0].model_dump())
    assert straight[0].difference == pytest.approx(
        (metrics.auroc(TARGET[:, 1], second["score"][:, 1]) - metrics.auroc(TARGET[:, 1], first["score"][:, 1])).item()
    )


def test_results_equal_to_the_first_have_no_difference(tmp_path: Path) -> None:
    a = _write(tmp_path / "a.json", [_run(0.8, 0)])
    (only,) = compare(a, a, resamples=50)
    assert only.a == only.b == str(a)
    assert (only.metric, only.difference, only.p, only.p_holm) == ("auroc", 0.0, 1.0, 1.0)


def test_unlike_results_are_refused(tmp_path: Path) -> None:
    run = _run(0.8, 0)
    a = _write(tmp_path / "a.json", [run])
    fewer = {key: value if key == "classes" else value[:200] for key, value in run.items()}
    for other, message in (
        (_write(tmp_path / "b.json", [run], data={"fingerprint": "xyz", "split": "test"}), "differ in fingerprint"),
        (_write(tmp_path / "c.json", [run], data={"fingerprint": "abc", "split": "val"}), "differ in split"),
        (_write(tmp_path / "d.json", [fewer]), r"different test images \(300 and 200, 200 in common\)"),
        (_write(tmp_path / "e.json", [run], task="unheard"), "there is no task 'unheard'; there are linear-class"),
        (_write(tmp_path / "f.json", [run], metrics={"auroc": Estimate(value=None)}), "auroc is undefined in"),
        (_write(tmp_path / "g.json", [run], metrics={"dice": Estimate(value=1.0)}), "has no metric 'auroc'"),
    ):
        with pytest.raises(UserError, match=message):
            compare(a, other, resamples=10)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [_write(tmp_path / f"{name}.json", [_run(0.8, i)]) for i, name in enumerate(("a", "b", "c"))]
    assert cli.main(["compare", *map(str, paths), "--resamples", "50", "--metric", "auroc/Mass"]) == 0
    shown = capsys.readouterr().out
    assert "minus a" in shown and shown.count("auroc/Mass") == 2
    assert cli.main(["compare", str(paths[0]), "nothing.json"]) == 2
    assert "imitate compare: no results at nothing.json" in capsys.readouterr().err


def _with_classes(noise: float, seed: int, names: list[str]) -> Predictions:
    run = _run(noise, seed)
    columns = [CLASSES.index(name) for name in names]
    return {**run, "classes": np.array(names), "target": TARGET[:, columns], "score": run["score"][:, columns]}


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    """Results of other prompts have other classes, in another order."""
    a = _write(tmp_path / "a.json", [_with_classes(0.8, 0, ["Edema", "Mass"])])
    turned = _write(tmp_path / "b.json", [_with_classes(0.8, 0, ["Mass", "Edema"])])
    (only,) = compare(a, turned, metric=("auroc/Mass",), resamples=50)
    assert (only.difference, only.p, only.p_delong) == (0.0, 1.0, 1.0)
    settings = {"threshold": "even", "scoring": "margin"}
    called = [
        _write(tmp_path / f"{i}.json", [{**each, "called": each["score"] > 0.5}], settings=settings)
        for i, each in enumerate([_with_classes(0.8, 0, CLASSES), _with_classes(0.8, 0, CLASSES[::-1])])
    ]
    for name in ("f1/Mass", "threshold-mcc"):
        assert compare(*called, metric=(name,), resamples=50)[0].difference == 0


def test_macro_averages_are_compared_over_the_classes_of_both(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a = _write(tmp_path / "a.json", [_with_classes(0.8, 0, ["Edema", "Mass"])])
    fewer = _write(tmp_path / "b.json", [_with_classes(1.5, 1, ["Mass"])])
    (macro,) = compare(a, fewer, resamples=50)
    (mass,) = compare(a, fewer, metric=("auroc/Mass",), resamples=50)
    assert macro.difference == mass.difference < 0 and macro.p == mass.p
    assert "compared over the classes of both: Mass" in caplog.text
    other = _write(tmp_path / "c.json", [{**_with_classes(1, 1, ["Mass"]), "classes": np.array(["Hernia"])}])
    with pytest.raises(UserError, match=r"have no class in common \(Mass; Hernia\)"):
        compare(fewer, other, resamples=10)
    claimed = _write(tmp_path / "e.json", [_with_classes(1, 1, ["Mass"])], metrics={"auroc/Edema": Estimate(value=1.0)})
    with pytest.raises(UserError, match="auroc/Edema is undefined over the classes of both"):
        compare(a, claimed, metric=("auroc/Edema",), resamples=10)


def test_other_measurements_are_refused_and_other_settings_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = _run(0.8, 0)
    a = _write(tmp_path / "a.json", [run])
    for name, changes, message in (
        ("b", {"mode": "paper"}, r"differ in mode \(clean, paper\)"),
        ("c", {"settings": {"macro_least": 10}}, r"differ in macro_least \(1, 10\)"),
        ("d", {"settings": {"projections": ["PA"]}}, "differ in projections"),
        ("f", {"settings": {"unit": "study"}}, r"differ in unit \(image, study\)"),
    ):
        with pytest.raises(UserError, match=message):
            compare(a, _write(tmp_path / f"{name}.json", [run], **changes), resamples=10)
    val = _write(tmp_path / "h.json", [run], settings={"threshold": "val"})
    even = _write(tmp_path / "i.json", [run], settings={"threshold": "even"})
    with pytest.raises(UserError, match=r"differ in threshold \(val, even\)"):  # both have a metric called f1
        compare(val, even, resamples=10)
    compare(a, _write(tmp_path / "e.json", [run], fraction=0.01, settings={"branch": "findings"}), resamples=10)
    assert "differ in fraction (1.0, 0.01), branch (both, findings)" in caplog.text
    earlier = _write(tmp_path / "g.json", [run], settings={"search": "exact"})  # of a version that had this setting
    assert compare(a, earlier, resamples=10)[0].difference == 0


def test_where_heads_were_fitted_and_changed_prompts_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = _run(0.8, 0)
    here, there = (
        _write(tmp_path / f"{name}.json", [run], train={"name": name, "fingerprint": "abc"})
        for name in ("here", "there")
    )
    compare(here, there, resamples=10)
    assert "differ in fitted on (here abc, there abc)" in caplog.text
    caplog.clear()
    same, edited = (
        _write(tmp_path / f"{digest}.json", [run], settings={"prompts": "prompts.yaml"}, digests={"settings": digest})
        for digest in ("before", "after")
    )
    compare(same, same, resamples=10)
    assert not caplog.messages
    compare(same, edited, resamples=10)
    assert "differ in the contents of the files that their settings name, such as prompts" in caplog.text


def test_other_labels_of_the_same_images_are_refused(tmp_path: Path) -> None:
    run = _run(0.8, 0)
    target = TARGET.copy()
    target[0, 1] = 1 - target[0, 1]
    a, b = _write(tmp_path / "a.json", [run]), _write(tmp_path / "b.json", [{**run, "target": target}])
    with pytest.raises(UserError, match=r"a\.json and .*b\.json have other labels or marks of the same images"):
        compare(a, b, resamples=10)
    one = _write(tmp_path / "c.json", [_with_classes(0.8, 0, ["Edema"])])
    assert compare(b, one, resamples=10)[0].difference == 0, "of the class that both have, all labels are the same"


def test_the_settings_of_every_task_that_define_it_are_compared(tmp_path: Path) -> None:
    """``labels`` is written only where there are any, and the detections of one class are not those of all."""
    files = [
        results_files.detection(tmp_path / f"{i}.json", model=f"{i}", settings=settings)
        for i, settings in enumerate(({}, {"labels": ["Mass"]}, {"confidence": 0.05}, {"confidence": 0.3}))
    ]
    for i, message in ((1, r"differ in labels \(\(\), \('Mass',\)\)"), (3, r"differ in confidence \(None, 0.3\)")):
        with pytest.raises(UserError, match=message):
            compare(files[0], files[i], resamples=10)
    calibrated = [
        results_files.calibration(tmp_path / f"c{i}.json", model=f"{i}", settings={"prevalence": [each]})
        for i, each in enumerate(("0.01", "0.2"))
    ]
    with pytest.raises(UserError, match=r"differ in prevalence \(\('0.01',\), \('0.2',\)\)"):
        compare(*calibrated, resamples=10)


def test_one_seed_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (_write(tmp_path / f"{n}.json", [_run(0.8, i) for i in range(n)]) for n in (1, 2))
    compare(one, two, resamples=20)
    assert "One seed says nothing of how seeds vary" in capsys.readouterr().out
    compare(two, two, resamples=20)
    assert "One seed" not in capsys.readouterr().out
