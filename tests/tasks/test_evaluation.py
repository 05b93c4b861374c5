"""When published values may stand beside a result, and which metric is the main one."""

from pathlib import Path
from typing import Any

import pytest
from folders import write_folder

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.tasks.evaluation import Evaluation, planned

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
    assert f"{why}: the published values are left out" in caplog.text


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
    with pytest.raises(UserError, match="mode paper changes nothing of zero-shot: leave it out"):
        planned("zero-shot", None, mode="paper", fraction=None, settings={})
