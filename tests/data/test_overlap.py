"""What folders have in common: by population, by tables, by pixels; and what is kept of it beside a run."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imitate.commands.prepare import prepare
from imitate.commands.synthesize import synthesize
from imitate.data.corpus import Corpus, merge
from imitate.data.overlap import (
    FILE,
    Keys,
    image_keys,
    keys_of,
    note_training,
    patient_keys,
    shared,
    trained_on,
    without_held_out,
)
from imitate.data.sampler import training_rows
from imitate.errors import UserError


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """ChestX-ray14 and the relabelled images of it, from the same seed; and the same archive in other squares."""
    root = tmp_path_factory.mktemp("overlap")
    for source in ("chestxray14", "nih-google"):
        synthesize(source, out=root / f"raw-{source}", n=40, seed=2, size=64)
        prepare(source, raw=root / f"raw-{source}", out=root / source, size=32, workers=1)
    prepare("nih-google", raw=root / "raw-nih-google", out=root / "larger", size=48, workers=1)
    return {name: root / name for name in ("chestxray14", "nih-google", "larger")}


def of(data: Corpus, split: str) -> np.ndarray:
    return np.flatnonzero(data.table["split"].to_numpy() == split)


def test_two_sources_of_one_population_share_patients_and_images(folders: dict[str, Path]) -> None:
    nih, labels = Corpus.open(folders["chestxray14"]), Corpus.open(folders["nih-google"])
    everything = keys_of(nih, np.arange(len(nih)))
    patients, images = labels.table["patient"].nunique(), len(labels)
    assert shared(labels, np.arange(len(labels)), everything) == {
        "patients": (patients, patients),
        "images": (images, images),
    }
    train = keys_of(nih, of(nih, "train"))
    assert shared(labels, of(labels, "test"), train)["patients"][0] == 0, "the official test is disjoint"
    val = of(labels, "val")
    wanted = set(nih.table["patient"].iloc[of(nih, "train")]) & set(labels.table["patient"].iloc[val])
    assert shared(labels, val, train)["patients"] == (len(wanted), labels.table["patient"].iloc[val].nunique())


def test_images_are_not_comparable_in_squares_of_another_size_but_patients_are(folders: dict[str, Path]) -> None:
    nih, larger = Corpus.open(folders["chestxray14"]), Corpus.open(folders["larger"])
    found = shared(larger, np.arange(len(larger)), keys_of(nih, np.arange(len(nih))))
    assert found["images"][0] == 0 and found["patients"][0] == found["patients"][1]


def with_ids(data: Corpus, *, population: str = "", inputs: dict[str, str] | None = None, **changes: object) -> Corpus:
    meta = {**data.meta, "traits": {**data.traits, "population": population}, "inputs": inputs or {}, **changes}
    return replace(data, meta=meta, columns=None)


def test_ids_mean_nothing_without_a_population_unless_the_tables_are_the_same(folders: dict[str, Path]) -> None:
    data = Corpus.open(folders["chestxray14"])
    plain = with_ids(data, fingerprint="a")
    keys = set(patient_keys(plain).tolist())
    assert not keys & set(patient_keys(with_ids(data, fingerprint="b")).tolist())
    assert keys == set(patient_keys(with_ids(data, fingerprint="a")).tolist()), "the folder itself"
    tables = [
        with_ids(data, inputs={"t.csv": digest}, fingerprint=name) for name, digest in zip("abc", "xxy", strict=True)
    ]
    first, same, other = (set(patient_keys(each).tolist()) for each in tables)
    assert first == same and not first & other


def test_an_id_counts_with_and_without_zeros_and_may_name_its_population(folders: dict[str, Path]) -> None:
    data = with_ids(Corpus.open(folders["chestxray14"]), population="covidx")
    ids = ["13", "chest-xray14:00000013", "odd:13", "0013"] * 10
    data = replace(data, table=data.table.assign(patient=ids[: len(data)]))
    nih = replace(with_ids(data, population="chest-xray14"), table=data.table)
    mine, theirs = patient_keys(data), patient_keys(nih)
    assert mine[0] == mine[3] != mine[2]
    assert mine[1] == theirs[1] == theirs[0] != mine[0]


def test_what_a_run_is_trained_on_is_kept_beside_it_once(folders: dict[str, Path], tmp_path: Path) -> None:
    data = Corpus.open(folders["chestxray14"])
    first, second = tmp_path / "first", tmp_path / "second"
    for run in (first, second):
        (run / "model").mkdir(parents=True)
    note_training(first, data, of(data, "train"))
    assert (first / FILE).stat().st_size < 2000
    keys = trained_on(first / "model")
    assert keys is not None and [each.dtype for each in keys] == [np.uint64] * 2
    for mine, wanted in zip(keys, keys_of(data, of(data, "train")), strict=True):
        np.testing.assert_array_equal(mine, wanted)
    for place in ("snapshots/step-0000004", "top/step-0000004"):
        (first / place).mkdir(parents=True)
        found = trained_on(first / place)
        assert found is not None and np.array_equal(found.images, keys.images), place
    note_training(second, data, of(data, "val"), after=str(first))
    both = trained_on(second)
    rows = np.concatenate([of(data, "train"), of(data, "val")])
    assert both is not None and len(both.patients) == data.table["patient"].iloc[rows].nunique()
    note_training(first, data, of(data, "test"))
    again = trained_on(first)
    assert again is not None and len(again.images) == len(keys.images), "written once"
    assert trained_on(tmp_path) is None and trained_on("random") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x93NUMPY"])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"trained_on\.npz is damaged \(.*\): delete it"):
        trained_on(tmp_path)
    (tmp_path / "saved").mkdir()
    Keys(np.array([1], np.uint64), np.zeros(0, np.uint64)).save(tmp_path / "saved" / FILE)
    assert trained_on(tmp_path / "saved") is not None


def test_what_one_folder_holds_out_no_other_trains_on(
    folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """All images of the relabelled folder are held out there; one of them stays in training if its patient is new."""
    both = Corpus.open([folders["chestxray14"], folders["nih-google"]])
    nih, labels = both.parts
    before = training_rows(nih, every=True)[0]
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(UserError, match="every training image is held out by another"),
    ):
        without_held_out(both, [before, np.zeros(0, np.int64)])
    kept = labels.table["split"].to_numpy() == "val"
    kept &= ~labels.table["patient"].isin(sorted(set(labels.table["patient"]))[:3]).to_numpy()
    labels = replace(labels, table=labels.table.assign(split=np.where(kept, "train", "test")))
    both = merge([nih, labels])
    rows = [before, len(nih) + np.flatnonzero(kept)]
    caplog.clear()
    found = without_held_out(both, rows)
    held = [set(part.table["patient"][part.table["split"] != "train"]) for part in (nih, labels)]
    for number, part in enumerate((nih, labels)):
        local = found[number] - number * len(nih)
        gone = set(rows[number].tolist()) - set(found[number].tolist())
        patients = part.table["patient"].to_numpy()
        assert not set(patients[local]) & held[1 - number] and len(local)
        assert set(patients[np.array(sorted(gone)) - number * len(nih)]) <= held[1 - number] and gone
    assert len(caplog.messages) == 2
    assert f"{nih.root}: {len(rows[0]) - len(found[0])} of {len(rows[0])} training images are excluded" in caplog.text


def test_one_folder_is_left_as_it_is(folders: dict[str, Path]) -> None:
    data = Corpus.open(folders["chestxray14"])
    rows = training_rows(data, every=True)
    assert without_held_out(data, rows)[0] is rows[0]
    assert not len(image_keys(with_ids(data), rows[0])), "a folder without digests"
