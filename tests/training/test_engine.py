import logging
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning_fabric import Fabric

from imitate.config import TrainingConfig
from imitate.errors import UserError
from imitate.models.heads import PresentBatchNorm
from imitate.training import engine, precision
from imitate.training.precision import Mixed

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}
ALLOCATION = {"SLURM_NTASKS": "6", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "3", "SLURM_JOB_NAME": "train.sh"}
SRUN = {**ALLOCATION, "SLURM_STEP_NUM_TASKS": "6"}


@pytest.fixture
def asked(monkeypatch):
    """How many devices and machines Fabric gets."""
    for name in {*TORCHRUN, *SRUN}:
        monkeypatch.delenv(name, raising=False)

    def processes(environment: dict[str, str], **settings: object) -> tuple[object, object]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return engine.processes(TrainingConfig(**settings))

    return processes


@pytest.mark.parametrize("environment", [TORCHRUN, SRUN], ids=["torchrun", "srun"])
def test_the_launched_processes_decide(asked, environment):
    assert asked(environment) == asked(environment, nodes=3) == asked(environment, devices=2, nodes=3) == (2, 3)
    for settings in ({"devices": 1}, {"devices": 2}, {"devices": 6, "nodes": 1}, {"nodes": 2}):
        with pytest.raises(UserError, match="2 processes on each of 3 machines were launched, but training.devices"):
            asked(environment, **settings)


def test_an_allocation_without_srun_names_srun(asked):
    for settings in ({}, {"devices": 2}, {"devices": 2, "nodes": 3}):
        with pytest.raises(UserError, match="6 tasks, but one process was started: put srun before the command"):
            asked(ALLOCATION, **settings)
    assert asked(ALLOCATION, devices=1) == (1, 1)
    with pytest.raises(UserError, match="SLURM has allocated 2 tasks, but one process was started"):
        asked({**ALLOCATION, "SLURM_NTASKS": "2"})


def test_tasks_without_a_number_for_each_machine_are_refused_in_one_line(asked):
    with pytest.raises(UserError, match="SLURM started 6 tasks in a job without --ntasks-per-node"):
        asked({key: value for key, value in SRUN.items() if key != "SLURM_NTASKS_PER_NODE"})


def test_without_a_launcher_the_recipe_decides(asked):
    assert asked({}) == ("auto", 1) and asked({}, devices=4, nodes=2) == (4, 2)
    assert asked({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train.sh"}) == ("auto", 1)
    assert asked({**ALLOCATION, "SLURM_JOB_NAME": "bash"}, devices=2) == (2, 1)  # Fabric starts them itself


def test_torchrun_of_one_process(asked):
    assert asked({**TORCHRUN, "LOCAL_WORLD_SIZE": "1", "WORLD_SIZE": "1"}) == asked({}, devices=1) == (1, 1)


def test_torchrun_within_an_allocation(asked):
    assert asked({**ALLOCATION, **TORCHRUN}) == (2, 3)


class Processes(Fabric):
    """An engine of so many processes, of which this is the first; its launch sets the threads, as Fabric's does."""

    world_size: Any = 2
    is_global_zero: Any = True

    def __init__(self, **settings: object) -> None:
        self.settings = settings

    def launch(self) -> None:
        torch.set_num_threads(1)


@pytest.fixture
def two(asked, monkeypatch):
    assert asked(TORCHRUN) == (2, 3)
    monkeypatch.setattr(engine, "Fabric", Processes)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_the_engine_gets_what_the_recipe_says_and_the_batch_must_divide(two, monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: True)
    made: Any = engine.launch(TrainingConfig(batch_size=16, strategy="ddp", precision="bf16-mixed"))
    plugin = made.settings.pop("plugins")[0]
    assert isinstance(plugin, Mixed) and (plugin.precision, plugin.device) == ("bf16-mixed", "cpu")
    assert made.settings == {"accelerator": "cpu", "strategy": "ddp", "devices": 2, "num_nodes": 3}
    with pytest.raises(UserError, match="batch_size 9 is global and must be divisible by 2 processes"):
        engine.launch(TrainingConfig(batch_size=9))
    with pytest.raises(UserError, match=r"training.accelerator is cuda, but this machine has cpu"):
        engine.launch(TrainingConfig(accelerator="cuda"))


def test_threads_are_bounded_after_the_launch_which_sets_them(two):
    before = torch.get_num_threads()
    engine.launch(TrainingConfig(batch_size=16), threads=3)
    found = torch.get_num_threads()
    torch.set_num_threads(before)
    assert found == 3


@pytest.mark.parametrize("rows", [2, 4])
def test_one_row_for_the_heads_is_refused(rows):
    """A row less its own mean is zero, and so is every gradient."""
    alone = PresentBatchNorm(3, affine=False)(torch.randn(1, 3))
    assert torch.equal(alone, torch.zeros(1, 3))
    with pytest.raises(
        UserError, match="leaves one sample for each, which the heads' BatchNorm normalises with itself"
    ):
        engine.check_rows(TrainingConfig(batch_size=rows, sync_batchnorm=False), rows)
    engine.check_rows(TrainingConfig(batch_size=rows), rows)  # synchronised by default
    for setting in ("objective.negatives=rank", "objective.grounding"):
        with pytest.raises(UserError, match=f"one sample for each, which {setting} contrasts with itself"):
            engine.check_rows(TrainingConfig(batch_size=rows), rows, contrasts_within=setting)


def test_few_rows_for_the_heads_are_reported(caplog):
    engine.check_rows(TrainingConfig(batch_size=8), 4)
    engine.check_rows(TrainingConfig(batch_size=16, sync_batchnorm=False), 2)
    assert not caplog.text
    engine.check_rows(TrainingConfig(batch_size=14, sync_batchnorm=False), 2)
    assert caplog.messages == [
        "the heads' BatchNorm sees 7 samples at once: raise training.batch_size, or set training.sync_batchnorm=heads"
    ]


def test_a_sample_for_each_process_is_enough_where_all_are_contrasted(two, caplog):
    engine.launch(TrainingConfig(batch_size=2))
    assert "sees 2 samples at once" in caplog.text


def test_deterministic_algorithms_are_asked_for(two):
    engine.launch(TrainingConfig(batch_size=16))
    assert not torch.are_deterministic_algorithms_enabled()
    engine.launch(TrainingConfig(batch_size=16, deterministic=True))
    found = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    assert found and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_processes_that_fabric_started_are_ended(monkeypatch):
    """NCCL's collectives would wait for a process that has failed."""
    monkeypatch.setattr(engine, "GRACE", 0.01)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(Processes, "strategy", SimpleNamespace(launcher=SimpleNamespace(procs=[child])))
    with pytest.raises(UserError, match="a mistake"), engine.together(Processes()):
        raise UserError("a mistake")
    assert child.wait() != 0


def test_a_process_that_ends_by_itself_is_not_killed(monkeypatch):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.1); raise SystemExit(7)"])
    monkeypatch.setattr(Processes, "strategy", SimpleNamespace(launcher=SimpleNamespace(procs=[child])))
    with pytest.raises(UserError, match="a mistake"), engine.together(Processes()):
        raise UserError("a mistake")
    assert child.wait() == 7 and Processes.strategy.launcher.procs == []


@pytest.mark.parametrize(
    ("error", "world", "lost"),
    [
        (RuntimeError("[gloo/transport] connection closed"), 2, True),
        (dist.DistError("timeout"), 2, True),
        (RuntimeError("[gloo/transport] connection closed"), 1, False),
        (RuntimeError("shapes"), 2, False),
        (ValueError("gloo"), 2, False),
    ],
)
def test_a_process_that_lost_another_says_so(monkeypatch, error, world, lost):
    monkeypatch.setattr(Processes, "strategy", SimpleNamespace(launcher=None))
    monkeypatch.setattr(Processes, "world_size", world)
    with pytest.raises(UserError if lost else type(error)) as reported, engine.together(Processes()):
        raise error
    ended = "another process of this run has ended, see its message: run the same command again, with any number "
    assert str(reported.value).startswith(ended) == (str(reported.value) == engine.ENDED) == lost


@pytest.mark.parametrize("other_fails", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_where_one_process_fails_all_end(monkeypatch, fails, other_fails):
    reported = []

    def all_reduce(failed: torch.Tensor) -> None:
        reported.append(int(failed))
        failed += other_fails

    monkeypatch.setattr(engine.dist, "all_reduce", all_reduce)
    monkeypatch.setattr(Processes, "device", torch.device("cpu"))
    reached = []
    try:
        with engine.agreed(Processes()):
            if fails:
                raise ZeroDivisionError
        reached.append(True)
    except (ZeroDivisionError, UserError) as error:
        assert isinstance(error, ZeroDivisionError) if fails else str(error) == engine.ENDED
    assert reported == [fails] and bool(reached) == (not fails and not other_fails)


@pytest.mark.parametrize("fails", [False, True])
def test_a_process_that_is_gone_hides_no_failure(monkeypatch, fails):
    def all_reduce(failed: torch.Tensor) -> None:
        raise RuntimeError("connection closed")

    monkeypatch.setattr(engine.dist, "all_reduce", all_reduce)
    monkeypatch.setattr(Processes, "device", torch.device("cpu"))
    with pytest.raises(ZeroDivisionError if fails else RuntimeError), engine.agreed(Processes()):
        if fails:
            raise ZeroDivisionError
    monkeypatch.setattr(Processes, "world_size", 1)
    with engine.agreed(Processes()):  # alone, it asks nobody
        pass


def test_each_process_has_its_part_of_a_batch(monkeypatch):
    monkeypatch.setattr(Processes, "world_size", 3)
    for rank in range(3):
        monkeypatch.setattr(Processes, "global_rank", rank)
        assert list(range(12))[engine.rank_slice(Processes(), 12)] == list(range(4 * rank, 4 * rank + 4))


@pytest.mark.parametrize(
    ("cuda", "mps", "first", "found"),
    [(True, True, "cuda", "cuda, mps, cpu"), (False, True, "mps", "mps, cpu"), (False, False, "cpu", "cpu")],
)
def test_the_device_is_the_first_there_is_or_the_one_asked_for(monkeypatch, cuda, mps, first, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert engine.accelerator(TrainingConfig()) == first
    for name in ("cuda", "mps", "cpu"):
        if name in found:
            assert engine.accelerator(TrainingConfig(accelerator=name)) == name
        else:
            with pytest.raises(UserError, match=f"training.accelerator is {name}, but this machine has {found}$"):
                engine.accelerator(TrainingConfig(accelerator=name))


def test_only_the_first_process_says_what_all_would_say(two, monkeypatch, caplog):
    logger = logging.getLogger("imitate")
    before = logger.level
    monkeypatch.setattr(Processes, "is_global_zero", False)
    engine.launch(TrainingConfig(batch_size=4))
    level = logger.level
    logger.setLevel(before)
    assert level == logging.WARNING and not caplog.text
    with pytest.raises(UserError, match="objective.negatives=rank"):
        engine.launch(TrainingConfig(batch_size=2), contrasts_within="objective.negatives=rank")
    logger.setLevel(before)
