"""Fit a head, or a whole network, on rows of a prepared folder: the one loop of every task that trains.

A task inherits its settings (``class Segmentation(Fitting, Task)``) and gives ``fit`` two functions::

    rows = parts(data, budget, test=self.split)
    with frozen(encoder.image), seeded(budget.seed):
        head = Head(...).to(budget.device)
        fit(head, settings=self, budget=budget, rows=rows.train, step=step, validate=validate)

``step(rows, generator)`` is the loss of these images; it reads them with ``pixels`` and may augment them with the
generator, which lives on the budget's device. ``validate()`` is the metric to make small (give minus the mAP), or a
pair of it and of what decides between equal ones.
"""

import copy
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.names import Mode
from imitate.statistics.subsets import stored_subset, subset
from imitate.tasks.base import Budget
from imitate.tasks.options import Fitting
from imitate.training import optim
from imitate.training.optim import blocks_above

log = logging.getLogger(__name__)
HELD_OUT = 0.2  # fraction of the training patients that validate where the val split is the test, or there is none
PAPER_SEED = 42  # of the peers' draw of a fraction of the images

Item = TypeVar("Item")
Validate = Callable[[], float | tuple[float, float]]
Step = Callable[[np.ndarray, torch.Generator], Float[Tensor, ""]]


class FitError(UserError):
    """Nothing can be fitted with these settings: no batch is full, or no validation metric was finite."""


class Fit(NamedTuple):
    """``history`` holds the validation metric of each epoch; the model has the state of ``epoch``, the best."""

    history: list[float]
    epoch: int


class Parts(NamedTuple):
    """Row indices of a prepared folder."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def parts(data: Corpus, budget: Budget, *, test: str = "test") -> Parts:
    """Which images train (the budget's fraction of the patients), validate (all of ``val``) and test.

    Where ``val`` is the test or absent, a fifth of the training patients validates instead. UserError where the
    training images are the test.
    """
    if test == "train":
        raise UserError(
            "the task trains on split train, so its metrics there would say nothing about other images: "
            "measure another split, or cross-validate a linear probe with --folds 5"
        )
    train, tested = training_rows(data, budget), data.rows(test)
    if test != "val" and (data.table["split"] == "val").any():
        validation = data.rows("val")
        if budget.fraction < 1:
            log.info("%d images train; all %d validation images choose among epochs", len(train), len(validation))
        return Parts(train, validation, tested)
    patients = data.table["patient"].to_numpy(dtype=str)[train]
    names = np.unique(patients)
    if len(names) < 2:
        raise UserError(f"{len(names)} training patient cannot be split for validation: raise --fraction")
    count = max(1, round(HELD_OUT * len(names)))
    held = np.isin(patients, np.random.default_rng(budget.seed).permutation(names)[:count])
    return Parts(train[~held], train[held], tested)


def training_rows(data: Corpus, budget: Budget) -> np.ndarray:
    """The budget's fraction of the training images: by patient; in mode ``paper`` by image, as the peers draw it."""
    rows = data.rows("train")
    if budget.fraction >= 1:
        return rows
    if budget.mode == "paper":
        drawn = data.table.iloc[rows].assign(row=rows).sample(frac=budget.fraction, random_state=PAPER_SEED)
        return drawn["row"].to_numpy()
    patients = data.table["patient"].to_numpy(dtype=str)[rows]
    labels = data.labels[rows] if data.classes else None
    if budget.cache is None:
        chosen = subset(patients, labels, budget.fraction, budget.seed)
    else:
        name = f"{data.meta['fingerprint'][:16]}-{budget.fraction:g}-{budget.seed}.json"
        chosen = stored_subset(
            budget.cache / "subsets" / name, patients, labels, fraction=budget.fraction, seed=budget.seed
        )
    return rows[np.isin(patients, chosen)]


def batches(rows: np.ndarray, size: int, *, drop_last: bool = False) -> list[np.ndarray]:
    """Consecutive pieces of ``rows``."""
    stop = len(rows) - len(rows) % size if drop_last else len(rows)
    return [rows[start : start + size] for start in range(0, stop, size)]


def pixels(data: Corpus, rows: np.ndarray, device: str) -> UInt8[Tensor, "batch size size"]:
    return torch.from_numpy(np.array(data.images[rows])).to(device)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's own generators start from ``seed`` inside, and go on as if nothing had happened after."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextmanager
def frozen(encoder: nn.Module) -> Iterator[None]:
    """In evaluation mode and without gradients inside; each module and parameter as it was after."""
    modes = [(module, module.training) for module in encoder.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in encoder.parameters()]
    encoder.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, wanted in gradients:
            parameter.requires_grad_(wanted)


def progress(items: Sequence[Item], what: str) -> Iterator[Item]:
    """The items, with a bar on a terminal that goes when it is full."""
    console = Console(stderr=True)
    return iter(track(items, what, console=console, transient=True, disable=not console.is_terminal))


def autocast(device: str) -> torch.autocast:
    """bfloat16 on a GPU, nothing on the CPU."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda")


def fit(
    model: nn.Module,
    *,
    settings: Fitting,
    budget: Budget,
    rows: np.ndarray,
    step: Step,
    validate: Validate,
    nothing: float | None = None,
    encoder_rate: float = 1.0,
    clip: float | None = None,
    period: int = 0,
) -> Fit:
    """AdamW until ``validate`` no longer falls; the best epoch's state is restored.

    Image encoders have ``encoder_rate`` times the learning rate. ``clip`` is the largest norm of a gradient, ``period``
    the number of steps of the schedule where that is not all of them.

    Patience starts with the first value that is not ``nothing``, which says that nothing was learned yet.
    An epoch takes full batches only, in an order of its own. Deterministic by the budget's seed, with the model's
    initial state. Raises UserError where there is no full batch and where no validation metric is finite.
    """
    steps = _full_batches(rows, settings) * settings.epochs
    longer = max(1, math.ceil(settings.steps / steps))
    total, epochs, patience = steps * longer, settings.epochs * longer, settings.patience * longer
    groups = parameter_groups(model, settings, mode=budget.mode, encoder_rate=encoder_rate)
    optimizer = torch.optim.AdamW(groups)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: _rate((done + 1) / (period or total), settings))
    generator = torch.Generator(budget.device).manual_seed(budget.seed)
    orders = np.random.default_rng(budget.seed)
    values: list[tuple[float, float]] = []
    best, state = -1, copy.deepcopy(model.state_dict())
    with seeded(budget.seed):
        for epoch in progress(range(epochs), "fitting"):
            model.train()
            for chosen in batches(orders.permutation(rows), settings.batch_size, drop_last=True):
                _descend(step, chosen, optimizer, generator, clip)
                rates.step()
            model.eval()
            with torch.no_grad(), autocast(budget.device):
                found = validate()
            values.append(found if isinstance(found, tuple) else (found, 0.0))
            if all(map(math.isfinite, values[-1])) and (best < 0 or values[-1] < values[best]):
                best, state = epoch, copy.deepcopy(model.state_dict())
            if epoch - max(best, 0) >= patience and any(value != nothing for value, _ in values):
                break
    history = [value for value, _ in values]
    if best < 0:
        raise FitError(f"no validation metric was finite in {len(history)} epochs: lower learning_rate")
    if budget.validated is not None:
        budget.validated.append(history[best])
    model.load_state_dict(state)
    log.info("best of %d epochs: %d, validation value %.4f", len(history), best + 1, history[best])
    return Fit(history, best)


def _full_batches(rows: np.ndarray, settings: Fitting) -> int:
    count = len(rows) // settings.batch_size
    if not count:
        raise FitError(
            f"{len(rows)} training images make no batch of {settings.batch_size}: raise --fraction or lower batch_size"
        )
    return count


def _descend(
    step: Step, chosen: np.ndarray, optimizer: torch.optim.Optimizer, generator: torch.Generator, clip: float | None
) -> None:
    optimizer.zero_grad()
    with autocast(generator.device.type):
        loss = step(chosen, generator)
    loss.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_([weight for group in optimizer.param_groups for weight in group["params"]], clip)
    optimizer.step()


def parameter_groups(
    model: nn.Module, settings: Fitting, *, mode: Mode = "clean", encoder_rate: float = 1.0
) -> list[dict[str, Any]]:
    """Each block of an image encoder, as timm divides it, has a lower learning rate the further it is from the head.

    The head has the whole rate, the last block ``layer_decay`` of it, and the encoder that times ``encoder_rate``.
    Biases, norms and position embeddings have no weight decay; in mode ``paper`` they have, as the peers' AdamW decays
    every parameter.
    """
    decay, everything = settings.layer_decay, mode == "paper"
    above = blocks_above(model) if decay != 1 or encoder_rate != 1 else {}
    rates = {name: encoder_rate * decay ** (1 + blocks) for name, blocks in above.items()}
    groups = optim.parameter_groups(model, weight_decay=settings.weight_decay, everything=everything, rates=rates)
    return [{**group, "lr": settings.learning_rate * group["scale"]} for group in groups]


def _rate(progress: float, settings: Fitting) -> float:
    if progress < settings.warmup:
        return progress / settings.warmup
    if settings.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (progress - settings.warmup) / (1 - settings.warmup)))
