"""The training loop, readable from top to bottom."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from imitate.data.sampler import read_ahead
from imitate.errors import UserError
from imitate.training.checkpoint import keep_model, load_checkpoint, save_checkpoint, step_name
from imitate.training.draws import draw_step, move, side_at
from imitate.training.engine import agreed, rank_slice
from imitate.training.job import Job
from imitate.training.objectives import training_module
from imitate.training.optim import averaged, build_optimizer, restore, set_rates
from imitate.training.precision import memory_format
from imitate.training.run_folder import VALIDATION, Journal, note_start
from imitate.training.step import Step
from imitate.training.text_tower import Reading
from imitate.training.warm_start import fill_objective
from imitate.training.watching import Clock, Means, progress, signals

log = logging.getLogger(__name__)

LEAST_SCALE = 2.0**-20  # the scaler of 16-mixed starts at 2^16; below this it has met nothing but overflows


def fit(job: Job) -> bool:
    """Train from the last checkpoint to the end; False if a signal stopped it, saved, before that."""
    training = job.recipe.training
    module, optimizer = _set_up(job)
    _resume(job, optimizer)
    job.broken = job.broken.to(job.fabric.device)
    part = rank_slice(job.fabric, training.batch_size)
    batches = read_ahead(job.reader, ((job.order.batch(step)[part], step) for step in range(job.step, job.total)))
    clock = Clock(job.step)
    with (
        _journal(job) as journal,
        signals() as signalled,
        progress(job.step, job.total, shown=job.fabric.is_global_zero) as advance,
    ):
        if job.step:  # it may have been killed between the checkpoint and what follows it
            _follow(job, module, optimizer, journal)
        for batch in batches:
            job.means.add(_step(job, module, optimizer, job.fabric.to_device(batch)))
            stopping = _agreed(job, signalled)
            if job.is_every(training.log_every) or job.step == job.total:
                advance(job.step, _record(job, journal, optimizer, clock))
            ends_epoch = job.is_every(job.order.steps_per_epoch)
            if stopping or ends_epoch or job.validates or job.is_every(training.checkpoint_every):
                _save(job, optimizer)
            _follow(job, module, optimizer, journal)
            if stopping:
                break
    return job.step == job.total


@contextmanager
def _journal(job: Job) -> Iterator[Journal | None]:
    """Of the first process; its trackers learn how the run ended."""
    if not job.fabric.is_global_zero:
        yield None
        return
    journal = Journal(job.folder, step=job.step, log=job.log, recipe=job.recipe)
    note_start(job.folder, {"step": job.step, "total": job.total, **job.facts})
    try:
        yield journal
    except BaseException:
        journal.close("failed")
        raise
    journal.close("success" if job.step == job.total else "interrupted")


def _set_up(job: Job) -> tuple[nn.Module, Any]:
    """The module and the optimizer as the engine wants them."""
    training = job.recipe.training
    if training.sync_batchnorm and job.fabric.world_size > 1:
        everywhere = training.sync_batchnorm is True
        if everywhere and job.fabric.device.type == "cpu" and job.model.image.normalises_batches:
            raise UserError("sync_batchnorm needs GPUs: set training.sync_batchnorm=heads, or training.devices=1")
        job.model.synchronise(backbone=everywhere)
    for side in training.image_sizes or (job.model.config.image_size,):
        job.model.image.check_side(side)
    if training.gradient_checkpointing:
        job.model.image.recompute_blocks()
    if training.compile:
        job.model.image.compile(mode=training.compile)
    job.pretraining = training_module(job.model, job.recipe.objective, chunk=training.chunk)
    whole = job.pretraining
    if job.tower:
        if training.compile:
            job.tower.compile(dynamic=True)
        whole = Reading(job.tower, job.pretraining, chunk=training.chunk)
    whole = whole.to(memory_format=memory_format(whole, job.fabric.device.type))
    optimizer = build_optimizer(job.fabric.to_device(whole), training)
    module, optimizer = job.fabric.setup(whole, optimizer)
    return module, optimizer


def _step(job: Job, module: nn.Module, optimizer: Any, batch: Any) -> dict[str, Tensor]:
    training = job.recipe.training
    torch.manual_seed(training.seed * 1_000_003 + job.step * 1_009 + job.fabric.global_rank)  # drop-out and the like
    set_rates(optimizer, job.step, total=job.total, training=training)
    part = rank_slice(job.fabric, training.batch_size)
    side = side_at(training.image_sizes, job.step, job.total)
    draw = move(draw_step(job.model, job.recipe, step=job.step, part=part, side=side), job.fabric.device)
    terms: dict[str, Tensor] = module(batch, draw)
    loss = torch.stack(list(terms.values())).sum()
    job.fabric.backward(loss)
    scaler = _scaler(job)
    if scaler is not None:
        job.fabric.strategy.precision.unscale_gradients(optimizer.optimizer)
    norm = nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
    finite = torch.isfinite(loss)
    if scaler is None:  # which skips steps whose gradient overflows
        finite &= torch.isfinite(norm)
    job.broken = torch.where(finite | (job.broken >= 0), job.broken, job.step)
    if training.clip_gradient is not None:
        nn.utils.clip_grads_with_norm_(module.parameters(), training.clip_gradient, norm)
    optimizer.step()
    if isinstance(job.pretraining, Step):
        job.pretraining.after_step()
    optimizer.zero_grad(set_to_none=True)
    job.step += 1
    terms = {name: term.detach() for name, term in terms.items()}
    return {"loss": loss.detach(), **terms, "gradient_norm": norm.detach()}


def _record(job: Job, journal: Journal | None, optimizer: Any, clock: Clock) -> str:
    """A row of metrics, of the steps since the last one; in a few words for the terminal."""
    _check(job)
    values = {**job.means.take(), "learning_rate": optimizer.param_groups[0]["lr"]}
    if _scaler(job) is not None:
        values["loss_scale"] = _loss_scale(job)
    rate = clock.rate(job.step) * job.recipe.training.batch_size
    if journal:
        journal.write(job.step, values, measured={"samples_per_second": rate})
    return f"loss {values['loss']:.3f}  {rate:.0f} samples/s"


def _check(job: Job) -> None:
    """Stop a run whose loss or gradient is no longer finite, on all processes; the checkpoints are from before."""
    if job.fabric.world_size > 1:
        dist.all_reduce(job.broken, dist.ReduceOp.MAX)
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
    others = [each for each in ("32-true", "bf16-mixed") if each != job.recipe.training.precision]
    raise UserError(
        f"the loss or a gradient is not finite at step {step}; the images of its batch are in {path}; the last good "
        f"checkpoint: {good}. Lower the learning rate, or use precision {' or '.join(others)}: the same command with "
        f"--continue-with training.learning_rate={job.recipe.training.learning_rate / 3:.1g}, say, continues from there"
    )


def _loss_scale(job: Job) -> float:
    """Of 16-mixed precision, whose scaler halves it whenever it skips a step; 1 in the others."""
    scaler = _scaler(job)
    return 1.0 if scaler is None else float(scaler.get_scale())


def _scaler(job: Job) -> Any:
    """None but for 16-mixed on a GPU; on a CPU, bf16 takes its place."""
    return getattr(job.fabric.strategy.precision, "scaler", None)


def _follow(job: Job, module: nn.Module, optimizer: Any, journal: Journal | None) -> None:
    """What a step leaves behind its checkpoint: a snapshot, and a validation."""
    if job.is_every(job.recipe.training.snapshot_every):
        _check(job)  # a snapshot may come before the next row of metrics, and before the next checkpoint
        with averaged(optimizer):
            _keep(job, job.folder / "snapshots" / step_name(job.step))
    if job.validates:
        with averaged(optimizer):
            _validate(job, module, journal)


def _validate(job: Job, module: nn.Module, journal: Journal | None) -> None:
    """Write ``model/``; validate, unless the journal has this step's metrics; keep the best. After the checkpoint:
    whatever goes wrong here, the same command continues behind it."""
    if job.fabric.broadcast(journal is not None and journal.has_validated(job.step)):
        return
    _keep(job, job.folder / "model")
    job.model.eval()
    loss = _held_out_loss(job, module)
    with agreed(job.fabric):
        metrics: dict[str, float] = {}
        if journal and job.validate:
            try:
                metrics = job.validate(job.model)
            except Exception as error:  # training does not end for it
                log.warning("step %d is not validated: %s", job.step, error)
        if journal and metrics:
            name, value = next(iter(metrics.items()))
            log.info("step %d of %d: %s %.4f", job.step, job.total, name, value)
            keep_model(job.save, job.folder, journal.validated, job.step, value, job.recipe.training.keep_best)
        if journal and (metrics or loss):
            journal.write(job.step, {f"{VALIDATION}{name}": value for name, value in {**metrics, **loss}.items()})
    job.model.train()


@torch.no_grad()
def _held_out_loss(job: Job, module: nn.Module) -> dict[str, float]:
    """The objective's loss on the validation split, in whole batches of training's size, or one of all samples where
    they are fewer; with the same views each time. {} where a process would have fewer than two samples."""
    means, world, count = Means(), job.fabric.world_size, len(job.held_out)
    size = min(job.recipe.training.batch_size, count - count % world)
    part = rank_slice(job.fabric, size)
    if size < 2 * world:
        return {}
    for number in range(count // size):
        draw = move(draw_step(job.model, job.recipe, step=number, part=part), job.fabric.device)
        rows = job.held_out[number * size : (number + 1) * size][part]
        terms = module(job.fabric.to_device(job.reader(rows, number)), draw)
        means.add({"loss": torch.stack(list(terms.values())).sum()})
    return means.take()


def _keep(job: Job, folder: Path) -> None:
    """The weights of this step."""
    with agreed(job.fabric):
        if job.fabric.is_global_zero:
            job.save(folder)


def _own_state(job: Job) -> dict[str, Tensor]:
    """Of the objective, beside the model's."""
    return {name: value for name, value in job.pretraining.state_dict().items() if not name.startswith("model.")}


def _save(job: Job, optimizer: Any) -> None:
    _check(job)
    with agreed(job.fabric):
        if job.fabric.is_global_zero:
            state = {
                "step": job.step,
                "model": job.model.state_dict(),
                "objective": _own_state(job),
                "optimizer": optimizer.state_dict(),
                "scaler": job.fabric.strategy.precision.state_dict(),
                "means": job.means.sums,
            }
            if job.tower:
                state["text"] = job.tower.learned()
            save_checkpoint(state, job.folder)
    job.saved = job.step


def _resume(job: Job, optimizer: Any) -> None:
    state = load_checkpoint(job.folder)
    if state is None:
        if job.start is not None:
            fill_objective(job.pretraining, job.start)
            if job.fabric.is_global_zero:
                job.start.report(job.folder)
        return
    job.saved = job.step = state["step"]
    job.means.sums = dict(state.get("means", {}))
    job.model.load_state_dict(state["model"])
    job.pretraining.load_state_dict(state.get("objective", {}), strict=False)
    if job.tower:
        job.tower.restore(state["text"])
    restore(optimizer, state["optimizer"], job.recipe.training)
    if state["scaler"]:  # empty where it was written at another precision
        job.fabric.strategy.precision.load_state_dict(state["scaler"])
    log.info("continuing from step %d of %d", job.step, job.total)


def _agreed(job: Job, signalled: list[int]) -> bool:
    """Whether to stop; with several processes they agree on it at logging steps, so that none waits for another.

    A scheduler's signal, whose number is higher, counts before a Ctrl-C.
    """
    job.signal = max(signalled, default=0)
    if job.fabric.world_size > 1:
        if job.step % job.recipe.training.log_every:
            return False
        votes = torch.tensor(job.signal, device=job.fabric.device)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        job.signal = int(votes)
    return bool(job.signal)
