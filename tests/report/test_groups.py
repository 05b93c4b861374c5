import json
from pathlib import Path

import pytest
import results_files

from imitate.errors import UserError
from imitate.report.groups import read_groups
from imitate.tasks import find_task


def test_fractions_of_a_method_meet_in_one_line(tmp_path: Path) -> None:
    paths = [
        results_files.classification(tmp_path / f"{model}-{each}.json", model=model, fraction=each, n=60)
        for model in ("IMITATE", "random")
        for each in (1.0, 0.01)
    ]
    (group,) = read_groups(paths)
    assert list(group.methods) == ["IMITATE", "random"]
    assert group.fractions == [0.01, 1.0]
    assert group.metrics[0] == "auroc"
    assert group.chance("auroc") == 0.5
    assert group.chance("auroc/Edema") == 0.5
    assert list(group.at(0.01)) == ["IMITATE", "random"]


@pytest.mark.parametrize("field", ["fingerprint", "split", "images", "patients"])
def test_other_test_images_are_another_table(tmp_path: Path, field: str) -> None:
    first = results_files.detection(tmp_path / "a.json")
    data = {**results_files.DATA, "images": 40, "patients": 20}
    other = results_files.detection(
        tmp_path / "b.json", data={**data, field: 7 if data[field] in {40, 20} else "other"}
    )
    assert len(read_groups([first, other])) == 2


def test_modes_never_share_a_table(tmp_path: Path) -> None:
    paths = [results_files.detection(tmp_path / f"{mode}.json", mode=mode) for mode in ("clean", "paper")]
    assert [group.mode for group in read_groups(paths)] == ["clean", "paper"]


def test_tables_stand_in_the_order_of_the_tasks(tmp_path: Path) -> None:
    paths = [results_files.retrieval(tmp_path / "r.json"), results_files.segmentation(tmp_path / "s.json")]
    assert [group.task for group in read_groups(paths)] == ["segmentation", "retrieval"]


def test_settings_distinguish_models_of_one_name_only_where_they_must(tmp_path: Path) -> None:
    settings = [{"path": "cached", "split": "test"}, {"path": "augmented", "split": "test"}]
    paths = [
        results_files.classification(tmp_path / f"{i}.json", settings=each, n=60) for i, each in enumerate(settings)
    ]
    other = results_files.classification(tmp_path / "o.json", model="random", settings=settings[1], n=60)
    (group,) = read_groups([*paths, other])
    assert list(group.methods) == ["IMITATE (path cached)", "IMITATE (path augmented)", "random"]


def test_settings_that_define_the_measurement_make_tables_of_their_own(tmp_path: Path) -> None:
    """Also where one file states the default that the other leaves open."""
    split = {"split": "test"}
    settings = [split, {**split, "macro_least": 10}, {**split, "macro_least": 1}, {**split, "folds": 5}]
    paths = [
        results_files.classification(tmp_path / f"{i}.json", settings=each, model=f"model {i}", n=60)
        for i, each in enumerate(settings)
    ]
    default = find_task("linear-classification").model_fields["macro_least"].default
    groups = read_groups(paths)
    found = {name: group.title for group in groups for name in group.methods}
    assert len(groups) == 3 and found["model 3"] == f"Linear classification on folder, folds 5, macro_least {default}"
    assert len({found["model 0"], found[f"model {1 if default == 10 else 2}"]}) == 1
    assert found["model 1"] == "Linear classification on folder, folds 0, macro_least 10"
    assert read_groups(paths[:1])[0].title == "Linear classification on folder"


def test_the_headline_of_a_recipe_comes_first(tmp_path: Path) -> None:
    path = results_files.detection(tmp_path / "a.json", headline="ap50")
    assert read_groups([path])[0].metrics[:2] == ["ap50", "map"]


def test_models_fitted_elsewhere_are_distinguished(tmp_path: Path) -> None:
    paths = [
        results_files.detection(tmp_path / f"{name}.json", train={"name": name, "images": 9, "patients": 4})
        for name in ("folder", "elsewhere")
    ]
    (group,) = read_groups(paths)
    assert list(group.methods) == ["IMITATE (fitted on folder)", "IMITATE (fitted on elsewhere)"]


def test_settings_may_change_with_the_fraction(tmp_path: Path) -> None:
    paths = [
        results_files.detection(tmp_path / f"{each}.json", fraction=each, settings={"batch_size": size})
        for each, size in ((0.01, 8), (1.0, 16))
    ]
    (group,) = read_groups(paths)
    assert list(group.methods) == ["IMITATE"]


def test_two_results_for_one_cell_are_an_error(tmp_path: Path) -> None:
    paths = [results_files.detection(tmp_path / f"{name}.json") for name in "ab"]
    with pytest.raises(UserError, match=r"a\.json and .*b\.json are both detection of IMITATE on folder at 100%"):
        read_groups(paths)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format version 2, but imitate reads 1"),
        ({"task": "guessing"}, r"a\.json: there is no task 'guessing'; there are linear-classification"),
        ({"data": {"name": "folder"}}, "does not state the fingerprint"),
        ({"metrics": {}}, "holds no metrics"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
)
def test_files_of_another_kind_are_refused_in_one_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = results_files.detection(tmp_path / "a.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=message) as caught:
        read_groups([path])
    assert "\n" not in str(caught.value)


def test_lost_predictions_are_no_error_but_damaged_ones_are(tmp_path: Path) -> None:
    path = results_files.detection(tmp_path / "a.json")
    entry = read_groups([path])[0].entries[0]
    assert len(entry.predictions()) == 1
    path.with_suffix(".npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(UserError, match="cannot be read"):
        entry.predictions()
    path.with_suffix(".npz").unlink()
    assert entry.predictions() == []


def test_predictions_are_read_from_beside_the_results_only(tmp_path: Path) -> None:
    results_files.detection(tmp_path / "a.json")
    (tmp_path / "folder").mkdir()
    path = results_files.detection(tmp_path / "folder" / "b.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "predictions": "../a.npz"}))
    with pytest.raises(UserError, match="cannot be read"):
        read_groups([path])[0].entries[0].predictions()
