"""The engine: Fabric on one CPU, one GPU or many nodes, without a branch in the loop."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from lightning_fabric import Fabric

from imitate.config import TrainingConfig
from imitate.errors import UserError


def launch(training: TrainingConfig, *, threads: int | None = None) -> Fabric:
    """Start the processes. ``threads`` bounds the compute threads of each; default: torch's own choice."""
    if threads is not None:
        torch.set_num_threads(threads)
    devices, nodes = processes(training)
    fabric = Fabric(devices=devices, num_nodes=nodes, precision=training.precision)
    fabric.launch()
    if not fabric.is_global_zero:
        logging.getLogger("imitate").setLevel(logging.WARNING)  # what every process says is said once
    if training.batch_size % fabric.world_size:
        raise UserError(f"batch_size {training.batch_size} is global and must divide by {fabric.world_size} processes")
    return fabric


def processes(training: TrainingConfig) -> tuple[int | str, int]:
    """Devices a machine, and machines: as the recipe says, or where it leaves that open, as torchrun or srun started
    processes. UserError where they differ."""
    found, allocated = _launched(), int(os.environ.get("SLURM_NTASKS", 1))
    wanted = training.devices, training.nodes
    if found == (1, 1) and allocated > 1 and wanted != (1, 1):
        raise UserError(
            f"SLURM has allocated {allocated} tasks, but one process was started: put srun before the command, or give "
            "--training.devices 1 to train with this process alone"
        )
    if found is None or wanted == found:
        return wanted
    if training.devices == "auto" and training.nodes in (1, found[1]):
        return found
    raise UserError(
        f"{found[0]} processes on each of {found[1]} machines were launched, but training.devices is "
        f"{training.devices} and training.nodes {training.nodes}: leave both out, or launch as many"
    )


def _launched() -> tuple[int, int] | None:
    """Processes a machine, and machines; None where no launcher is at work."""
    if dist.is_available() and dist.is_torchelastic_launched():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    tasks = int(os.environ.get("SLURM_NTASKS", 1))
    if tasks == 1 or os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):  # where Fabric looks no further
        return None
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) < tasks:
        return 1, 1
    nodes = int(os.environ.get("SLURM_NNODES", 1))
    return int(os.environ.get("SLURM_NTASKS_PER_NODE", tasks // nodes)), nodes


@contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """Where a process of several dies, the others' next collective fails: they end too, and say so in one line."""
    try:
        yield
    except RuntimeError as error:
        if fabric.world_size == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise UserError(
            "another process of this run has ended, see its own message: run the same command again, with any number "
            "of processes, it continues from the last checkpoint"
        ) from error


def rank_slice(fabric: Fabric, batch_size: int) -> slice:
    """This process's part of a global batch."""
    share = batch_size // fabric.world_size
    return slice(fabric.global_rank * share, (fabric.global_rank + 1) * share)
