"""The contract of tasks: what their classes say, and those of other packages."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import results_files
from folders import write_folder
from recipes import TINY_MODEL

from imitate import tasks
from imitate.config import Preprocessing
from imitate.data.corpus import Corpus
from imitate.errors import Lacking, UserError
from imitate.inference.encoder import Encoder, ImitateEncoder, Pixels
from imitate.models.imitate import seeded_model
from imitate.report import tables
from imitate.report.figures import styles
from imitate.report.groups import read_groups
from imitate.tasks import NEEDS, TASKS, check_data, check_encoder, check_preparation, find_task, task_names
from imitate.tasks.base import Budget, Predictions, Task
from imitate.tasks.evaluation import Evaluation
from imitate.tasks.pretraining import VALIDATION


class Counting(Task):
    """How many images there are."""

    name: ClassVar[str] = "counting"
    title: ClassVar[str] = "Counting of images"
    needs: ClassVar[frozenset[str]] = frozenset()
    headline: ClassVar[str] = "error"
    larger_is_better: ClassVar[dict[str, bool]] = {"error": False}
    trains: ClassVar[bool] = False
    names: ClassVar[dict[str, str]] = {"error": "Error of the count"}

    def predict(self, encoder: Encoder, data: Corpus, budget: Budget) -> Predictions:
        rows = self.selected(data).table
        return {key: rows[key].to_numpy(dtype=str) for key in ("image_id", "patient")}

    def measure(self, predictions: Predictions, rows: np.ndarray | None = None) -> dict[str, float]:
        return {"count": 3.0, "error": 0.5}


class Hungry(Counting):
    name: ClassVar[str] = "hungry"
    needs: ClassVar[frozenset[str]] = frozenset({"labels", "depth"})


class _Entry:
    def __init__(self, task: type[Task]) -> None:
        self.load = lambda: task


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "plugins", lambda group: {"counting": _Entry(Counting), "hungry": _Entry(Hungry)})
    tables._names.cache_clear()


def test_every_class_says_what_tables_ask() -> None:
    for name in TASKS:
        task = find_task(name)
        assert task.name == name and task.title and task.needs <= NEEDS
        assert task.main_metric("clean") == task.headline
        assert task.main_metric("paper") == (task.paper_headline or task.headline)
    assert find_task("segmentation").main_metric("paper") == "dice_batched"


BASE: dict[str, object] = {
    "version": 1, "modes": ("clean", "paper"), "needs": {"labels"}, "paper_headline": "", "beside": (), "also": (),
    "larger_is_better": {}, "units": {}, "trains": True, "curves": False, "baselines": (),
}  # fmt: skip
OF_CLASSES = {
    **BASE, "headline": "auroc", "beside": ("accuracy",), "curves": True,
    "units": dict.fromkeys(("mcc", "threshold-mcc", "oracle-mcc"), "%"),
}  # fmt: skip
SAID: dict[str, dict[str, object]] = {
    "linear-classification": {**OF_CLASSES, "title": "Linear classification", "baselines": ("random", "pixels")},
    "knn-classification": {
        **OF_CLASSES, "title": "k-nearest-neighbour classification", "baselines": ("random", "pixels"),
        "modes": ("clean",),
    },
    "finetune-classification": {**OF_CLASSES, "version": 2, "title": "Fine-tuned classification"},
    "segmentation": {
        **BASE, "version": 2, "title": "Segmentation", "needs": {"masks"}, "headline": "dice",
        "paper_headline": "dice_batched", "beside": ("dice_positives", "false_positive_rate"),
        "larger_is_better": {"false_positive_rate": False, "hd95": False}, "units": {"hd95": "px"},
    },
    "detection": {
        **BASE, "version": 2, "title": "Detection", "needs": {"boxes"}, "headline": "map",
        "paper_headline": "map_paper", "beside": ("froc",),
    },
    "zero-shot": {
        **OF_CLASSES, "version": 2, "modes": ("clean",), "title": "Zero-shot classification",
        "needs": {"labels", "text"}, "trains": False, "beside": ("average-precision", "accuracy"),
    },
    "grounding": {
        **BASE, "modes": ("clean",), "title": "Grounding of phrases", "needs": {"phrases", "text"}, "trains": False,
        "headline": "pointing",
        "beside": (
            "pixel-auroc", "cnr", "miou", "pixel-auroc-gain/usual place", "pixel-auroc-gain/another text",
            "pixel-auroc-gain/another image",
        ),
        "units": dict.fromkeys(
            ("cnr", "cnr-absolute", "pointing-gain", "pixel-auroc-gain", "cnr-gain", "miou-gain"), "%"
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_results_reports_and_comparisons_rely_on_what_a_task_says(name: str) -> None:
    task = find_task(name)
    assert {key: getattr(task, key) for key in SAID[name]} == SAID[name]
    assert task.method() == f"2.{task.version}"


def test_each_bootstrap_sample_is_measured() -> None:
    found = Counting().resample({}, np.array([[1, 0, 2]]))
    assert {name: values.tolist() for name, values in found.items()} == {"count": [3.0], "error": [0.5]}


def test_a_class_that_no_macro_average_has_does_not_bound_its_support() -> None:
    target = np.zeros((40, 2))
    target[:20, 0] = target[:2, 1] = 1
    patients = np.array([f"p{i}" for i in range(40)])
    given = {"target": target, "score": target - 0.5, "classes": np.array(["a", "b"]), "patient": patients}
    probe: Any = find_task("linear-classification")
    options = [probe(macro_least=least) for least in (1, 3)]
    assert [min(task.support(given)["auroc"]) for task in options] == [2, 20]


def test_every_task_measures_the_same_split_by_default() -> None:
    assert {find_task(name).model_fields["split"].default for name in TASKS} == {"test"}
    assert VALIDATION.split == "val"  # of a pre-training run, whose best epoch it chooses


def test_unknown_names_and_needs_are_reported(installed: None) -> None:
    with pytest.raises(
        UserError, match="no task 'guessing'; there are linear-classification, .*grounding, calibration, counting"
    ):
        find_task("guessing")
    with pytest.raises(
        UserError, match="task hungry needs depth: a task can need boxes, labels, masks, phrases, reports, text"
    ):
        find_task("hungry")
    with pytest.raises(ValueError, match="no task 'guessing'"):
        Evaluation(task="guessing")


def test_a_task_of_another_package_has_tables_without_a_change_here(
    installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "task_names", lambda: [*TASKS, "counting"])
    assert task_names()[-2:] == ["counting", "hungry"]
    found = {"count": results_files.estimated(3.0), "error": results_files.estimated(0.5)}
    paths = [
        results_files.write_file(
            tmp_path / f"{model}.json", "counting", [results_files.identity(4)],
            {**found, "error": results_files.estimated(error)}, model=model,
        )
        for model, error in (("good", 0.1), ("bad", 0.5))
    ]  # fmt: skip
    (group,) = read_groups(paths)
    assert group.title == "Counting of images on folder" and group.metrics == ["error", "count"]
    table = tables.main_table(group, styles(["good", "bad"]))
    assert ("Error of the count" in repr(table) and "text='10.0'" in repr(table)) or repr(table)
    with pytest.raises(ValueError, match="counting trains nothing"):
        Evaluation(task="counting", fractions={0.1: {}})


def _data(**changes: object) -> Corpus:
    table = pd.DataFrame(
        {"image_id": ["a", "b"], "patient": ["p", "q"], "projection": ["PA", "LATERAL"], "boxes": [[], []]}
    )
    return Corpus(Path("folder"), {"classes": [], **changes}, table, np.zeros((2, 4, 4), np.uint8), None)


@pytest.mark.parametrize("name", ["linear-classification", "segmentation", "detection", "zero-shot", "retrieval"])
def test_a_folder_that_lacks_what_a_task_needs_is_reported(name: str) -> None:
    bare = _data()
    data = replace(bare, table=bare.table.assign(has_findings=False, has_impression=False))
    with pytest.raises(Lacking, match=rf"{name} needs (labels|masks|boxes|reports), but folder has none"):
        check_data(find_task(name)(), data)
    check_data(find_task("retrieval")(), replace(data, table=data.table.assign(has_impression=[False, True])))


def test_an_encoder_without_text_is_refused_with_the_reason(tiny_encoders: dict[str, Encoder]) -> None:
    check_encoder(find_task("segmentation")(), tiny_encoders["simclr"])
    with pytest.raises(
        UserError, match="retrieval compares images with text, but run was trained by simclr, without text"
    ):
        check_encoder(find_task("retrieval")(), tiny_encoders["simclr"])
    with pytest.raises(UserError, match="retrieval compares images with text, but pixels has no text encoder"):
        check_encoder(find_task("retrieval")(), tiny_encoders["pixels"])


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({}, []),
        ({"resize": "letterbox"}, ["has resize letterbox, but run was trained on stretch"]),
        ({"percentiles": [1.0, 99.0]}, ["has percentiles (1.0, 99.0), but run was trained on None"]),
    ],
)
def test_a_folder_made_in_another_way_than_the_run_s_is_warned_of(
    tiny_encoders: dict[str, Encoder], tmp_path: Path, caplog: pytest.LogCaptureFixture, meta: dict, said: list[str]
) -> None:
    data = Corpus.open(write_folder(tmp_path / "data", **meta))
    for name, expected in (("simclr", said), ("pixels", [])):  # an encoder of no run learnt from nothing
        caplog.clear()
        check_preparation(find_task("linear-classification")(), tiny_encoders[name], data)
        assert [record.message.removeprefix(f"{data.root} ") for record in caplog.records] == expected


def test_a_folder_of_another_size_is_refused_but_for_tasks_on_whole_images(
    tiny_encoders: dict[str, Encoder], tmp_path: Path
) -> None:
    large, small = (Corpus.open(write_folder(tmp_path / f"{size}", size=size)) for size in (48, 24))
    for name in ("linear-classification", "retrieval", "zero-shot"):
        with pytest.raises(UserError, match="holds images of 48 px, but this model needs 36"):
            check_preparation(find_task(name)(), tiny_encoders["simclr"], large)
    for name in ("segmentation", "detection"):
        check_preparation(find_task(name)(), tiny_encoders["simclr"], large)
        with pytest.raises(UserError, match="holds images of 24 px, but this model needs 36"):
            check_preparation(find_task(name)(), tiny_encoders["simclr"], small)


@pytest.fixture
def tiny_encoders() -> dict[str, Encoder]:
    config = TINY_MODEL.model_copy(update={"objective": "simclr", "reads_text": False})
    model = seeded_model(config, pretrained=False, seed=0)
    return {"simclr": ImitateEncoder("run", model), "pixels": Encoder("pixels", Pixels(), config)}


def test_projections_are_selected_where_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[tuple[str, ...]] = []

    def select(data: Corpus, projections: tuple[str, ...]) -> Corpus:
        chosen.append(projections)
        return data

    monkeypatch.setattr(Corpus, "select", select, raising=False)
    data = _data()
    assert Counting().selected(data) is data and not chosen
    Counting(projections=("PA",)).predict(Encoder("none", Pixels(), Preprocessing()), data, Budget())
    assert chosen == [("PA",)]
