"""The engine: Fabric on one CPU, one GPU or many nodes, without a branch in the loop."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from lightning_fabric import Fabric

from imitate.config import TrainingConfig
from imitate.errors import UserError
from imitate.training.precision import possible, precision_plugin

log = logging.getLogger(__name__)

ENDED = (
    "another process of this run has ended, see its message: run the same command again, with any number of "
    "processes; it continues from the last checkpoint"
)
FEW_ROWS = 8  # for the statistics of the heads' BatchNorm
GRACE = 5  # seconds in which the other processes may end by themselves


def launch(training: TrainingConfig, *, threads: int | None = None, contrasts_within: str = "") -> Fabric:
    """Start the processes. ``threads`` bounds the compute threads of each; default: torch's own choice.

    ``contrasts_within``: the setting by which a term compares the samples of one process only; empty: there is none.
    """
    devices, nodes = processes(training)
    device = accelerator(training)
    if training.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first use of cuBLAS, which reads it
        torch.use_deterministic_algorithms(True)
    precision, remarks = possible(training.precision, device)
    fabric = Fabric(
        accelerator=device, strategy=training.strategy, devices=devices, num_nodes=nodes,
        plugins=[precision_plugin(precision, device)],
    )  # fmt: skip
    fabric.launch()
    if threads is not None:
        torch.set_num_threads(threads)  # not before: starting several processes sets it
    if fabric.is_global_zero:
        for remark in remarks:
            log.warning(remark)
    else:
        logging.getLogger("imitate").setLevel(logging.WARNING)  # what every process says is said once
    check_rows(training, fabric.world_size, contrasts_within=contrasts_within, warn=fabric.is_global_zero)
    return fabric


def accelerator(training: TrainingConfig) -> str:
    """The type of device to train on. UserError where the machine does not have it."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if training.accelerator == "auto":
        return next(name for name, is_there in there.items() if is_there)
    if not there[training.accelerator]:
        found = ", ".join(name for name, is_there in there.items() if is_there)
        raise UserError(f"training.accelerator is {training.accelerator}, but this machine has {found}")
    return training.accelerator


def check_rows(training: TrainingConfig, world: int, *, contrasts_within: str = "", warn: bool = True) -> None:
    """UserError where the batch cannot be divided, or leaves one sample where BatchNorm or the loss needs several.

    Normalised over one row every embedding is zero, over two rows both are always opposite.
    """
    if training.batch_size % world:
        raise UserError(f"batch_size {training.batch_size} is global and must be divisible by {world} processes")
    share = training.batch_size // world
    rows = training.batch_size if training.sync_batchnorm else share
    if rows == 1 or (share == 1 and contrasts_within):
        needs = f"{contrasts_within} contrasts" if rows > 1 else "the heads' BatchNorm normalises"
        raise UserError(
            f"batch_size {training.batch_size} over {world} processes leaves one sample for each, which {needs} with "
            "itself: raise training.batch_size, or lower training.devices"
        )
    if rows < FEW_ROWS and warn:
        log.warning("the heads' BatchNorm sees %d samples at once: raise training.batch_size, or set "
                    "training.sync_batchnorm=heads", rows)  # fmt: skip


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
        f"{training.devices} and training.nodes {training.nodes}: omit both, or launch as many"
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
    if "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise UserError(
            f"SLURM started {tasks} tasks in a job without --ntasks-per-node: give it, since Fabric needs it"
        )
    return int(os.environ["SLURM_NTASKS_PER_NODE"]), int(os.environ.get("SLURM_NNODES", 1))


@contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """Where a process of several fails, the others end too, and say so in one line.

    gloo's collectives fail as soon as a process is gone. NCCL's wait: the processes that this one started are ended
    by it, and those of torchrun by torchrun.
    """
    try:
        yield
    except BaseException as error:
        _end_started(fabric)
        is_lost = isinstance(error, RuntimeError) and (isinstance(error, dist.DistError) or "gloo" in str(error))
        if fabric.world_size > 1 and is_lost:
            raise UserError(ENDED) from error
        raise


def _end_started(fabric: Fabric) -> None:
    """End the processes that Fabric started from this one; they are given time to end by themselves."""
    until, started = time.monotonic() + GRACE, getattr(fabric.strategy.launcher, "procs", [])
    ending = list(started)
    started.clear()  # Fabric watches the list, and would kill this process too where one of it ends
    for process in ending:
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        process.kill()  # which does nothing to one that has ended


@contextmanager
def agreed(fabric: Fabric) -> Iterator[None]:
    """A block without collectives after which all processes go on, or none: where one fails in it, every one ends.

    It takes the place of a barrier behind the work of one process, at which the others would wait in vain.
    """
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    if fabric.world_size > 1:
        failed = torch.tensor(int(failure is not None), device=fabric.device)
        try:
            dist.all_reduce(failed)
        except RuntimeError:
            if failure is None:
                raise
        if failure is None and failed:
            raise UserError(ENDED)
    if failure is not None:
        raise failure


def rank_slice(fabric: Fabric, batch_size: int) -> slice:
    """This process's part of a global batch."""
    share = batch_size // fabric.world_size
    return slice(fabric.global_rank * share, (fabric.global_rank + 1) * share)
