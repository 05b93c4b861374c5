"""A warning where what is tested was trained on, and silence where nobody can know."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import edit_index, edit_rows
from noisy_task import install, write_data

from imitate.commands.evaluate import evaluate
from imitate.data.corpus import Corpus
from imitate.data.overlap import FILE, note_training


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Encoders are called 0.5, which is also the folder of the run."""
    return install(monkeypatch)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if "too optimistic" in message]


def test_a_run_that_has_seen_the_test_patients_is_named_with_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the results are there already; 100 test images of 50 patients, of whom 3 are trained on."""
    monkeypatch.chdir(tmp_path)
    folder = write_data(tmp_path / "data")
    values: dict[str, Any] = {"model": ("0.5",), "data": folder, "out": tmp_path / "r.json", "resamples": 10}
    Path("0.5").mkdir()
    caplog.set_level(logging.WARNING)
    evaluate("linear-classification", **values)
    assert not warnings(caplog), "a model that does not know"
    note_training(Path("0.5"), Corpus.open(folder), np.arange(25))
    for _ in range(2):
        caplog.clear()
        evaluate("linear-classification", **values)
        assert warnings(caplog) == [
            f"0.5 was trained on 3 of the 50 patients of {folder}, split test: metrics will be too optimistic"
        ]
    (Path("0.5") / FILE).unlink()
    note_training(Path("0.5"), Corpus.open(folder), np.arange(20))
    caplog.clear()
    evaluate("linear-classification", **values)
    assert not warnings(caplog), "only the training split"


def test_the_folder_that_heads_are_fitted_on_counts_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, test = write_data(tmp_path / "a"), write_data(tmp_path / "b", draw=1)
    values: dict[str, Any] = {"model": ("0.5",), "data": train, "test_data": test, "resamples": 10}
    caplog.set_level(logging.WARNING)
    evaluate("linear-classification", out=tmp_path / "r.json", **values)
    assert not warnings(caplog), "ids of two tables mean nothing to each other"
    for folder in (train, test):
        edit_index(folder, traits={"population": "chexpert"})
    edit_rows(test, patient=[f"p{i // 2 - 5}" for i in range(120)])  # p0 to p9 train in the other folder
    evaluate("linear-classification", out=tmp_path / "s.json", **values)
    (message,) = warnings(caplog)
    assert message.startswith(f"{train}, on which heads are fitted, has 5 of the 50 patients of {test}, split test:")
