"""The verb ``pretrain``: a recipe and prepared folders in, a run folder with a model out."""

import logging
import platform
import signal
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from imitate.config import Recipe, TrainingConfig
from imitate.data.corpus import Corpus
from imitate.data.index import versions
from imitate.data.overlap import note_training
from imitate.data.sampler import BatchReader, LabelReader, warm_up
from imitate.data.text_cache import SentenceRows, TextCache, TextRows, corpus, fill, sentence_rows, text_rows
from imitate.errors import Stopped
from imitate.inference.encoder import ImitateEncoder
from imitate.inference.tones import preparation
from imitate.models.image import pinned
from imitate.models.imitate import Imitate, parameter_count, seeded_model
from imitate.models.text import could_be, fit_or_load, load_text_encoder, save_text_encoder
from imitate.models.text_tower import TextTower
from imitate.models.types import TextEncoder
from imitate.names import REPORT, SECTIONS, SENTENCES, Tracker
from imitate.tasks.base import Budget
from imitate.tasks.pretraining_plan import Plan, check_weights, plan_of
from imitate.tasks.results import commit
from imitate.tasks.retrieval import Retrieval
from imitate.training.checkpoint import is_begun
from imitate.training.engine import agreed, launch, together
from imitate.training.job import Job, Validate
from imitate.training.loop import fit
from imitate.training.objectives import find_objective
from imitate.training.precision import possible
from imitate.training.run_folder import check_changes, claimed, compare_start, room, settle
from imitate.training.warm_start import Start, recorded_settings, start_from, taken_settings
from imitate.training.weights import Weights, open_weights

log = logging.getLogger(__name__)


class Validation(Retrieval):
    """What chooses the best weights: nothing else of the ranking is read."""

    controls: ClassVar[bool] = False


VALIDATION = Validation(split="val")
ENCODERS = ("text", "prior")  # folders of a run: of what its texts are embedded with, and what its prior is made of


def run(
    recipe: Recipe,
    *,
    data: Sequence[Path],
    out: Path,
    weights: tuple[float, ...] = (),
    cache: Path | None = None,
    threads: int | None = None,
    changes: Collection[str] = (),
    log_to: Sequence[Tracker] = ("tensorboard",),
) -> Path:
    """Pre-train, or continue where the run folder ``out`` ends; returns the folder of the model.

    ``cache`` keeps the embeddings of reports, by default ``out``/text_cache. ``changes`` are the keys of the recipe
    that may differ from those of the run that is continued. ``log_to`` names where the curves go.
    """
    check_weights(weights, folders=len(data))
    check_changes(changes)
    if idle := recipe.without_effect():
        objective, aggregation = recipe.objective.name, recipe.resolved().model.aggregation
        log.warning("no effect with objective %s and aggregation %s: %s", objective, aggregation, ", ".join(idle))
    chosen = pinned(recipe.resolved())
    prepared = Corpus.open(data, size=chosen.model.prepared_size, projections=chosen.model.projections)
    plan = plan_of(chosen, prepared, weights, changes)
    fabric = launch(chosen.training, threads=threads, contrasts_within=_contrasts_within(chosen))
    with together(fabric), room(out):
        stopped = _train(fabric, plan, out, cache or out / "text_cache", tuple(log_to))
    if stopped:
        log.info("stopped and saved; the same command continues")
        raise KeyboardInterrupt if stopped == signal.SIGINT else Stopped(signal.Signals(stopped).name)
    log.info("finished: %s", out / "model")
    return out / "model"


def _contrasts_within(recipe: Recipe) -> str:
    """The setting by which a term compares samples with those of their process only; empty: there is none."""
    if getattr(recipe.objective, "negatives", "global") == "rank":
        return "objective.negatives=rank"
    return "objective.grounding" if getattr(recipe.objective, "grounding", 0) else ""


def _train(fabric: Any, plan: Plan, out: Path, cache: Path, log_to: tuple[Tracker, ...]) -> int:
    """The first process makes the run folder, the others take it from there; the signal that stopped the run, or 0."""
    recipe, data = plan.recipe, plan.data
    start: Start | None = None
    encoders: dict[str, TextEncoder] = {}  # of the texts and, where another makes it, of the prior
    with ExitStack() as held:
        with agreed(fabric):
            if fabric.is_global_zero:
                held.enter_context(claimed(out))
                recipe, model, start, facts = _begin(fabric, plan, out, encoders)
        recipe, start = fabric.broadcast((recipe, start))  # the first one's: another process may have another recipe
        with agreed(fabric):
            if not fabric.is_global_zero:
                encoders = {name: load_text_encoder(out / name) for name in ENCODERS if _has_encoder(out / name)}
                model, facts = seeded_model(recipe.model, pretrained=False, seed=0), {}
            tower = _tower(recipe.training, encoders.get("text"))
            read_as = {name: tower.pieces if tower and name == "text" else each for name, each in encoders.items()}
            texts = {name: TextCache(encoder, cache) for name, encoder in read_as.items()}
            read = find_objective(recipe.objective.name).texts(recipe.model)
            for each in texts.values():
                fill(data, each, read, part=fabric.global_rank, parts=fabric.world_size, device=str(fabric.device))
        if fabric.world_size > 1:
            model.load_state_dict(fabric.broadcast(model.state_dict()))  # the first one's
        with agreed(fabric):
            job = _job(fabric, plan._replace(recipe=recipe), model, texts, tower, out)
        job.facts, job.start, job.log = facts, start, log_to
        return 0 if fit(job) else job.signal


def _begin(
    fabric: Any, plan: Plan, out: Path, encoders: dict[str, TextEncoder]
) -> tuple[Recipe, Imitate, Start | None, dict[str, Any]]:
    """Make the run folder, or check that it is this run's; fills ``encoders``."""
    begun = is_begun(out)  # then the checkpoint has the weights, and no network is needed
    weights = open_weights(plan.recipe) if plan.recipe.init and not begun else None
    recipe = _completed(plan, out, encoders, weights)
    imagenet = recipe.pretrained and not recipe.init and not begun
    model = seeded_model(recipe.model, pretrained=imagenet, seed=recipe.training.seed)
    start = start_from(model, weights, plan.recipe, encoders) if weights else None
    facts = _facts(fabric, recipe, model)
    training = recipe.training
    normalises = model.image.normalises_batches and not training.freeze and training.sync_batchnorm is not True
    compare_start(out, facts, contrasts_within=_contrasts_within(recipe), normalises=normalises)
    facts["changed"] = settle(out, recipe, plan.recorded, plan.changes)
    note_training(out, plan.data, plan.order.rows, after=plan.recipe.init)
    for name, encoder in encoders.items():
        if not _has_encoder(out / name):
            save_text_encoder(encoder, out / name)
    return recipe, model, start, facts


def _completed(plan: Plan, out: Path, encoders: dict[str, TextEncoder], weights: Weights | None) -> Recipe:
    """The recipe completed with what the data and the weights to start from decide; the text encoders that it needs:
    the run's own, those of the weights where the recipe names their kind, or new ones."""
    recipe, data = plan.recipe, plan.data
    reads_text = find_objective(recipe.objective.name).reads_text
    found: dict[str, Any] = {**preparation(data, weights.model if weights else None), "reads_text": reads_text}
    if recipe.init:
        found |= taken_settings(recipe, weights.statistics) if weights else recorded_settings(out)
    wanted = {"text": recipe.text if reads_text else None, "prior": getattr(recipe.objective, "prior", None)}
    for name, which in wanted.items():
        if which is not None:
            theirs = weights.encoders.get(name) if weights else None
            if _has_encoder(out / name):
                encoders[name] = load_text_encoder(out / name)
            elif theirs is not None and could_be(theirs, which):
                encoders[name] = theirs
            else:
                encoders[name] = fit_or_load(which, corpus(data))
    if reads_text:
        found["text_width"] = encoders["text"].width
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=found)})


def _has_encoder(folder: Path) -> bool:
    return (folder / "text.json").is_file()


def _facts(fabric: Any, recipe: Recipe, model: Imitate) -> dict[str, Any]:
    """What this start runs on."""
    known = model.image.network.pretrained_cfg
    tag = f"{known.get('architecture')}.{known.get('tag')}" if recipe.pretrained else "random"
    kind = torch.cuda.get_device_name() if fabric.device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "processes": fabric.world_size,
        "device": f"{fabric.device.type} ({kind})",
        "precision": possible(recipe.training.precision, fabric.device.type)[0],
        "weights": recipe.init or tag,
        "imitate": versions()["imitate"],
        "commit": commit(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "timm", "numpy")},
    }


def _tower(training: TrainingConfig, encoder: TextEncoder | None) -> TextTower | None:
    """The text encoder as what learns, which it then belongs to."""
    if encoder is None or not training.trains_text:
        return None
    return TextTower(encoder, layers=training.text_layers, lora=training.text_lora, seed=training.seed)


def _job(
    fabric: Any, plan: Plan, model: Imitate, texts: Mapping[str, TextCache], tower: TextTower | None, out: Path
) -> Job:
    recipe, data, order = plan.recipe, plan.data, plan.order
    objective = find_objective(recipe.objective.name)
    learns = parameter_count(model) + (parameter_count(tower) if tower else 0)
    log.info("%.1f M trainable parameters, %d samples, %d steps an epoch", learns / 1e6, len(order.rows),
             order.steps_per_epoch)  # fmt: skip
    if fabric.local_rank == 0:
        warm_up(data.image_files())
    reader, read = LabelReader if "labels" in objective.needs else BatchReader, objective.texts(recipe.model)
    embedded = [_embedded(data, texts[name], read) if name in texts else {} for name in ENCODERS]
    pin = fabric.device.type == "cuda"
    batches = reader(data, embedded[0], priors=embedded[1], seed=recipe.training.seed, pin=pin)
    validate = _validation(data, texts.get("text"), tower, str(fabric.device)) if fabric.is_global_zero else None
    return Job(fabric, recipe, model, order, batches, out, validate, _held_out(data, recipe), tower=tower)


def _embedded(data: Corpus, texts: TextCache, read: Mapping[str, int]) -> dict[str, TextRows | SentenceRows]:
    """The texts that a batch has, from the cache."""
    texts.read()  # what the other processes have computed
    found: dict[str, TextRows | SentenceRows] = {**text_rows(data, texts, [name for name in read if name != SENTENCES])}
    if SENTENCES in read:
        found[SENTENCES] = sentence_rows(data, texts, draw=read[SENTENCES])
    return found


def _held_out(data: Corpus, recipe: Recipe) -> np.ndarray:
    """The rows of the validation loss: as in training, of the validation split."""
    here = data.table["split"].to_numpy() == VALIDATION.split
    if find_objective(recipe.objective.name).reads_text:
        here &= np.logical_or.reduce([data.has(section) for section in SECTIONS])
    return np.flatnonzero(here)


def _validation(data: Corpus, texts: TextCache | None, tower: TextTower | None, device: str) -> Validate | None:
    """Retrieval on the validation split, together and of each folder, where there are reports to find.

    A text encoder that learns embeds the reports anew each time.
    """
    if texts is None:
        return None
    measured = {"": data} if _distinct_reports(data) > 1 else {}
    if not measured:
        log.warning("no validation split with reports: the run is not validated")
        return None
    measured |= {f"{part.name}/": part for part in data.parts if _distinct_reports(part) > 1}

    def validate(model: Imitate) -> dict[str, float]:
        own = (tower.encoder(), None) if tower else (texts.encoder, texts)
        encoder = ImitateEncoder("validation", model, *own)
        found: dict[str, float] = {}
        for name, each in measured.items():
            values = VALIDATION.measure(VALIDATION.predict(encoder, each, Budget(device=device)))
            found |= {f"{name}{metric}": value for metric, value in values.items()}
        return found

    return validate


def _distinct_reports(data: Corpus) -> int:
    return data.text(REPORT, np.flatnonzero(data.table["split"].to_numpy() == VALIDATION.split)).nunique()
