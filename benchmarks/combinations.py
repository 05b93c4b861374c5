"""Every combination of precision, compilation, chunks, clipping and optimizer in the training loop itself, on a small
network: does it run, and does the loss follow that of the plainest one?"""

import itertools
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from imitate.config import ImitateConfig, ImitateOptions, Recipe, TrainingConfig
from imitate.models.imitate import seeded_model
from imitate.training import loop
from imitate.training.draws import draw_step, move
from imitate.training.pretraining import Pretraining
from measuring import Row
from whole_loop import Ended, Sizes, fit_with, job, synchronise, write_folder

SMALL = ImitateConfig(
    backbone="resnet18",
    backbone_options={"channels": [32, 64, 128, 256]},
    prepared_size=72,
    image_size=64,
    joint_width=128,
    text_width=128,
)
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
CLIP = 1.0
START = 2.0**16  # of the scaler of 16-mixed, which halves at every step that it skips


class Curve(NamedTuple):
    losses: list[float]
    seconds: float  # a step, after the first third
    skipped: int  # steps whose gradient overflowed


def curve(made: loop.Job, count: int, device: str) -> Curve:
    """The first ``count`` steps of ``fit`` itself."""
    losses: list[torch.Tensor] = []
    marks: list[float] = []

    def step(*arguments: Any) -> Any:
        if made.step in (count // 3, count):
            synchronise(device)
            marks.append(time.perf_counter())
        if made.step == count:
            raise Ended
        terms = original(*arguments)
        losses.append(terms["loss"])
        return terms

    original = loop._step
    fit_with(step, made)
    scaler = getattr(made.fabric.strategy.precision, "scaler", None)
    skipped = 0 if scaler is None else round(math.log2(START / scaler.get_scale()))
    return Curve([float(loss) for loss in losses], (marks[1] - marks[0]) / (count - count // 3), skipped)


@contextmanager
def unfused(on: bool) -> Iterator[None]:
    """AdamW as a loop over tensors, where the loop would build the fused one."""
    original = loop.build_optimizer

    def build(*arguments: Any) -> torch.optim.AdamW:
        optimizer = original(*arguments)
        for group in optimizer.param_groups:
            group["fused"] = False
        return type(optimizer)([{**group} for group in optimizer.param_groups])

    if on:
        setattr(loop, "build_optimizer", build)  # noqa: B010
    try:
        yield
    finally:
        setattr(loop, "build_optimizer", original)  # noqa: B010


def cross(device: str, folder: Path, *, batch: int, count: int, compiled: bool) -> Iterator[Row]:
    """A row for each combination of the other settings; its losses beside those of fp32, eager, unfused and unclipped.

    ``off by`` is the largest difference over the steps, as a fraction of the loss. BatchNorm has the statistics of a
    chunk, so that each curve is compared with one of equal chunks.
    """
    folder = folder / ("compiled" if compiled else "eager")
    sizes = Sizes(batch, batch * (count + 1), count, 1, 0, 0, SMALL)
    data = write_folder(folder / "data", sizes)
    logging.getLogger("torch.utils._sympy").setLevel(logging.ERROR)  # a warning for each shape
    numbers = itertools.count()

    def trained(fused: bool, clip: bool, **training: Any) -> Curve:
        with unfused(not fused):
            training |= {"learning_rate": 5e-4, "clip_gradient": CLIP if clip else None}
            return curve(job(data, folder / f"run{next(numbers)}", sizes, device, **training), count, device)

    for chunk in (None, batch // 2):
        torch.compiler.reset()  # else the second size of a chunk would be compiled for any size
        plain = trained(False, False, chunk=chunk, precision="32-true")
        for fused, clip in itertools.product((False, True), (False, True)):
            row: Row = {"compile": "yes" if compiled else "-", "chunk": chunk or "-"}
            row |= {"AdamW": "fused" if fused else "loop", "clip": CLIP if clip else "-"}
            skipped = 0
            for name, precision in PRECISIONS.items():
                try:
                    found = trained(
                        fused, clip, chunk=chunk, precision=precision, compile="default" if compiled else None
                    )
                except Exception as error:
                    row |= {f"{name} off by": f"{type(error).__name__}: {str(error)[:60]}", f"{name} ms": "-"}
                    continue
                pairs = zip(found.losses, plain.losses, strict=True)
                row |= {f"{name} off by": max(abs(a - b) / abs(b) for a, b in pairs), f"{name} ms": 1e3 * found.seconds}
                skipped = found.skipped
            yield row | {"fp16 skipped": skipped}


def ranks(device: str, *, batch: int) -> Iterator[Row]:
    """Two processes with half the batch each, BatchNorm synchronised, beside one with all of it: the gradient.

    On a CPU the backbone has LayerNorm, since torch synchronises BatchNorm on GPUs only; the heads' is our own.
    """
    for port, (name, precision) in enumerate((("fp32", None), ("bf16", torch.bfloat16)), start=29_600):
        whole = gradient(device, precision, batch=batch, rank=0, world=1)
        context = mp.get_context("spawn")
        queue = context.SimpleQueue()
        started = [
            context.Process(target=_rank, args=(rank, port, device, precision, batch, queue)) for rank in range(2)
        ]
        for process in started:
            process.start()
        found = queue.get()
        for process in started:
            process.join()
        if isinstance(found, str):
            raise RuntimeError(found)
        row: Row = {"precision": name, "processes": 2, "loss of one": whole[0], "loss of two": found[0]}
        row["gradient differs by"] = float((torch.from_numpy(found[1]) - whole[1]).norm() / whole[1].norm())
        yield row


def gradient(
    device: str, precision: torch.dtype | None, *, batch: int, rank: int, world: int
) -> tuple[float, torch.Tensor]:
    """Loss and gradient of the global batch: this process sees its part, with synchronised BatchNorm."""
    other = {"backbone": "convnext_atto", "backbone_options": {}}
    config = SMALL if device == "cuda" else SMALL.model_copy(update=other)
    model = seeded_model(config, pretrained=False, seed=0)
    if world > 1:
        model.synchronise()
    module = Pretraining(model, ImitateOptions()).to(device)
    part = slice(rank * batch // world, (rank + 1) * batch // world)
    recipe = Recipe(model=config, pretrained=False, training=TrainingConfig(batch_size=batch))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 72, 72), dtype=torch.uint8, generator=generator)
    text = torch.randn(batch, SMALL.text_width, generator=generator)
    flags = torch.ones(batch, dtype=torch.bool)
    sample = {"images": images, "findings": text, "impression": text}
    sample |= {"has_findings": flags, "has_impression": flags}
    draw = move(draw_step(model, recipe, step=0, part=part), torch.device(device))
    with torch.backends.cudnn.flags(allow_tf32=False):
        with torch.autocast(torch.device(device).type, precision or torch.bfloat16, enabled=precision is not None):
            terms = module({name: value[part].to(device) for name, value in sample.items()}, draw)
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
    grad = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    if world > 1:
        dist.all_reduce(grad)
        grad /= world
    return float(loss.detach()), grad.cpu()


def _rank(rank: int, port: int, device: str, precision: torch.dtype | None, batch: int, queue: Any) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        found: Any = gradient(device, precision, batch=batch, rank=rank, world=2)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    if rank == 0:
        queue.put(found if isinstance(found, str) else (found[0], found[1].numpy()))
    dist.destroy_process_group()
