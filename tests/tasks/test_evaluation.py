"""When published values may stand beside a result, and which metric is the main one."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from folders import write_folder
from torch import nn

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.names import Mode
from imitate.tasks.base import Budget
from imitate.tasks.evaluation import Evaluation, planned
from imitate.tasks.fitting import fit
from imitate.tasks.options import FITTING, DetectionOptions, Fitting, LinearOptions, SegmentationOptions

RECIPE = """
task: finetune-classification
mode: paper
data: {source: table, size: 64, resize: stretch, input: 56}
headline: accuracy
settings: {epochs: 50, split: test}
fractions: {0.1: {}, 1.0: {}}
published: {source: Someone, shares: [0.1, 1.0], rows: {Other: {accuracy: [70.0, 80.0]}}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "row.yaml"
    path.write_text(RECIPE)
    return path


def _plan(recipe: Path, **changes: Any) -> Evaluation:
    given: dict[str, Any] = {"mode": None, "fraction": None, "settings": {}, **changes}
    return planned(None, recipe, **given)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"settings": {"split": "val"}}, "split val, not test"),
        ({"settings": {"epochs": 5, "learning_rate": 1e-5}}, "learning_rate 1e-05, not 0.0003; epochs 5, not 50"),
        ({"mode": "clean"}, "mode clean, not paper"),
        ({"fraction": 0.3}, "a fraction of 0.3"),
    ],
)
def test_published_values_disappear_where_a_flag_changes_the_recipe(
    recipe: Path, changes: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert _plan(recipe, **changes).published is None
    assert f"{why}: the published values are omitted" in caplog.text


def test_published_values_stay_where_nothing_changes(recipe: Path, caplog: pytest.LogCaptureFixture) -> None:
    for changes in ({}, {"fraction": 0.1}, {"mode": "paper"}, {"settings": {"epochs": 50}}):
        assert _plan(recipe, **changes).published is not None
    assert not caplog.text


def test_published_values_disappear_where_folder_or_input_differ(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = _plan(recipe)
    folder = Corpus.open(write_folder(tmp_path / "data"))
    meta = {**folder.meta, "source": "table", "size": 64, "resize": "stretch"}
    for change, why in (
        ({}, None),
        ({"size": 32}, "has size 32, not 64"),
        ({"resize": "letterbox"}, "resize letterbox"),
    ):
        caplog.clear()
        vars(folder)["meta"] = {**meta, **change}
        assert (plan.on(folder).published is None) == bool(why)
        assert (why or "") in caplog.text
    assert plan.seen_at(56).published is not None
    assert plan.seen_at(28).published is None and "the network sees images of 28 px, not 56" in caplog.text


def test_a_mode_that_changes_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="mode paper has no effect on zero-shot: omit it"):
        planned("zero-shot", None, mode="paper", fraction=None, settings={})


def test_what_takes_effect_has_no_idle_settings() -> None:
    cached, augmented = (LinearOptions().used(mode, image_size=56) for mode in get_args(Mode))
    assert cached["path"] == "cached" and "decays" in cached and not FITTING & cached.keys()
    assert augmented["path"] == "augmented" and "decays" not in augmented and augmented["learning_rate"] == 5e-4
    assert [DetectionOptions().used(mode, image_size=56)["confidence"] for mode in get_args(Mode)] == [0.05, 0.5]
    assert SegmentationOptions().used("clean", image_size=56)["image_size"] == 56
    assert SegmentationOptions(image_size=64).used("clean", image_size=56)["image_size"] == 64


@pytest.mark.parametrize(("better", "epochs"), [(True, 6), (False, 4)])
def test_a_budget_in_steps_makes_epochs_and_patience_longer(better: bool, epochs: int) -> None:
    """Two epochs of five steps are ten; 25 steps take six epochs, and patience grows from one to three."""
    model, values = nn.Linear(1, 1), [-float(better) * epoch for epoch in range(9)]
    found = fit(
        model,
        settings=Fitting(batch_size=16, epochs=2, patience=1, steps=25),
        budget=Budget(),
        rows=np.arange(80),
        step=lambda rows, generator: model(torch.ones(1, 1)).sum(),
        validate=lambda: values.pop(0),
    )
    assert len(found.history) == epochs


def test_a_task_that_there_is_not_is_reported_as_what_was_typed() -> None:
    with pytest.raises(UserError, match="^imitate evaluate: task"):
        planned("retreival", None, mode=None, fraction=None, settings={})
