"""The sources with boxes, masks and phrases, from their synthetic archives to the tasks that they are for."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from recipes import TINY_MODEL
from runs import write_run

from imitate.commands.prepare import prepare
from imitate.data.corpus import Corpus
from imitate.data.marks import marks
from imitate.doctor.prepared import examine_prepared
from imitate.doctor.raw import examine_raw, recognise
from imitate.errors import UserError
from imitate.inference.encoder import Encoder, load_encoder
from imitate.sources import find_source
from imitate.synthetic.layouts import LAYOUTS
from imitate.tasks import check_data
from imitate.tasks.base import Budget, Task
from imitate.tasks.classification import LinearClassification
from imitate.tasks.detection import Detection
from imitate.tasks.grounding import Grounding
from imitate.tasks.segmentation import Segmentation

N, SIZE = 48, TINY_MODEL.prepared_size
FAST: dict[str, Any] = {"epochs": 1, "batch_size": 16, "width": 16}


class Case(NamedTuple):
    options: dict[str, Any]
    tasks: list[Task]
    readers: set[str]  # of the boxes
    clean: set[str]  # what doctor warns of in the raw tree


IDS = {"published counts", "patient ids"}
CASES = {
    "chestx-det": Case(
        {}, [Detection(**FAST), Segmentation(**FAST), Segmentation(labels=("Cardiomegaly",), **FAST),
             LinearClassification(decays=(1.0,)), Grounding(split="all")], {""}, IDS | {"labels"},
    ),
    "chexlocalize": Case(
        {"val": "train"},
        [Grounding(split="all"), Segmentation(labels=("Cardiomegaly",), **FAST), LinearClassification(decays=(1.0,))],
        set(), {"published counts", "labels", "notes"},
    ),
    "ms-cxr": Case({}, [Grounding(split="all"), Grounding(split="all", average="classes")], {""}, {"published counts"}),
    "padchest-gr": Case(
        {"readers": "both"}, [Grounding(split="all"), LinearClassification(decays=(1.0,))], {"1", "2"},
        {"published counts", "labels"},
    ),
    "tbx11k": Case(
        {}, [Detection(**FAST), Segmentation(**FAST), LinearClassification(decays=(1.0,))], {""}, IDS,
    ),
    "vindr-cxr": Case(
        {"votes": "fraction"}, [Detection(**FAST), Detection(labels=("Cardiomegaly",), **FAST),
                           LinearClassification(decays=(1.0,)), Grounding(split="all")], {""}, IDS | {"labels"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """Untrained, of a text encoder that knows the words of synthetic reports."""
    folder = tmp_path_factory.mktemp("run")
    prepare("synthetic", n=60, original_size=64, size=SIZE, out=folder / "data", workers=1)
    return load_encoder(str(write_run(folder, data=folder / "data")), data=Corpus.open(folder / "data"))


@pytest.fixture(scope="module", params=CASES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """The raw archive of a source, and what is prepared from it."""
    name, root = request.param, tmp_path_factory.mktemp(request.param)
    LAYOUTS[name](root / "raw", n=N, seed=3, size=64)
    prepare(name, raw=root / "raw", out=root / "data", size=SIZE, workers=1, **CASES[name].options)
    return name, root / "raw", root / "data"


def test_doctor_finds_nothing_but_what_a_part_has(folder: tuple[str, Path, Path]) -> None:
    name, raw, data = folder
    assert recognise(raw) == name
    checks = list(examine_raw(raw, name))
    assert not [each for each in checks if each.state == "broken"]
    assert {each.what for each in checks if each.state == "warn"} <= CASES[name].clean
    assert not [each for each in examine_prepared(data) if each.state == "broken"]


def test_every_task_that_it_is_for_measures(folder: tuple[str, Path, Path], encoder: Encoder) -> None:
    name, _, data = folder
    corpus = Corpus.open(data)
    for task in CASES[name].tasks:
        check_data(task, corpus)
        predictions = task.predict(encoder, corpus, Budget())
        found = task.measure(predictions)
        assert len(predictions["image_id"]) >= 3 and not np.isnan(list(found.values())).all(), (name, task.name)
        assert not np.isnan(found[task.headline]), (name, task.name)


def test_the_prepared_marks_are_those_of_the_archive(folder: tuple[str, Path, Path]) -> None:
    """Boxes keep their reader; what is marked covers the same fraction of the image as in the archive."""
    name, raw, data = folder
    corpus = Corpus.open(data)
    boxes = [box for row in range(len(corpus)) for box in corpus.boxes(row)]
    assert {box.reader for box in boxes} == CASES[name].readers
    source = find_source(name)
    records = source.records(source.Options.model_validate({"raw": raw, **CASES[name].options}))
    marked = {each.image_id: {(mark.label, mark.phrase) for mark in each.annotations} for each in records}
    for row, image in enumerate(corpus.table["image_id"]):
        found = marks(corpus, row)
        assert {(mark.label, mark.phrase) for mark in found} == marked[image]
        assert all(mark.mask.any() for mark in found)
    assert corpus.meta["settings"]["inputs"]  # the tables' digests, wherever they lie


Spoil = Callable[[Path], None]


def cut(pattern: str) -> Spoil:
    """Cut off the second half of a file."""

    def spoil(raw: Path) -> None:
        path = sorted(raw.glob(pattern))[0]
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return spoil


def reheaded(pattern: str, old: str, new: str) -> Spoil:
    def spoil(raw: Path) -> None:
        path = sorted(raw.glob(pattern))[0]
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return spoil


def repeated(pattern: str) -> Spoil:
    """The second line of a table once more."""

    def spoil(raw: Path) -> None:
        path = sorted(raw.glob(pattern))[0]
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join([*lines, lines[1]]), encoding="utf-8")

    return spoil


DIRTY: list[tuple[str, Spoil, str]] = [
    ("chestx-det", cut("ChestX_Det_test.json"), "is not readable JSON"),
    ("chestx-det", reheaded("ChestX_Det_test.json", "file_name", "name"), "must list objects with file_name"),
    ("chexlocalize", cut("CheXlocalize/gt_segmentations_val.json"), "is not readable JSON"),
    ("chexlocalize", repeated("CheXpert/val_labels.csv"), "lists 1 ids more than once, first 'patient.*'"),
    ("chexlocalize", reheaded("CheXpert/test_labels.csv", "Path", "File"), "lacks column 'Path'"),
    ("ms-cxr", reheaded("*.csv", "image_width", "width"), "lacks column 'image_width'"),
    ("padchest-gr", cut("grounded_reports_*.json"), "is not readable JSON"),
    ("padchest-gr", reheaded("master_table.csv", "ImageID", "Image"), "lacks column 'ImageID'"),
    ("tbx11k", cut("annotations/json/TBX11K_train.json"), "is not readable JSON"),
    ("vindr-cxr", repeated("annotations/image_labels_test.csv"), "lists 1 ids more than once"),
    ("vindr-cxr", reheaded("annotations/annotations_train.csv", "class_name", "class"), "lacks column 'class_name'"),
    ("vindr-cxr", reheaded("annotations/image_labels_train.csv", "ILD", "ILC"), "lacks the labels ILD"),
]
IGNORED = [("ms-cxr", "*.csv"), ("padchest-gr", "master_table.csv"), ("vindr-cxr", "annotations/annotations_train.csv")]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("archives")

    def archive(name: str) -> Path:
        if not (root / name).exists():
            LAYOUTS[name](root / name, n=20, seed=4, size=64)
        return root / name

    return archive


@pytest.mark.parametrize(("name", "spoil", "said"), DIRTY)
def test_a_spoilt_table_ends_in_one_line(
    name: str, spoil: Spoil, said: str, archives: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(archives(name), tmp_path / "raw")
    spoil(tmp_path / "raw")
    with pytest.raises(UserError, match=said) as error:
        prepare(name, raw=tmp_path / "raw", out=tmp_path / "data", size=SIZE, workers=1)
    assert "\n" not in str(error.value) and not (tmp_path / "data" / "index.json").exists()


@pytest.mark.parametrize(("name", "table"), IGNORED)
def test_repeated_rows_change_nothing(name: str, table: str, archives: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(archives(name), tmp_path / "raw")
    source = find_source(name)
    before = list(source.records(source.Options(raw=tmp_path / "raw")))
    repeated(table)(tmp_path / "raw")
    assert list(source.records(source.Options(raw=tmp_path / "raw"))) == before


@pytest.mark.parametrize("name", CASES)
def test_missing_and_damaged_images_are_excluded_and_the_others_prepared(
    name: str, archives: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(archives(name), tmp_path / "raw")
    source = find_source(name)
    records = list(source.records(source.Options(raw=tmp_path / "raw")))
    images = [record.image for record in records if record.split != "test"]  # type: ignore[union-attr]
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:200])
    index = prepare(name, raw=tmp_path / "raw", out=tmp_path / "data", size=SIZE, workers=1)
    assert index and index["images"] == len(records) - 2
    assert index["excluded"]["missing file"] == 1 and sum(index["excluded"].values()) == 2
