from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import write_folder

from imitate.data.corpus import Corpus
from imitate.tasks import record
from imitate.tasks.base import Budget, Fit
from imitate.tasks.classification import LinearClassification
from imitate.tasks.evaluation import planned
from imitate.tasks.record import Data, Job, Method, called, digests, numbered, precision, training
from imitate.tasks.results import digest_of
from imitate.tasks.retrieval import Retrieval
from imitate.tasks.zero_shot import ZeroShot


def test_a_row_is_called_after_its_folders_or_its_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ours/0/model", "ours/1/best", "theirs/0", "single/model"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert called(["runs/single"], ["x"]) == called(["runs/single/model"], ["x"]) == "single"
    assert called(["random"], ["resnet50 (random)"]) == "resnet50 (random)"
    assert called(["runs/ours/0"], ["x"]) == called(["runs/ours/0/model"], ["x"]) == "ours/0"
    assert called(["runs/ours/0", "runs/ours/1/best"], ["x", "y"]) == "ours"
    assert called(["runs/ours/0", "runs/theirs/0"], ["x", "y"]) == "ours/0 + theirs/0"
    assert called(["random", "random"], ["r", "r"]) == "r"
    assert called(["runs/single", "random"], ["x", "r"]) == "single + r"
    (tmp_path / "runs/2023").mkdir()
    (tmp_path / "0").touch()
    assert called([str(tmp_path / "0")], ["file"]) == "file"  # a file of weights has its encoder's name


def test_fits_on_the_same_weights_are_heads_of_one_run() -> None:
    expected = [Fit(run=0, head=0), Fit(run=1, head=0), Fit(run=0, head=1), Fit(run=2, head=0), Fit(run=0, head=2)]
    assert numbered(["a", "b", "a", "c", "a"]) == expected and numbered([]) == []


def test_a_cpu_computes_in_float32() -> None:
    assert precision("cpu") == "float32"


def test_a_file_says_which_images_were_measured(tmp_path: Path) -> None:
    data = Corpus.open(write_folder(tmp_path / "folder", n=12))
    predictions = {"image_id": np.array(["a", "b", "c"]), "patient": np.array(["p", "p", "q"])}
    found = record.tested(data, predictions, split="val")
    of = {"source": data.meta["source"], "fingerprint": data.meta["fingerprint"]}
    assert found == {"name": "folder", **of, "split": "val", "images": 3, "patients": 2}
    assert record.tested(data, predictions, split="val", unit="study") == {**found, "measured": "studies"}
    data.traits["patients"] = "studies"
    assert record.tested(data, predictions, split="val") == {**found, "unit": "studies"}


def test_a_file_says_what_was_fitted(tmp_path: Path) -> None:
    data = Corpus.open(write_folder(tmp_path / "folder", n=12))
    train = data.table[data.table["split"] == "train"]
    found = training(LinearClassification(), data, data, Budget())
    of = {"name": data.name, "fingerprint": data.fingerprint}
    assert found == {**of, "images": len(train), "patients": train["patient"].nunique()}
    assert training(ZeroShot(), data, data, Budget()) == training(Retrieval(), data, data, Budget()) == {}
    folds = training(LinearClassification(folds=2), data, data, Budget())
    assert folds["folds"] == 2 and folds["images"] != found["images"]


def test_each_digest_is_of_what_it_names(tmp_path: Path) -> None:
    data = Corpus.open(write_folder(tmp_path / "folder", n=12))
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("a: {positive: [b], negative: [c]}")

    def of(resamples: int = 10, test: Corpus | None = None, mode: Any = "clean", **settings: Any) -> dict[str, str]:
        task = ZeroShot(**settings)
        plan = planned("zero-shot", None, mode=None, fraction=None, settings={})
        method = Method(("random",), None, None, tmp_path)
        return digests(Job(plan, task, Data(data, test), method, Budget(mode=mode), resamples))

    first = of()
    assert first == of() and first.keys() == {"method", "settings", "data", "device", "resamples"}
    assert (first["method"], first["resamples"], first["device"]) == ("2.2", "10", "cpu, float32")
    assert first["data"] == digest_of([data.fingerprint])
    for changed, key in (
        (of(resamples=11), "resamples"),
        (of(test=data), "data"),
        (of(mode="paper"), "settings"),
        (of(macro_least=2), "settings"),
        (of(prompts=prompts), "settings"),
    ):
        assert {name for name in first if first[name] != changed[name]} == {key}
    before = of(prompts=prompts)
    prompts.write_text("a: {positive: [d], negative: [c]}")
    assert of(prompts=prompts)["settings"] != before["settings"]
