"""Evaluations that are stopped, repeated, or tested elsewhere; what results say of how they were made."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import edit_rows
from noisy_task import Noisy, install, predicted, write_data

import imitate.tasks.base
from imitate import cli
from imitate.commands.evaluate import evaluate
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.tasks.base import Fit
from imitate.tasks.results import read_predictions, read_results

TASK = "linear-classification"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "prepared")


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return install(monkeypatch)


def test_results_of_the_same_digest_are_kept_and_others_measured_again(
    data: Path, tmp_path: Path, fakes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    out, values = tmp_path / "r.json", {"model": ("0.5",), "data": data, "resamples": 10}

    def again(message: str, **changes: Any) -> None:
        predicted.clear()
        caplog.clear()
        evaluate(TASK, out=out, **{**values, **changes})
        assert message in caplog.text and bool(predicted) == ("again" in message)

    first = evaluate(TASK, out=out, **values)
    written = out.stat().st_mtime_ns
    again("r.json is kept: its method, settings, data and weights are the same")
    assert out.stat().st_mtime_ns == written and read_results(out) == first
    again("is kept", name="ours")
    assert read_results(out) == first.model_copy(update={"model": "ours"})
    again("again, since this has changed: resamples\n", resamples=20)
    again("again, since this has changed: settings, resamples\n", settings=("steps=1",))
    again("again, since this has changed: settings\n", fraction=0.5)
    again("again, since this has changed: settings\n")
    fakes["weights"] = " after another epoch"
    again("again, since this has changed: weights\n")
    again("again, since this has changed: data\n", data=write_data(tmp_path / "other" / "prepared", draw=1))
    again("again, since this has changed: data\n")
    monkeypatch.setattr(imitate.tasks.base, "METHOD_VERSION", 99)
    again("again, since this has changed: method\n")
    out.with_suffix(".npz").unlink()
    again("again, since this has changed: predictions\n")
    out.write_text("{}")
    again("measured again: this version cannot read it")
    monkeypatch.setattr(Noisy, "version", 2)
    assert evaluate(TASK, out=out, **values).method == "99.2"


def test_an_evaluation_that_is_killed_continues_with_the_fit_that_is_missing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"model": ("0.5",), "data": data, "seeds": 3, "resamples": 50}
    whole = evaluate(TASK, out=tmp_path / "whole.json", **values)
    predicted.clear()
    predict, out = Noisy.predict, tmp_path / "r.json"

    def killed(task: Noisy, *arguments: Any) -> Any:
        if arguments[2].seed == 2:
            raise KeyboardInterrupt
        return predict(task, *arguments)

    monkeypatch.setattr(Noisy, "predict", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(TASK, out=out, **values)
    assert not out.exists() and len(list((tmp_path / "r.fits").iterdir())) == 2
    monkeypatch.setattr(Noisy, "predict", predict)
    found = evaluate(TASK, out=out, **values)
    assert predicted == [0, 1, 2] and not (tmp_path / "r.fits").exists()
    assert found.metrics == whole.metrics and found.per_seed == whole.per_seed
    for one, two in zip(*(read_predictions(each, tmp_path / each.predictions) for each in (found, whole)), strict=True):
        np.testing.assert_array_equal(one["score"], two["score"])


def test_fits_of_other_weights_are_not_taken_for_these(data: Path, tmp_path: Path, fakes: dict[str, Any]) -> None:
    values: dict[str, Any] = {"model": ("0.5", "0.5x"), "data": data, "out": tmp_path / "r.json", "resamples": 10}
    with pytest.raises(ValueError, match="0.5x"):  # the name of the second is no number
        evaluate(TASK, **values)
    fakes["weights"] = " after another epoch"
    predicted.clear()
    evaluate(TASK, **{**values, "model": ("0.5",)})
    assert predicted == [0]


def test_heads_are_stored_apart_from_runs(data: Path, tmp_path: Path) -> None:
    """Three pre-trainings are not three heads of one."""
    runs = evaluate(TASK, model=("0.4", "0.5", "0.6"), data=data, out=tmp_path / "a.json", resamples=10)
    heads = evaluate(TASK, model=("0.5",), seeds=3, data=data, out=tmp_path / "b.json", resamples=10)
    both = evaluate(TASK, model=("0.4", "0.5"), seeds=2, data=data, out=tmp_path / "c.json", resamples=10)
    assert runs.pretrained == [0, 1, 2] and {fit.head for fit in runs.fits} == {0}
    assert heads.fits == [Fit(run=0, head=0), Fit(run=0, head=1), Fit(run=0, head=2)]
    assert [(fit.run, fit.head) for fit in both.fits] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert both.weights == ["weights of 0.4"] * 2 + ["weights of 0.5"] * 2
    assert heads.model_copy(update={"fits": []}).pretrained == [0, 1, 2]  # of a file that does not record them


def test_results_say_what_was_really_used(data: Path, tmp_path: Path) -> None:
    found = evaluate(TASK, model=("0.5",), data=data, fraction=0.5, out=tmp_path / "r.json", resamples=17)
    assert found.train == {"name": "prepared", "fingerprint": "abc", "images": 10, "patients": 5}
    assert (found.resamples, found.device, found.precision, found.method) == (17, "cpu", "float32", Noisy.method())
    assert found.used["image_size"] == 8 and found.commit


def test_fitted_on_one_hospital_and_tested_on_another(data: Path, tmp_path: Path) -> None:
    """Classes are matched by name, whatever their order."""
    other = write_data(tmp_path / "other", classes=("Nodule", "Mass", "Effusion"), draw=3)
    found = evaluate(TASK, model=("0.5",), data=data, test_data=other, out=tmp_path / "r.json", resamples=10,
                     settings=('classes=["Mass"]',))  # fmt: skip
    assert (found.data["name"], found.data["fingerprint"], found.data["images"]) == ("other", "abc3", 100)
    assert (found.train["name"], found.train["images"]) == ("prepared", 20)
    (run,) = read_predictions(found, tmp_path / "r.json")
    tested = Corpus.open(other)
    np.testing.assert_array_equal(run["target"], tested.labels[tested.rows("test")][:, 1:2])
    assert set(run["patient"]) == {f"other/p{i}" for i in range(10, 60)}


def test_images_that_neither_train_nor_test_take_no_part(data: Path, tmp_path: Path) -> None:
    edit_rows(data, split=["train"] * 20 + ["val"] * 10 + ["test"] * 90)
    other = write_data(tmp_path / "other", draw=3)
    task, both = imitate.tasks.transfer.fitted_elsewhere(Noisy(split="train"), Corpus.open(data), Corpus.open(other))
    assert both.table["split"].value_counts().to_dict() == {"unused": 190, "train": 20, "val": 10, "test": 20}
    assert both.rows("test").tolist() == list(range(120, 140)) and task.model_dump()["split"] == "test"


@pytest.mark.parametrize(
    ("task", "other", "message"),
    [
        (TASK, {"classes": ("Nodule", "Effusion")}, r"share no class \(Edema, Mass; Nodule, Effusion\)"),
        (TASK, None, "are the same folder: omit the test data"),
        ("zero-shot", {}, "zero-shot trains nothing: give .*other as the data"),
    ],
)
def test_mistakes_of_test_data(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str, other: Any, message: str
) -> None:
    path = data if other is None else write_data(tmp_path / "other", draw=3, **other)
    line = ["evaluate", task, "--model", "0.5", "--data", str(data), "--test-data", str(path)]
    assert cli.main([*line, "--out", str(tmp_path / "r.json")]) == 2
    with pytest.raises(UserError, match=message):
        raise UserError(capsys.readouterr().err)
