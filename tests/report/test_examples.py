from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import results_files
from folders import edit_rows, write_folder

from imitate.data.corpus import Corpus
from imitate.report.examples import Examples, _choose, _dice, _found, _targeted, examples
from imitate.report.groups import read_groups

WRITERS = {
    "segmentation": results_files.segmentation,
    "detection": results_files.detection,
    "grounding": results_files.grounding,
    "retrieval": results_files.retrieval,
}
BOX = {"label": "Edema", "x": 4, "y": 6, "width": 9, "height": 5, "reader": ""}


@pytest.fixture
def folder(tmp_path: Path) -> Corpus:
    root = write_folder(tmp_path / "folder", fingerprint=results_files.DATA["fingerprint"])
    masks = np.tile(np.arange(36) > 18, (40, 36, 1)).astype(np.uint8)
    return replace(Corpus.open(root), masks=masks)


def shown(tmp_path: Path, task: str, folders: dict[str, Corpus], *, show_reports: bool = False) -> Examples:
    (group,) = read_groups([WRITERS[task](tmp_path / f"{task}.json")])
    runs = {name: entry.predictions() for name, entry in group.at(1.0).items()}
    return examples(group, runs, folders, show_reports=show_reports)


def whose(found: Examples) -> Counter[str]:
    return Counter(name for each in found.examples for name, _ in each.nearest)


@pytest.mark.parametrize("task", WRITERS)
def test_best_median_and_worst_are_shown(tmp_path: Path, folder: Corpus, task: str) -> None:
    found = [each.figure for each in shown(tmp_path, task, {folder.meta["fingerprint"]: folder}).examples]
    assert [figure.caption.split(":")[0] for figure in found] == [
        f"IMITATE, {each}" for each in ("best", "median", "worst")
    ]
    assert all(uri.startswith("data:image/png;base64,") for figure in found for uri in figure.images.values())


@pytest.mark.parametrize("task", WRITERS)
def test_without_the_very_folder_a_line_says_so(tmp_path: Path, folder: Corpus, task: str) -> None:
    found = shown(tmp_path, task, {"another": folder})
    (note,) = found.notes
    assert "give --data the prepared folder of fingerprint 01234567" in note and not found.examples


@pytest.mark.parametrize("task", WRITERS)
def test_neither_ids_nor_reports_unless_asked_for(tmp_path: Path, folder: Corpus, task: str) -> None:
    text = repr(shown(tmp_path, task, {folder.meta["fingerprint"]: folder}))
    private = [*folder.table["image_id"], *folder.table["patient"], *folder.text("findings").dropna()]
    assert not [each for each in private if each in text]


def test_the_phrase_of_a_map_is_shown_with_the_reports_alone(tmp_path: Path, folder: Corpus) -> None:
    edit_rows(folder.root, boxes=[[{**BOX, "phrase": "hazy left base"}]] * 40)
    folders = {folder.meta["fingerprint"]: Corpus.open(folder.root)}
    without, with_reports = (
        shown(tmp_path, "grounding", folders, show_reports=each).examples for each in (False, True)
    )
    assert all(", AUROC of pixels " in each.figure.caption and "Edema" in each.figure.caption for each in without)
    assert "hazy" not in repr(without) and all("“hazy left base”" in each.figure.caption for each in with_reports)


def test_reports_are_shown_where_asked_for(tmp_path: Path, folder: Corpus) -> None:
    folder.table["impression"] = "mild edema"
    found = shown(tmp_path, "retrieval", {folder.meta["fingerprint"]: folder}, show_reports=True).examples
    assert [each.own["impression"] for each in found] == ["mild edema"] * 3
    assert {report["impression"] for each in found for _, report in each.nearest} == {"mild edema"}


def test_identical_reports_are_the_image_s_own(tmp_path: Path, folder: Corpus) -> None:
    folder.table["findings"], folder.table["impression"] = None, "clear"
    assert whose(shown(tmp_path, "retrieval", {folder.meta["fingerprint"]: folder})) == {"its own report": 15}


def test_a_query_with_fewer_candidates_shows_fewer_reports(tmp_path: Path, folder: Corpus) -> None:
    (group,) = read_groups([WRITERS["retrieval"](tmp_path / "a.json")])
    (run,) = group.entries[0].predictions()
    run["top"][:, 2:] = ""
    found = examples(group, {"IMITATE": [run]}, {folder.meta["fingerprint"]: folder}, show_reports=False)
    assert [len(each.nearest) for each in found.examples] == [2, 2, 2]


def test_other_reports_are_not_its_own(tmp_path: Path, folder: Corpus) -> None:
    folder.table["impression"] = [f"report {i}" for i in range(40)]
    assert whose(shown(tmp_path, "retrieval", {folder.meta["fingerprint"]: folder})) == {
        "its own report": 3,
        "another report": 12,
    }


@pytest.mark.parametrize(
    ("quality", "chosen"),
    [
        ([0.1, 0.9, np.nan, 0.5], {"best": 1, "median": 3, "worst": 0}),
        ([0.1, 0.9], {"best": 1, "worst": 0}),
        ([0.3], {"best": 0}),
        ([np.nan], {}),
        ([], {}),
    ],
)
def test_chosen(quality: list[float], chosen: dict[str, int]) -> None:
    assert _choose(np.array(quality, dtype=float)) == chosen


def test_dice_of_images_with_a_target() -> None:
    run = {"intersection": np.array([3, 0, 0]), "predicted": np.array([4, 0, 5]), "actual": np.array([6, 2, 0])}
    np.testing.assert_array_equal(_dice(run), [0.6, 0.0, np.nan])


def test_a_false_alarm_costs_its_score() -> None:
    run = {
        "objects": np.array([2, 1, 0]),
        "found": np.array([[0.8, 0.4], [0.9, 0], [0, 0]]),
        "scores": np.array([[0.8, 0.5], [0.9, 0.2], [0.7, 0.1]]),
        "false_alarm": np.array([[False, True], [False, False], [True, True]]),
    }
    np.testing.assert_allclose(_found(run), [0.1, 0.9, np.nan])


def test_masks_are_of_the_classes_that_were_measured(tmp_path: Path, folder: Corpus) -> None:
    box = {**BOX, "phrase": ""}
    edit_rows(folder.root, boxes=[[box, {**box, "label": "Mass", "x": 20}]] * 40)
    data = Corpus.open(folder.root)
    (group,) = read_groups([results_files.segmentation(tmp_path / "s.json")])
    assert _targeted(data, group) is data
    methods = {
        name: {
            fraction: entry._replace(results=entry.results.model_copy(update={"used": {"labels": ["Edema"]}}))
            for fraction, entry in each.items()
        }
        for name, each in group.methods.items()
    }
    mask = np.zeros((data.size, data.size), bool)
    mask[6:11, 4:13] = True
    np.testing.assert_array_equal(_targeted(data, group._replace(methods=methods)).masks[0], mask)
