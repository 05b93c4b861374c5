"""Where a run's curves go beside ``metrics.jsonl``: TensorBoard, CSV, Weights & Biases, MLflow.

Each is a Fabric ``Logger``; the first two are Fabric's own. What is recorded is the recipe and the rows of metrics: no
image, no report, no id and no path. Nothing is sent anywhere unless wandb or mlflow is named.
"""

import json
import logging
import os
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar

from lightning_fabric.loggers import CSVLogger, TensorBoardLogger
from lightning_fabric.loggers.logger import Logger

from imitate.config.files import read_json
from imitate.errors import UserError
from imitate.names import Tracker

log = logging.getLogger(__name__)
PROJECT = "imitate"  # unless WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME names another
IDS = "trackers.json"  # of a run folder: under which id the run is known to each service
Row = Mapping[str, float]


def trackers(
    names: Sequence[Tracker], folder: Path, *, step: int, recipe: Mapping[str, Any], rows: Sequence[Row] = ()
) -> list[Logger]:
    """The loggers of a run that starts or continues at ``step``, with ``rows`` of metrics already written.

    UserError: a client is not installed, or its service cannot be reached.
    """
    return [_open(name, folder, step, _flat(recipe), rows) for name in dict.fromkeys(names)]


def _open(name: Tracker, folder: Path, step: int, recipe: dict[str, Any], rows: Sequence[Row]) -> Logger:
    if name == "tensorboard":
        return TensorBoardLogger(str(folder), name=name, version="", purge_step=step + 1)
    if name == "csv":
        return _csv(folder, rows)
    if find_spec(name) is None:
        raise UserError(f"--log {name} needs its client: pip install 'imitate-cxr[{name}]'")
    kind = WandbLogger if name == "wandb" else MlflowLogger
    try:
        return kind(folder, recipe)
    except UserError:
        raise
    except Exception as error:  # of the client, its network or its service: of many types
        line = " ".join(str(error).split())[:300]
        raise UserError(f"--log {name}: the run cannot be recorded there ({type(error).__name__}: {line})") from error


def _csv(folder: Path, rows: Sequence[Row]) -> CSVLogger:
    """Written anew from ``rows``: Fabric's logger replaces the file of an earlier start."""
    (folder / "csv" / "metrics.csv").unlink(missing_ok=True)
    logger = CSVLogger(str(folder), name="csv", version="", flush_logs_every_n_steps=1)
    for row in rows:
        logger.log_metrics({key: value for key, value in row.items() if key != "step"}, step=int(row["step"]))
    return logger


def _flat(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"training": {"seed": 0}}`` as ``{"training.seed": 0}``; of a path only its last part."""
    found: dict[str, Any] = {}
    for key, value in recipe.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": _bare(value)}
    if found.get("init"):
        found["init"] = PureWindowsPath(str(found["init"])).name
    return found


def _bare(value: Any) -> Any:
    """``hf:FOLDER`` and an absolute path without the folders above; ``hf:OWNER/NAME@REVISION`` is of the hub."""
    if not isinstance(value, str):
        return value
    kind, name = ("hf:", value[3:]) if value.startswith("hf:") else ("", value)
    path = PureWindowsPath(name)  # which reads both kinds of paths
    return f"{kind}{path.name}" if path.root or (kind and "@" not in name) else value


def _known_id(folder: Path, service: str) -> str | None:
    """The run's id at a service, which an earlier start has noted."""
    path = folder / IDS
    ids: dict[str, str] = read_json(path, holds="the ids of the run") if path.is_file() else {}
    return ids.get(service)


def _note_id(folder: Path, service: str, number: str) -> str:
    path = folder / IDS
    known = read_json(path, holds="the ids of the run") if path.is_file() else {}
    part = path.with_name(f"{IDS}.part")
    part.write_text(json.dumps({**known, service: number}, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
    return number


class ServiceLogger(Logger):
    """A run at a service. An error of the service ends the recording, with a warning, and not the training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ended = False

    @property
    def name(self) -> str:
        return PROJECT

    @property
    def version(self) -> str:
        return self.folder.name

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Written once, when the run is made."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self._ended:
            return
        try:
            self._send(metrics, step or 0)
        except Exception as error:
            self._ended = True
            line = " ".join(str(error).split())[:300]
            log.warning("%s: no more metrics are recorded there (%s); training continues", type(self).__name__, line)

    def finalize(self, status: str) -> None:
        with suppress(Exception):  # training has ended: nothing is left to protect
            self._finish(status)

    def _send(self, metrics: Mapping[str, float], step: int) -> None:
        raise NotImplementedError

    def _finish(self, status: str) -> None:
        raise NotImplementedError


class WandbLogger(ServiceLogger):
    """Weights & Biases. WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE=offline and its other variables hold.

    Of the machine, its client sends the use of processors and memory, but no host name, program, code or git state.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        import wandb

        super().__init__(folder)
        settings = wandb.Settings(
            console="off",
            disable_git=True,
            disable_code=True,
            save_code=False,
            x_disable_meta=True,
            host="",
            silent=True,
        )
        number = _known_id(folder, "wandb") or _note_id(folder, "wandb", uuid.uuid4().hex[:8])
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=folder.name, id=number, resume="allow",
            dir=str(folder), config=dict(recipe), settings=settings,
        )  # fmt: skip
        self._run.define_metric("*", step_metric="step")

    def _send(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log({**metrics, "step": step})

    def _finish(self, status: str) -> None:
        self._run.finish(exit_code=int(status == "failed"))


class MlflowLogger(ServiceLogger):
    """MLflow, at MLFLOW_TRACKING_URI; MLFLOW_EXPERIMENT_NAME and its other variables hold."""

    MOST = 100  # parameters a request
    STATES: ClassVar = {"success": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}

    def __init__(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        super().__init__(folder)
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            raise UserError("--log mlflow: set MLFLOW_TRACKING_URI to your server, such as http://localhost:5000")
        self._client = MlflowClient()
        if known := _known_id(folder, "mlflow"):
            self._run = known
            self._client.update_run(known, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        run = self._client.create_run(experiment, run_name=folder.name)
        self._run = _note_id(folder, "mlflow", run.info.run_id)
        params = [Param(key, str(value)) for key, value in recipe.items()]
        for start in range(0, len(params), self.MOST):
            self._client.log_batch(self._run, params=params[start : start + self.MOST])

    def _send(self, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        values = [Metric(re.sub(r"[^\w .:/-]", "_", key), float(value), now, step) for key, value in metrics.items()]
        self._client.log_batch(self._run, metrics=values)

    def _finish(self, status: str) -> None:
        self._client.set_terminated(self._run, status=self.STATES[status])
