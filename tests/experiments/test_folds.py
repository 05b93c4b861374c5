"""Every training patient is tested in one fold, the held-out ones in none."""

import json

import numpy as np
import pytest
from folders import write_folder

from folds import check_folds, is_held_out, make
from imitate import cli
from imitate.data.corpus import Corpus
from imitate.errors import UserError


def test_folds_and_the_held_out_patients(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "set", n=120)
    before = Corpus.open(folder)
    *folds, confirm = (Corpus.open(each) for each in make(folder, folds=3, held_out=0.3))
    patients = {split: set(before.table["patient"][before.rows(split)]) for split in ("train", "val")}
    held = {each for each in patients["train"] if is_held_out(each, 0.3)}
    assert 0 < len(held) < len(patients["train"])
    tested = [set(fold.table["patient"][fold.rows("test")]) for fold in folds]
    assert set.union(*tested) == patients["train"] - held and sum(map(len, tested)) == len(patients["train"] - held)
    for fold, test in zip(folds, tested, strict=True):
        assert set(fold.table["patient"][fold.rows("train")]) == patients["train"] - held - test
        assert set(fold.table["patient"][fold.rows("val")]) == patients["val"]
        assert np.array_equal(fold.images[fold.rows("test")], before.images[fold.rows("test")])
    assert set(confirm.table["patient"][confirm.rows("test")]) == held
    assert set(confirm.table["patient"][confirm.rows("train")]) == patients["train"] - held
    assert len({each.fingerprint for each in (before, *folds, confirm)}) == 5
    assert make(folder, folds=3, held_out=0.3)[-1] == tmp_path / "set-confirm", "what is there stays"
    with pytest.raises(UserError, match="set-fold-0 has other folds"):
        make(folder, folds=2, held_out=0.3)
    with pytest.raises(UserError, match="set-fold-0 has other folds"):
        check_folds(folder, tmp_path / "set-fold-0")
    monkeypatch.setattr("folds.FOLDS", 3)
    monkeypatch.setattr("folds.HELD_OUT", 0.3)
    check_folds(folder, tmp_path / "set-fold-0")
    with pytest.raises(UserError, match="or those of another folder"):
        check_folds(write_folder(tmp_path / "other", n=90), tmp_path / "set-fold-0")


def test_the_folders_are_whole(tmp_path, capsys):
    assert cli.main(["prepare", "synthetic", "--out", str(tmp_path / "set"), "--n", "60", "--size", "32"]) == 0
    for each in make(tmp_path / "set", folds=2, held_out=0.2):
        assert cli.main(["doctor", str(each)]) == 0, capsys.readouterr().out
        assert sum(json.loads((each / "index.json").read_text())["splits"].values()) == 60


def test_the_held_out_are_a_fraction_of_all():
    assert sum(is_held_out(str(number), 0.2) for number in range(5000)) == pytest.approx(1000, abs=100)
    assert not is_held_out("a", 0) and is_held_out("a", 1)


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="is no prepared folder"):
        make(tmp_path, folds=2, held_out=0.2)
