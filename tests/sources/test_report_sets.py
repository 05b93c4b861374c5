"""The newer sources with reports or labels of whole images, end to end on their synthetic layouts."""

import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from recipes import TINY_MODEL, tiny_recipe

from imitate import cli
from imitate.commands.evaluate import evaluate
from imitate.commands.prepare import prepare
from imitate.commands.synthesize import synthesize
from imitate.data.corpus import Corpus
from imitate.doctor.prepared import examine_prepared
from imitate.doctor.raw import examine_raw, recognise
from imitate.errors import UserError

SOURCES = ("brax", "chexpert-plus", "nih-google", "padchest", "rexgradient")
N = 60


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RAW, and its prepared folder, of each source; a run on CheXpert Plus."""
    folder = tmp_path_factory.mktemp("sets")
    for source in SOURCES:
        synthesize(source, out=folder / f"raw-{source}", n=N, seed=4, size=64)
        prepare(source, raw=folder / f"raw-{source}", out=folder / source, size=TINY_MODEL.prepared_size, workers=1)
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(epochs=1).model_dump(mode="json")))
    command = ["pretrain", str(recipe), "--data", str(folder / "chexpert-plus"), "--out", str(folder / "run")]
    assert cli.main(command) == 0
    return folder


@pytest.mark.parametrize("source", SOURCES)
def test_doctor_knows_the_archive_and_finds_both_whole(root: Path, source: str) -> None:
    raw = root / f"raw-{source}"
    assert recognise(raw) == source
    found = {check.what: check for check in examine_raw(raw, source)}
    assert {check.state for check in found.values()} <= {"ok", "warn"}
    assert found["published counts"].state == "warn" and f"{N} of" in found["published counts"].found
    assert found["images"].state == "ok", "a sample is decoded"
    assert not [check for check in examine_prepared(root / source) if check.state == "broken"]


@pytest.mark.parametrize("source", SOURCES)
def test_what_a_prepared_folder_has(root: Path, source: str) -> None:
    data = Corpus.open(root / source)
    assert len(data) and all(data.images[:].std(axis=(1, 2)) > 10)
    texts = data.has("findings").any() or data.has("impression").any()
    assert texts == (source in ("chexpert-plus", "padchest", "rexgradient"))
    assert bool(data.classes) == (source != "rexgradient")
    assert data.table["age"].notna().mean() > 0.9 and set(data.table["sex"]) <= {"F", "M", "O"}
    splits = {"chexpert-plus": {"train", "val"}, "nih-google": {"val", "test"}}
    assert set(data.table["split"]) == splits.get(source, {"train", "val", "test"})
    homes = data.table.groupby("patient")["split"].nunique()
    assert (homes == 1).all()


def test_padchest_from_folders_and_from_archives_is_alike(root: Path, tmp_path: Path) -> None:
    """Pixels of 16 bits, inverted where the table says so, whichever way they lie there."""
    raw = tmp_path / "raw"
    shutil.copytree(root / "raw-padchest", raw)
    for path in sorted((raw / "images").glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(raw / "images" / path.stem)
        path.unlink()
    prepare("padchest", raw=raw, out=tmp_path / "out", size=TINY_MODEL.prepared_size, workers=1)
    first, second = (Corpus.open(folder) for folder in (root / "padchest", tmp_path / "out"))
    np.testing.assert_array_equal(first.images[:], second.images[:])
    corners = first.images[:][:, :3, :3].mean()
    assert corners < 128, "no image is left as a negative"


@pytest.mark.parametrize(
    ("source", "task", "options"),
    [
        ("brax", "zero-shot", {}),
        ("brax", "knn-classification", {}),
        ("chexpert-plus", "zero-shot", {"split": "val"}),
        ("chexpert-plus", "retrieval", {"split": "val"}),
        ("nih-google", "zero-shot", {}),
        ("padchest", "zero-shot", {}),
        ("padchest", "knn-classification", {}),
        ("padchest", "retrieval", {}),
        ("rexgradient", "retrieval", {}),
    ],
)
def test_each_is_measured_with_what_it_brings(
    root: Path, tmp_path: Path, source: str, task: str, options: dict[str, Any]
) -> None:
    found = evaluate(
        task, model=root / "run", data=root / source, out=tmp_path / "r.json", resamples=10, device="cpu", **options
    )
    value = next(iter(found.metrics.values())).value
    assert value is not None and 0 <= value <= 1


def test_labels_of_radiologists_test_a_head_that_is_fitted_on_chestxray14(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By their common classes; training images that are tested are said, as where the official split is not kept."""
    size = TINY_MODEL.prepared_size
    synthesize("chestxray14", out=tmp_path / "raw", n=N, seed=4, size=64)
    test = tmp_path / "test"
    prepare("nih-google", raw=root / "raw-nih-google", out=test, size=size, workers=1, findings="all")
    for split_by, seen in (("official", 0), ("patient", 1)):
        train = tmp_path / split_by
        prepare("chestxray14", raw=tmp_path / "raw", out=train, size=size, workers=1, split_by=split_by)
        caplog.clear()
        out = tmp_path / f"{split_by}.json"
        found = evaluate("knn-classification", model="pixels", data=train, test_data=test, out=out, resamples=10)
        assert found.data["name"] == "test"
        said = [message for message in caplog.messages if "on which heads are fitted" in message]
        assert len(said) == seen
    assert re.search(r"has \d+ of the \d+ patients and \d+ of the \d+ images of .*test, split test: metrics", said[0])


@pytest.mark.parametrize("source", SOURCES)
def test_a_table_that_is_cut_short_or_another_one_ends_in_one_line(root: Path, source: str, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(root / f"raw-{source}", raw)
    (table, *_) = sorted(
        path for path in raw.rglob("*.csv") if "test" in path.name or source not in ("nih-google", "rexgradient")
    )
    text = table.read_text()
    for damaged in ("", text.splitlines()[0], "a,b\n1,2\n", text.replace(",", ";", 3)):
        table.write_text(damaged)
        with pytest.raises(UserError) as caught:
            prepare(
                source,
                raw=raw,
                out=tmp_path / "out",
                size=32,
                workers=1,
                **{"findings": "all"} if "all_f" in str(table) else {},
            )
        assert table.name in str(caught.value) and "\n" not in str(caught.value)
