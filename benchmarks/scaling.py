"""Several processes: the curve they share, the bytes they move, and what that makes of a step on many GPUs.

1 to 4 processes on the CPU train one global batch with gloo in float64; their losses must be those of one process.
Gradient bytes are counted in DistributedDataParallel's own buckets, gathered ones at the collective. The model of weak
scaling takes them, the step time of one GPU that ``gpu.py`` measured, and the rates below, which are not measured.

    python benchmarks/scaling.py
"""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from imitate import distributed
from imitate.config import ImitateConfig, ImitateOptions, Recipe, TrainingConfig
from imitate.models.heads import PresentBatchNorm
from imitate.models.imitate import Imitate, seeded_model
from imitate.training import pretraining
from imitate.training.draws import draw_step
from imitate.training.optim import build_optimizer
from imitate.training.pretraining import Pretraining
from loss import BYTES, MATRICES
from measuring import RESULTS, Row, finish, options

SMALL = ImitateConfig(
    backbone="resnet18", backbone_options={"channels": [16, 32, 64, 128]}, prepared_size=72, image_size=64,
    joint_width=128, text_width=64,
)  # fmt: skip
BATCH = 24  # divides by 1, 2, 3 and 4
LINKS = {"NVLink, 8 GPUs": 450e9, "InfiniBand, 400 Gb/s a GPU": 50e9}  # bytes a second and direction, nominal
LATENCY = 20e-6  # s a hop of a ring, assumed
BACKWARD = 2 / 3  # of a step: what the reduction of the gradients overlaps with
MATMUL = 400e12  # float operations a second of a GPU in bf16, assumed, for the products of the loss
MEMORY = 2e12  # bytes a second of a GPU's own memory, assumed, for the rest of the loss
TERMS, PASSES = 6, 3  # of the loss; over each of its matrices: one writes, one reads, one writes the gradient
LOOP = "bf16"  # the setting of gpu.json whose step time is taken


def recipe(steps: int) -> Recipe:
    training = TrainingConfig(batch_size=BATCH, learning_rate=1e-3, epochs=steps, precision="32-true")
    return Recipe(model=SMALL, pretrained=False, training=training)


def model() -> Imitate:
    """The heads normalise over all processes; the backbone is in eval mode, since gloo synchronises none there."""
    made = seeded_model(SMALL, pretrained=False, seed=0).double()
    for module in made.modules():
        if isinstance(module, PresentBatchNorm):
            module.synchronised = True
    made.image.eval()
    return made


def train(rank: int, world: int, steps: int, folder: str) -> None:
    """One process: ``folder/rank.json`` holds its losses, seconds a step and bytes a step."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    settings, share = recipe(steps), BATCH // world
    part = slice(rank * share, (rank + 1) * share)
    module = Pretraining(model(), ImitateOptions(**settings.objective.model_dump()))
    optimizer = build_optimizer(module, settings.training)
    moved = {"gradient": 0, "gathered": 0}
    wrapped: nn.Module = module
    if world > 1:
        wrapped = nn.parallel.DistributedDataParallel(module)
        wrapped.register_comm_hook(moved, counted)
    count_gathers(moved)
    losses, started = [], time.perf_counter()
    for step in range(steps):
        batch = {name: rows[part] for name, rows in sample(step).items()}
        loss = sum(wrapped(batch, draw_step(module.model, settings, step=step, part=part)).values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    row = {"losses": losses, "s": (time.perf_counter() - started) / steps}
    row |= {name: count / steps for name, count in moved.items()}
    (Path(folder) / f"{rank}.json").write_text(json.dumps(row))
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


def counted(moved: dict[str, int], bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    moved["gradient"] += bucket.buffer().numel() * 4  # float32, as in a real run
    return allreduce_hook(None, bucket)  # type: ignore[arg-type]  # the default group


def count_gathers(moved: dict[str, int]) -> None:
    def gather(tensor: torch.Tensor) -> torch.Tensor:
        moved["gathered"] += tensor.numel() * (1 if tensor.dtype == torch.bool else 4)
        return distributed.gather(tensor)

    pretraining.gather = gather


def sample(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (BATCH, 72, 72), dtype=torch.uint8, generator=generator)
    found = {name: torch.randn(BATCH, 64, generator=generator).double() for name in ("findings", "impression")}
    flags = {f"has_{name}": torch.rand(BATCH, generator=generator) > 0.1 for name in found}
    return {"images": images, **found, **flags}


def equality(worlds: list[int], *, steps: int) -> list[Row]:
    """Rows of 1 to 4 processes on one global batch; bytes are those that one process sends to a collective a step."""
    rows: list[Row] = []
    alone: list[float] = []
    for world in worlds:
        with TemporaryDirectory() as folder:
            if world == 1:
                train(0, 1, steps, folder)
            else:
                mp.start_processes(train, (world, steps, folder), nprocs=world, start_method="spawn")
            found = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(world)]
        alone = alone or found[0]["losses"]
        apart = max(abs(a / b - 1) for each in found for a, b in zip(each["losses"], alone, strict=True))
        row = {"processes": world, "steps": steps, "largest difference of the loss": apart, "s a step": found[0]["s"]}
        row |= {"MB of gradients": found[0]["gradient"] / 1e6, "MB gathered": found[0]["gathered"] / 1e6}
        rows.append(row | {"MB of the images": BATCH // world * 72**2 * 2 / 1e6})
    return rows


def weak_scaling(share: int, pairs: float) -> list[Row]:
    """A step of the published model with ``share`` pairs a GPU.

    t = forward + max(backward, reduction) + gathers + loss: gradients are reduced on a ring, 2 (W - 1) / W of their
    bytes, while backward still runs; embeddings are gathered before it, gradients of them after. A GPU computes the
    rows of its own pairs against the whole batch: an own x N product for each direction of each term, three times with
    its gradients, one for each section's prior, and the rest at the speed of memory.
    """
    network = seeded_model(ImitateConfig(), pretrained=False, seed=0)
    gradients = 4 * sum(p.numel() for p in network.parameters() if p.requires_grad)
    width, texts = network.config.joint_width, network.config.text_width
    gathered = share * 4 * (8 * width + 2 * texts)  # six image rows, two of text, two of the prior, of each pair
    compute = share / pairs
    rows = []
    for gpus in (1, 8, 64, 512):
        link = "NVLink, 8 GPUs" if gpus <= 8 else "InfiniBand, 400 Gb/s a GPU"
        ring = 2 * (gpus - 1) / gpus * gradients / LINKS[link] + 2 * (gpus - 1) * LATENCY
        rows_moved = 2 * (gpus - 1) * (gathered / LINKS[link] + LATENCY)
        batch = share * gpus
        loss = 2 * share * batch * (3 * 2 * TERMS * width + 2 * texts) / MATMUL
        loss += PASSES * 4 * MATRICES * share * batch / MEMORY
        step = compute * (1 - BACKWARD) + max(compute * BACKWARD, ring) + rows_moved + loss
        row: dict[str, str | float] = {"GPUs": gpus, "global batch": batch, "link": "none" if gpus == 1 else link}
        row |= {"compute ms": 1e3 * compute, "reduction ms": 1e3 * ring if gpus > 1 else 0.0}
        row |= {"gathers ms": 1e3 * rows_moved, "loss ms": 1e3 * loss}
        row["GB of the loss"] = (4 * MATRICES * share * batch + BYTES * batch) / 1e9
        rows.append(row | {"step ms": 1e3 * step, "pairs/s": batch / step, "efficiency": batch / step / gpus / pairs})
    return rows


def measured_pairs() -> float:
    """Pairs a second of the whole loop on one GPU."""
    loop = json.loads((RESULTS / "gpu.json").read_text())["tables"]["loop"]
    return float(next(row["pairs/s"] for row in loop if row["setting"] == LOOP))


def main() -> None:
    arguments = options(__doc__).parse_args()
    worlds, steps = ([1, 2], 3) if arguments.quick else ([1, 2, 3, 4], 20)
    tables = {"equality": equality(worlds, steps=steps)}
    tables["weak"] = weak_scaling(128, measured_pairs())
    tables["weak_small"] = weak_scaling(16, measured_pairs())
    finish(arguments, "scaling", tables)


if __name__ == "__main__":
    main()
