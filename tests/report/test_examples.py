import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import results_files
from folders import in_memory, write_folder

from imitate.data.prepared import Prepared
from imitate.report.examples import _chosen, _dice, _found, examples
from imitate.report.groups import read_groups

WRITERS = {
    "segmentation": results_files.segmentation,
    "detection": results_files.detection,
    "retrieval": results_files.retrieval,
}


@pytest.fixture
def folder(tmp_path: Path) -> Prepared:
    data = in_memory(Prepared.open(write_folder(tmp_path / "folder", fingerprint=results_files.DATA["fingerprint"])))
    return replace(data, masks=np.tile(np.arange(36) > 18, (40, 36, 1)).astype(np.uint8))


def page(tmp_path: Path, task: str, folders: dict[str, Prepared], *, show_reports: bool = False) -> str:
    (group,) = read_groups([WRITERS[task](tmp_path / f"{task}.json")])
    runs = {name: entry.predictions() for name, entry in group.at(1.0).items()}
    return "".join(examples(group, runs, folders, show_reports=show_reports))


@pytest.mark.parametrize("task", WRITERS)
def test_best_median_and_worst_are_shown(tmp_path: Path, folder: Prepared, task: str) -> None:
    told = page(tmp_path, task, {folder.meta["fingerprint"]: folder})
    assert re.findall(r"<figcaption>IMITATE, (\w+):", told) == ["best", "median", "worst"]
    assert told.count("data:image/png;base64,") == 3


@pytest.mark.parametrize("task", WRITERS)
def test_without_the_very_folder_a_line_says_so(tmp_path: Path, folder: Prepared, task: str) -> None:
    told = page(tmp_path, task, {"another": folder})
    assert "give --data the prepared folder of fingerprint 01234567" in told
    assert "data:image" not in told


@pytest.mark.parametrize("task", WRITERS)
def test_neither_ids_nor_reports_unless_asked_for(tmp_path: Path, folder: Prepared, task: str) -> None:
    told = page(tmp_path, task, {folder.meta["fingerprint"]: folder})
    private = [*folder.table["image_id"], *folder.table["patient"], *folder.table["findings"].dropna()]
    assert not [text for text in private if text in told]


def test_reports_are_shown_escaped_where_asked_for(tmp_path: Path, folder: Prepared) -> None:
    folder.table["impression"] = "<b>mild</b> edema"
    told = page(tmp_path, "retrieval", {folder.meta["fingerprint"]: folder}, show_reports=True)
    assert "&lt;b&gt;mild&lt;/b&gt; edema" in told
    assert "<b>mild" not in told


def test_identical_reports_are_the_image_s_own(tmp_path: Path, folder: Prepared) -> None:
    folder.table["findings"], folder.table["impression"] = None, "clear"
    told = page(tmp_path, "retrieval", {folder.meta["fingerprint"]: folder})
    assert (told.count("its own report"), told.count("another report")) == (15, 0)


def test_other_reports_are_told_from_the_own(tmp_path: Path, folder: Prepared) -> None:
    folder.table["impression"] = [f"report {i}" for i in range(40)]
    told = page(tmp_path, "retrieval", {folder.meta["fingerprint"]: folder})
    assert (told.count("its own report"), told.count("another report")) == (3, 12)


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
    assert _chosen(np.array(quality, dtype=float)) == chosen


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
