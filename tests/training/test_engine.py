import pytest

from imitate.config import TrainingConfig
from imitate.errors import UserError
from imitate.training import engine

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}
ALLOCATION = {"SLURM_NTASKS": "6", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "3", "SLURM_JOB_NAME": "train.sh"}
SRUN = {**ALLOCATION, "SLURM_STEP_NUM_TASKS": "6"}


@pytest.fixture
def asked(monkeypatch):
    """How many devices and machines Fabric is asked for."""
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


def test_without_a_launcher_the_recipe_decides(asked):
    assert asked({}) == ("auto", 1) and asked({}, devices=4, nodes=2) == (4, 2)
    assert asked({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train.sh"}) == ("auto", 1)
    assert asked({**ALLOCATION, "SLURM_JOB_NAME": "bash"}, devices=2) == (2, 1)  # Fabric starts them itself


def test_torchrun_within_an_allocation(asked):
    assert asked({**ALLOCATION, **TORCHRUN}) == (2, 3)


def test_the_batch_must_divide_by_the_processes(asked, monkeypatch):
    class TwoProcesses:
        world_size, is_global_zero = 2, True

        def __init__(self, *, devices: object, num_nodes: object, precision: object) -> None:
            assert (devices, num_nodes) == (2, 3)

        def launch(self) -> None:
            pass

    assert asked(TORCHRUN) == (2, 3)
    monkeypatch.setattr(engine, "Fabric", TwoProcesses)
    with pytest.raises(UserError, match="batch_size 9 is global and must divide by 2 processes"):
        engine.launch(TrainingConfig(batch_size=9))
