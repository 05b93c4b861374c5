"""What is measured: tasks, folders, fractions and settings, and what a folder lacks."""

from pathlib import Path

import pytest
from folders import write_folder

from imitate.bench.columns import columns
from imitate.errors import UserError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels and reports, no masks and no boxes."""
    return write_folder(tmp_path_factory.mktemp("data") / "set")


def test_tasks_folders_and_fractions_are_crossed_and_what_trains_nothing_has_no_fractions(
    data: Path, tmp_path: Path
) -> None:
    other = write_folder(tmp_path / "other", seed=1)
    tasks = ["linear-classification", "retrieval"]
    found = columns(tasks, [data, other], fractions=[1, 0.1], settings=["split=val", "linear-classification.folds=3"])
    assert [column.title for column in found] == [
        "linear-classification on set at 10%",
        "linear-classification on set",
        "linear-classification on other at 10%",
        "linear-classification on other",
        "retrieval on set",
        "retrieval on other",
    ]
    assert [getattr(column.task, "folds", None) for column in found] == [3, 3, 3, 3, None, None]
    assert {getattr(column.task, "split", None) for column in found} == {"val"}
    assert not any(column.lacks for column in found)


def test_what_a_folder_lacks_is_said(data: Path, tmp_path: Path) -> None:
    bare = write_folder(tmp_path / "bare", classes=[])
    recipe = "recipes/downstream/rsna_linear.yaml"
    found = columns(["segmentation", "detection", "zero-shot", recipe], [data], fractions=[1])
    assert [column.lacks.partition(":")[0] for column in found] == [
        f"segmentation needs masks, but {data} has none",
        f"detection needs boxes, but {data} has none",
        "",
        f"{data} holds test, but the recipe is for rsna",
    ]
    assert columns(["zero-shot"], [bare])[0].lacks.startswith(f"zero-shot needs labels, but {bare} has none")


def test_a_recipe_has_its_own_fractions_and_settings(data: Path) -> None:
    found = columns(["recipes/downstream/rsna_linear.yaml"], [data], settings=["rsna_linear.epochs=3"])
    assert [column.fraction for column in found] == [0.01, 0.1, 1.0] and found[0].plan.mode == "paper"
    assert {getattr(column.task, "epochs", None) for column in found} == {3}
    assert found[0].title == "rsna_linear on set at 1%"


@pytest.mark.parametrize(
    ("tasks", "settings", "message"),
    [
        (["fly"], [], "there is no task 'fly'"),
        ([], [], "no tasks: give some"),
        (["retrieval"], ["epochs=3"], "setting epochs: none of retrieval has it"),
        (
            ["retrieval"],
            ["zero-shot.split=val"],
            "setting zero-shot.split: zero-shot is not one of the tasks retrieval",
        ),
        (["retrieval"], ["followups=right"], "followups"),
    ],
)
def test_mistakes_are_reported(data: Path, tasks: list[str], settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        columns(tasks, [data], settings=settings)


def test_folders_of_one_name_have_the_folder_above_before_it(data: Path, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "site" / "set", seed=1)
    names = [column.name for column in columns(["retrieval"], [data, other, data])]
    assert names == [f"{data.parent.name}/set", "site/set"]
