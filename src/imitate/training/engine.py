"""The engine: Fabric on one CPU, one GPU or many nodes, without a branch in the loop."""

import logging
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
    fabric = Fabric(devices=training.devices, num_nodes=training.nodes, precision=training.precision)
    fabric.launch()
    if not fabric.is_global_zero:
        logging.getLogger("imitate").setLevel(logging.WARNING)  # what every process says is said once
    if training.batch_size % fabric.world_size:
        raise UserError(f"batch_size {training.batch_size} is global and must divide by {fabric.world_size} processes")
    return fabric


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
