"""The engine: Fabric on one CPU, one GPU or many nodes, without a branch in the loop."""

import torch
from lightning_fabric import Fabric

from imitate.config import TrainingConfig
from imitate.types import UserError


def launch(training: TrainingConfig, *, threads: int | None = None) -> Fabric:
    """Start the processes. ``threads`` bounds the compute threads of each; default: torch's own choice."""
    if threads is not None:
        torch.set_num_threads(threads)
    fabric = Fabric(devices=training.devices, num_nodes=training.nodes, precision=training.precision)
    fabric.launch()
    if training.batch_size % fabric.world_size:
        raise UserError(f"batch_size {training.batch_size} is global and must divide by {fabric.world_size} processes")
    return fabric


def rank_slice(fabric: Fabric, batch_size: int) -> slice:
    """This process's part of a global batch."""
    share = batch_size // fabric.world_size
    return slice(fabric.global_rank * share, (fabric.global_rank + 1) * share)
