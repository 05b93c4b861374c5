"""Settings that are tried: which counts, what results say of it, and what a killed evaluation keeps."""

import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from noisy_task import Noisy, install, write_data

from imitate import cli
from imitate.commands.evaluate import evaluate
from imitate.errors import UserError
from imitate.names import Mode
from imitate.tasks.base import Budget, Predictions, Tried
from imitate.tasks.classification import LinearClassification
from imitate.tasks.evaluation import planned
from imitate.tasks.finetuning import FinetuneClassification
from imitate.tasks.fitting import FitError
from imitate.tasks.results import read_predictions, read_results
from imitate.tasks.segmentation import Segmentation
from imitate.tasks.sweeping import best_first, candidates, taken, warn_of_ends
from imitate.tasks.zero_shot import ZeroShot

TASK = "linear-classification"
fitted: list[tuple[int, float, int]] = []


class Fitted(Noisy):
    """Best at .01, with a larger batch; a rate above 1 diverges."""

    measuring: ClassVar[frozenset[str]] = frozenset({"split"})
    learning_rate: float = 0.1
    batch_size: int = 4
    path: str = "cached"

    def predict(self, encoder: Any, data: Any, budget: Budget) -> Predictions:
        fitted.append((budget.seed, self.learning_rate, self.batch_size))
        if self.learning_rate > 1:  # or where no batch is full
            raise FitError("no validation metric was finite")
        assert budget.validated is not None
        budget.validated.append(abs(np.log10(self.learning_rate) + 2) + 1 / self.batch_size)
        found = super().predict(encoder, data, budget)
        return {**found, "score": found["score"] * self.learning_rate}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(monkeypatch)
    monkeypatch.setattr(sys.modules["imitate.tasks.noisy"], "Noisy", Fitted)
    fitted.clear()
    return write_data(tmp_path / "prepared")


def test_the_best_on_validation_counts_and_the_results_say_what_was_tried(data: Path, tmp_path: Path) -> None:
    words = [TASK, "--model", "0.5", "--data", str(data), "--out", str(tmp_path / "r.json"), "--resamples", "10"]
    words += ["--device", "cpu", "--seeds", "2", "--sweep", "learning_rate=[1e-3, 0.01, 5, 0.1]", "batch_size=[4, 8]"]
    assert cli.main(["evaluate", *words]) == 0
    found = read_results(tmp_path / "r.json")
    assert [len(tried) for tried in found.sweeps] == [8, 8] and len(fitted) == 16
    assert found.sweeps[0][0] == Tried(settings={"learning_rate": 0.01, "batch_size": 8}, validation=1 / 8)
    assert [each.validation for each in found.sweeps[1][-2:]] == [None, None]
    assert found.used["learning_rate"] == 0.01 and found.used["batch_size"] == 8
    plain = {"learning_rate": 0.01, "batch_size": 8, "model": "0.5", "data": data, "device": "cpu", "seeds": 2}
    alone = evaluate(TASK, out=tmp_path / "alone.json", resamples=10, **plain)
    assert alone.metrics == found.metrics and not alone.sweeps and not (tmp_path / "r.fits").exists()
    for one, two in zip(*(read_predictions(each, tmp_path / each.predictions) for each in (found, alone)), strict=True):
        np.testing.assert_array_equal(one["score"], two["score"])
    fitted.clear()
    assert cli.main(["evaluate", *words]) == 0 and not fitted  # kept
    assert cli.main(["evaluate", *words[:-1], "batch_size=[4]"]) == 0 and len(fitted) == 8


def test_a_sweep_that_is_killed_continues_with_the_fits_that_are_missing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"model": "0.5", "data": data, "out": tmp_path / "r.json", "resamples": 10}
    values["sweep"] = ("learning_rate=[5, 0.01, 0.1]",)
    predict = Fitted.predict

    def killed(task: Fitted, *arguments: Any) -> Predictions:
        if task.learning_rate == 0.1:
            raise KeyboardInterrupt
        return predict(task, *arguments)

    monkeypatch.setattr(Fitted, "predict", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(TASK, **values)
    monkeypatch.setattr(Fitted, "predict", predict)
    fitted.clear()
    found = evaluate(TASK, **values)
    assert fitted == [(0, 0.1, 4)] and found.used["learning_rate"] == 0.01


def test_a_fit_that_failed_in_a_sweep_fails_alone_too(data: Path, tmp_path: Path) -> None:
    """Nothing is kept of it that stands for predictions."""
    values: dict[str, Any] = {"model": "0.5", "data": data, "out": tmp_path / "r.json", "resamples": 10}
    with pytest.raises(UserError, match="no fit of the sweep had a finite validation value"):
        evaluate(TASK, **values, sweep=("learning_rate=[5]",))
    with pytest.raises(UserError, match="no validation metric was finite"):
        evaluate(TASK, **values, settings=("learning_rate=5",))


def test_flags_and_sweeps_take_each_others_place(tmp_path: Path) -> None:
    recipe = tmp_path / "row.yaml"
    recipe.write_text(
        "{task: finetune-classification, settings: {batch_size: 8}, sweep: {learning_rate: [1.0e-3, 1.0e-4]}}"
    )

    def plan(**given: Any) -> Any:
        return planned(None, recipe, **{"mode": None, "fraction": None, "settings": {}, **given})

    assert plan().sweep == {"learning_rate": (1e-3, 1e-4)}
    fixed = plan(settings={"learning_rate": 1e-5})
    assert fixed.sweep == {} and fixed.tasks()[1.0].learning_rate == 1e-5
    swept = plan(sweep={"batch_size": [4, 16]})
    assert swept.sweep == {"learning_rate": (1e-3, 1e-4), "batch_size": (4, 16)} and "batch_size" not in swept.settings
    with pytest.raises(UserError, match="batch_size has a value and is swept"):
        plan(settings={"batch_size": 4}, sweep={"batch_size": [4, 16]})
    recipe.write_text("{task: finetune-classification, settings: {epochs: 8}, sweep: {epochs: [1, 2]}}")
    with pytest.raises(UserError, match="sweep: epochs has a value as well"):
        plan()


@pytest.mark.parametrize(
    ("task", "sweep", "mode", "message"),
    [
        (LinearClassification(), {"learning_rate": [1]}, "clean", "learning_rate cannot be tried in .* in mode clean"),
        (LinearClassification(), {"split": ["val"]}, "paper", "split cannot be tried"),
        (FinetuneClassification(), {"monitor": ["loss", "auroc"]}, "clean", "monitor cannot be tried"),
        (Segmentation(), {"loss": ["focal-dice", "cross-entropy"]}, "clean", "loss cannot be tried"),
        (ZeroShot(), {"ensemble": ["max"]}, "clean", "you can try nothing"),
        (LinearClassification(), {"learning_rate": [1, -1]}, "paper", "learning_rate = -1: Input should be greater"),
    ],
)
def test_what_cannot_be_tried_is_refused(task: Any, sweep: dict[str, Any], mode: Mode, message: str) -> None:
    with pytest.raises(UserError, match=message):
        candidates(task, sweep, mode)


def test_values_are_those_that_the_task_takes() -> None:
    assert candidates(LinearClassification(), {}, "paper") == []
    found = candidates(LinearClassification(), {"learning_rate": ["1e-3", 1], "epochs": [2]}, "paper")
    assert found == [{"learning_rate": 1e-3, "epochs": 2}, {"learning_rate": 1.0, "epochs": 2}]
    with pytest.raises(UserError, match=r"sweep=3 is not a list|learning_rate=3 is not a list of values"):
        evaluate(TASK, model="0.5", data="x", out="x.json", sweep="learning_rate=3")


def test_only_of_numbers_the_ends_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    sweep = {
        "clip_gradient": [None, 1.0, 2.0],
        "schedule": ["constant", "cosine", "constant"],
        "decays": [[1], [2], [3]],
    }
    warn_of_ends({**sweep, "epochs": [1, "2", 3]}, {key: values[0] for key, values in sweep.items()} | {"epochs": 3})
    assert [record.message for record in caplog.records] == [
        "the best epochs, 3, is the smallest or largest of the sweep"
    ]


def test_equal_values_and_fits_that_chose_differently() -> None:
    one, two, none = (Tried(settings={"epochs": n}, validation=v) for n, v in ((1, 0.5), (2, 0.5), (3, None)))
    assert best_first([none, one, two]) == [one, two, none] and best_first([two, one])[0] == two
    with pytest.raises(UserError, match="no fit of the sweep had a finite validation value"):
        best_first([none, none])
    assert taken([[one, two], [two, one]]) == {"epochs": [1, 2]} and taken([[one], [one]]) == {"epochs": 1}
    assert taken([[], []]) == taken([]) == {}
