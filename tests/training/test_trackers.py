"""Where the curves go: Fabric's loggers, and the clients of the services as they come from the index, offline."""

import csv
import json
from pathlib import Path

import pytest
from folders import write_folder
from jobs import metrics, start
from needs import need_module
from recipes import tiny_recipe

from imitate.errors import UserError
from imitate.training import trackers as module
from imitate.training.loop import fit
from imitate.training.run_folder import Journal
from imitate.training.trackers import IDS, trackers

RECIPE = tiny_recipe().model_copy(update={"init": "/home/someone/runs/first"})


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("trackers") / "data", n=24)


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    """A client of a store in a folder."""
    need_module("mlflow", "mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    return MlflowClient()


def runs_of(client):
    return client.search_runs([client.get_experiment_by_name("imitate").experiment_id])


def journal_of(folder: Path, *log: str, step: int = 0) -> Journal:
    folder.mkdir(exist_ok=True)
    return Journal(folder, step=step, log=log, recipe=RECIPE)


def test_csv_has_the_rows_of_the_run_once_also_after_it_continued(tmp_path):
    journal = journal_of(tmp_path, "csv")
    for step in (1, 2, 3):
        journal.write(step, {"loss": step / 2}, {"samples_per_second": 5.0})
    journal.write(3, {"val/recall@1": 0.25})  # the process is killed: nothing is closed
    journal = journal_of(tmp_path, "csv", step=2)
    journal.write(3, {"loss": 9.0})
    journal.close()
    with (tmp_path / "csv" / "metrics.csv").open(newline="") as file:
        rows = [(row["step"], row["loss"]) for row in csv.DictReader(file)]
    assert rows == [("1", "0.5"), ("2", "1.0"), ("3", "9.0")]


def test_mlflow_has_recipe_and_metrics_and_one_run_that_later_starts_continue(tmp_path, mlflow):
    journal = journal_of(tmp_path / "run", "mlflow")
    journal.write(2, {"loss": 0.5, "val/recall@1": 0.25})
    journal.close("interrupted")
    (run,) = runs_of(mlflow)
    assert run.info.status == "KILLED" and run.info.run_name == "run"
    assert run.data.params["training.batch_size"] == str(RECIPE.training.batch_size)
    assert run.data.params["init"] == "first" and "someone" not in str(run.data)
    journal = journal_of(tmp_path / "run", "mlflow", step=2)
    journal.write(4, {"loss": 0.25})
    journal.close()
    (run,) = runs_of(mlflow)
    found = [(each.step, each.value) for each in mlflow.get_metric_history(run.info.run_id, "loss")]
    assert run.info.status == "FINISHED" and found == [(2, 0.5), (4, 0.25)]
    assert run.data.metrics["val/recall_1"] == 0.25, "MLflow takes no @ in a name"
    assert json.loads((tmp_path / "run" / IDS).read_text()) == {"mlflow": run.info.run_id}


def test_of_paths_only_the_last_part_is_recorded():
    recipe = {
        "text": "hf:/home/someone/bert:mean",
        "objective": {"prior": "hf:someone/local", "table": "/someone/t.csv"},
    }
    assert module._flat({**recipe, "init": "someone/run", "seed": 1}) == {
        "text": "hf:bert:mean", "objective.prior": "hf:local", "objective.table": "t.csv", "init": "run", "seed": 1,
    }  # fmt: skip
    assert module._flat({"text": "hf:owner/name@main:mean"}) == {"text": "hf:owner/name@main:mean"}


def test_wandb_offline_writes_into_the_run_folder_and_keeps_its_id(tmp_path, monkeypatch):
    need_module("wandb", "wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    journal = journal_of(tmp_path / "run", "wandb")
    journal.write(2, {"loss": 0.5})
    journal.close()
    import wandb

    wandb.teardown()  # as at the end of a process: until then its service may not have written the file
    (number,) = json.loads((tmp_path / "run" / IDS).read_text()).values()
    (file,) = (tmp_path / "run").glob(f"wandb/offline-run-*-{number}/run-{number}.wandb")
    content = file.read_bytes()
    assert b"training.batch_size" in content and b"loss" in content and b"first" in content
    assert b"someone" not in content and b"test_trackers.py" not in content and b"site-packages" not in content


def test_what_cannot_be_recorded_is_said_before_training(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    need_module("mlflow", "mlflow")
    with pytest.raises(UserError, match="--log mlflow: set MLFLOW_TRACKING_URI to your server"):
        journal_of(tmp_path, "mlflow")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    for name in ("wandb", "mlflow"):
        with pytest.raises(UserError, match=rf"--log {name} needs its client: pip install 'imitate-cxr\[{name}\]'"):
            trackers([name], tmp_path, step=0, recipe={})


def test_a_service_that_goes_away_ends_the_recording_and_not_the_training(tmp_path, mlflow, monkeypatch, caplog):
    journal = journal_of(tmp_path / "run", "mlflow", "csv")

    def refuse(self: object, *args: object, **kwargs: object) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr(type(mlflow), "log_batch", refuse)
    for step in (1, 2):
        journal.write(step, {"loss": 0.5})
    journal.close()
    assert [each for each in caplog.messages if "refused" in each] == [
        "MlflowLogger: no more metrics are recorded there (refused); training continues"
    ]
    assert len((tmp_path / "run" / "csv" / "metrics.csv").read_text().splitlines()) == 3


def test_a_run_says_how_it_ended(tmp_path, data, mlflow, monkeypatch):
    job = start(tmp_path / "run", data, tiny_recipe(steps=3))
    job.log = ("mlflow",)
    from imitate.training import loop

    monkeypatch.setattr(loop, "_save", lambda job, optimizer: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(job)
    assert [run.info.status for run in runs_of(mlflow)] == ["FAILED"]
    monkeypatch.undo()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    job = start(tmp_path / "run", data, tiny_recipe(steps=3))
    job.log = ("mlflow",)
    assert fit(job)
    (run,) = runs_of(mlflow)
    losses = [each.value for each in mlflow.get_metric_history(run.info.run_id, "loss")][-3:]
    assert run.info.status == "FINISHED"
    assert losses == pytest.approx([row["loss"] for row in metrics(tmp_path / "run") if "loss" in row])
