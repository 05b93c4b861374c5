"""The training loop, readable from top to bottom."""

import json
import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from imitate.config import Recipe
from imitate.data.sampler import BatchReader, BatchSampler, read_ahead
from imitate.errors import UserError
from imitate.models.imitate import Imitate
from imitate.training.checkpoint import load_checkpoint, save_checkpoint
from imitate.training.engine import rank_slice
from imitate.training.objectives import training_module
from imitate.training.optim import averaged, build_optimizer, set_rates
from imitate.training.pretraining import draw_step, move
from imitate.training.run_folder import Journal

log = logging.getLogger(__name__)

LEAST_SCALE = 2.0**-20  # the scaler of 16-mixed starts at 2^16; below this it has met nothing but overflows

Validate = Callable[[Imitate], dict[str, float]]
"""Figures of the model on held-out samples; the first one decides which epoch is the best."""


@dataclass
class Job:
    """A run in progress."""

    fabric: Fabric
    recipe: Recipe
    model: Imitate
    order: BatchSampler
    reader: BatchReader
    folder: Path
    validate: Validate | None = None
    step: int = 0
    saved: int | None = None  # step of the last checkpoint
    best: float = float("-inf")
    broken: Tensor = field(default_factory=lambda: torch.tensor(-1))  # first step with a non-finite loss or gradient

    @property
    def total(self) -> int:
        return self.recipe.training.epochs * self.order.steps_per_epoch


def fit(job: Job) -> bool:
    """Train from the last checkpoint to the end; False if a signal stopped it, saved, before that."""
    module, optimizer = _set_up(job)
    _resume(job, optimizer)
    journal = Journal(job.folder, step=job.step) if job.fabric.is_global_zero else None
    job.broken = job.broken.to(job.fabric.device)
    part = rank_slice(job.fabric, job.recipe.training.batch_size)
    batches = read_ahead(job.reader, (job.order.batch(step)[part] for step in range(job.step, job.total)))
    with _signals() as signalled, _progress(job) as advance:
        for batch in batches:
            terms = _step(job, module, optimizer, job.fabric.to_device(batch))
            stopping = _agreed(job, signalled)
            _record(job, journal, terms, optimizer)
            if job.step % job.order.steps_per_epoch == 0:
                with averaged(optimizer):
                    _end_epoch(job, journal)
                _save(job, optimizer)
            elif stopping or job.step % job.recipe.training.checkpoint_every == 0:
                _save(job, optimizer)
            advance(terms)
            if stopping:
                break
    if journal:
        journal.close()
    return job.step == job.total


def _set_up(job: Job) -> tuple[nn.Module, Any]:
    """The module and the optimizer as the engine wants them."""
    training = job.recipe.training
    if training.sync_batchnorm and job.fabric.world_size > 1:
        if job.fabric.device.type == "cpu" and job.model.image.normalises_batches:
            raise UserError("sync_batchnorm needs GPUs: set training.sync_batchnorm=false, or training.devices=1")
        job.model.synchronise()
    if training.compile:
        job.model.image.compile(mode=training.compile)
    pretraining = training_module(job.model, job.recipe.objective, chunk=training.chunk)
    pretraining = pretraining.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(job.fabric.to_device(pretraining), training)
    module, optimizer = job.fabric.setup(pretraining, optimizer)
    return module, optimizer


def _step(job: Job, module: nn.Module, optimizer: Any, batch: Any) -> dict[str, Tensor]:
    training = job.recipe.training
    torch.manual_seed(training.seed * 1_000_003 + job.step * 1_009 + job.fabric.global_rank)  # drop-out and the like
    set_rates(optimizer, job.step, total=job.total, training=training)
    part = rank_slice(job.fabric, training.batch_size)
    draw = move(draw_step(job.model, job.recipe, step=job.step, part=part), job.fabric.device)
    terms: dict[str, Tensor] = module(batch, draw)
    loss = torch.stack(list(terms.values())).sum()
    job.fabric.backward(loss)
    finite = torch.isfinite(loss)
    if _scaler(job) is None:  # which skips steps whose gradient overflows
        finite &= torch.isfinite(
            nn.utils.get_total_norm([p.grad for p in job.model.parameters() if p.grad is not None])
        )
    job.broken = torch.where(finite | (job.broken >= 0), job.broken, job.step)
    if training.clip_gradient is not None:
        job.fabric.clip_gradients(module, optimizer, max_norm=training.clip_gradient)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    job.step += 1
    return {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}


def _record(job: Job, journal: Journal | None, terms: dict[str, Tensor], optimizer: Any) -> None:
    if job.step % job.recipe.training.log_every and job.step != job.total:
        return
    _check(job)
    if journal:
        values = {name: float(term) for name, term in terms.items()}
        journal.write(job.step, {**values, "learning_rate": optimizer.param_groups[0]["lr"]})


def _check(job: Job) -> None:
    """Stop a run whose loss or gradient is no longer finite; the checkpoints are from before."""
    step = int(job.broken)
    if step < 0 and _loss_scale(job) < LEAST_SCALE:
        step = job.step - 1
    if step < 0:
        return
    path = job.folder / "not_finite.json"
    if job.fabric.is_global_zero:
        images = [str(name) for name in job.reader.image_ids[job.order.batch(step)]]
        path.write_text(json.dumps({"step": step, "image_ids": images}, indent=1) + "\n", encoding="utf-8")
    good = "none yet" if job.saved is None else f"of step {job.saved}"
    raise UserError(
        f"the loss or a gradient is not finite at step {step}; the images of its batch are in {path}; the last good "
        f"checkpoint: {good}. Lower learning_rate, or use precision 32-true or bf16-mixed"
    )


def _loss_scale(job: Job) -> float:
    """Of 16-mixed precision, whose scaler halves it whenever it skips a step; 1 in the others."""
    scaler = _scaler(job)
    return 1.0 if scaler is None else float(scaler.get_scale())


def _scaler(job: Job) -> Any:
    """None but for 16-mixed on a GPU; on a CPU, Fabric takes bf16 in its place."""
    return getattr(job.fabric.strategy.precision, "scaler", None)


def _end_epoch(job: Job, journal: Journal | None) -> None:
    """Validate, write ``model/`` and, if it is the best so far, ``best/``."""
    _check(job)
    if journal:
        epoch = job.step // job.order.steps_per_epoch
        job.model.eval()
        figures = job.validate(job.model) if job.validate else {}
        job.model.train()
        job.model.save(job.folder / "model")
        if figures:
            journal.write(job.step, {f"val/{name}": value for name, value in figures.items()})
            name, value = next(iter(figures.items()))
            log.info("epoch %d of %d: %s %.4f", epoch, job.recipe.training.epochs, name, value)
            if value > job.best:
                job.best = value
                job.model.save(job.folder / "best")
    job.fabric.barrier()


def _save(job: Job, optimizer: Any) -> None:
    _check(job)
    if job.fabric.is_global_zero:
        state = {
            "step": job.step,
            "best": job.best,
            "model": job.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": job.fabric.strategy.precision.state_dict(),
        }
        save_checkpoint(state, job.folder)
    job.saved = job.step
    job.fabric.barrier()


def _resume(job: Job, optimizer: Any) -> None:
    state = load_checkpoint(job.folder)
    if state is None:
        return
    job.step, job.best = state["step"], state["best"]
    job.saved = job.step
    job.model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    job.fabric.strategy.precision.load_state_dict(state["scaler"])
    log.info("continuing from step %d of %d", job.step, job.total)


def _agreed(job: Job, signalled: list[int]) -> bool:
    """Whether to stop; with several processes they agree on it at logging steps, so that none waits for another."""
    if job.fabric.world_size == 1:
        return bool(signalled)
    if job.step % job.recipe.training.log_every:
        return False
    votes = torch.tensor(len(signalled), device=job.fabric.device)
    dist.all_reduce(votes)
    return bool(votes)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM (Ctrl-C, a scheduler's notice); a second Ctrl-C ends at once."""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        log.info("stopping after this step")

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(job: Job) -> Iterator[Callable[[dict[str, Tensor]], None]]:
    """A bar with samples/s and time left on a terminal; otherwise a line a minute."""
    columns = (
        TextColumn("pre-training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    bar = Progress(*columns) if job.fabric.is_global_zero else None
    live = bar if bar and bar.console.is_terminal else nullcontext()
    task = bar.add_task("", total=job.total, completed=job.step, note="") if bar else None
    started, first, told = time.monotonic(), job.step, time.monotonic()

    def advance(terms: dict[str, Tensor]) -> None:
        nonlocal told
        now, done = time.monotonic(), job.step - first
        rate = done * job.recipe.training.batch_size / (now - started)
        if bar and task is not None and job.step % job.recipe.training.log_every == 0:
            bar.update(task, completed=job.step, note=f"loss {float(terms['loss']):.3f}  {rate:.0f} samples/s")
            if not bar.console.is_terminal and now - told > 60:
                told, left = now, (job.total - job.step) * (now - started) / done
                log.info("step %d of %d, %.0f samples/s, %.0f s left", job.step, job.total, rate, left)

    with live:
        yield advance
