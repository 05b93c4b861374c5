"""The verb ``pretrain``: a recipe and prepared folders in, a run folder with a model out."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imitate.config import Recipe, read_yaml, validate
from imitate.data.corpus import Corpus
from imitate.data.sampler import BatchReader, BatchSampler, training_rows, warm_up
from imitate.data.text_cache import corpus, text_embeddings
from imitate.errors import UserError
from imitate.inference.encoder import Subject
from imitate.inference.label_texts import texts_of_labels
from imitate.models.imitate import Imitate, parameter_count, seeded_model
from imitate.models.text import fit_or_load, load_text_encoder, save_text_encoder
from imitate.models.types import TextEncoder
from imitate.names import REPORT
from imitate.tasks.base import Budget
from imitate.tasks.retrieval import Retrieval
from imitate.training.engine import launch, together
from imitate.training.loop import Job, Validate, fit
from imitate.training.run_folder import claimed, room, settle

log = logging.getLogger(__name__)


def run(
    recipe: Recipe, *, data: Sequence[Path], out: Path, weights: tuple[float, ...] = (), threads: int | None = None
) -> Path:
    """Pre-train, or continue where the run folder ``out`` ends; returns the folder of the model."""
    _check_weights(weights, folders=len(data))
    chosen = recipe.resolved()
    prepared = Corpus.open(data, size=chosen.model.prepared_size, projections=chosen.model.projections)
    fabric = launch(chosen.training, threads=threads)
    with together(fabric):
        finished = _train(fabric, chosen, prepared, out, weights)
    if not finished:
        log.info("stopped and saved; the same command continues")
        raise KeyboardInterrupt
    log.info("finished: %s", out / "model")
    return out / "model"


def _check_weights(weights: tuple[float, ...], *, folders: int) -> None:
    if weights and len(weights) != folders:
        raise UserError(f"--weights has {len(weights)} values for {folders} folders: give one for each, or none")
    if bad := [weight for weight in weights if not (weight > 0 and math.isfinite(weight))]:
        raise UserError(f"--weights {bad[0]:g}: a weight is above 0; a folder that shall not train is not given")


def _train(fabric: Any, recipe: Recipe, data: Corpus, out: Path, weights: tuple[float, ...]) -> bool:
    """The first process makes the run folder, the others take it from there; False if a signal stopped the run."""
    recorded = {
        "paths": [str(each.root) for each in data.each],
        "fingerprints": [each.fingerprint for each in data.each],
        "weights": list(weights),
    }
    if recipe.labels_as_text:
        data = data.filled(texts_of_labels)
    if not fabric.is_global_zero:
        fabric.barrier()
        return fit(_job(fabric, _settled(out), data, load_text_encoder(out / "text"), out, weights))
    with claimed(out), room(out):  # mistakes in the recipe show before anything is written
        recipe, encoder = _with_text(recipe, data, out)
        job = _job(fabric, recipe, data, encoder, out, weights)
        settle(out, recipe, recorded)
        if not (out / "text" / "text.json").is_file():
            save_text_encoder(encoder, out / "text")
        fabric.barrier()
        return fit(job)


def _with_text(recipe: Recipe, data: Corpus, out: Path) -> tuple[Recipe, TextEncoder]:
    """The recipe completed with what the data decide, and its text encoder, after embedding all reports with it."""
    known = (out / "text" / "text.json").is_file()
    encoder = load_text_encoder(out / "text") if known else fit_or_load(recipe.text, corpus(data))
    text_embeddings(data, encoder)
    found = {"text_width": encoder.width, "resize": data.resize}
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=found)}), encoder


def _settled(out: Path) -> Recipe:
    values = read_yaml(out / "config.yaml", holds="this run's settings")
    values.pop("data")
    return validate(Recipe, values, where=str(out / "config.yaml"))


def _job(fabric: Any, recipe: Recipe, data: Corpus, encoder: TextEncoder, out: Path, weights: tuple[float, ...]) -> Job:
    seed = recipe.training.seed
    model = seeded_model(recipe.model, pretrained=recipe.pretrained, seed=seed)
    rows = training_rows(data, textless=_compares_views(recipe))
    sampler = BatchSampler(rows, weights=weights, batch_size=recipe.training.batch_size, seed=seed)
    log.info("%.1f M trainable parameters, %d samples, %d steps an epoch", parameter_count(model) / 1e6,
             len(sampler.rows), sampler.steps_per_epoch)  # fmt: skip
    if fabric.local_rank == 0:
        warm_up(data.image_files())
    pin = fabric.device.type == "cuda"
    reader = BatchReader(data, text_embeddings(data, encoder), branches=recipe.model.texts, pin=pin)
    validate = _validation(data, encoder, recipe, str(fabric.device))
    return Job(fabric, recipe, model, sampler, reader, out, validate)


def _compares_views(recipe: Recipe) -> bool:
    """Whether an image without any text has a term of the loss."""
    objective = recipe.objective
    return objective.name == "simclr" or (
        objective.name == "imitate" and objective.visual_visual and objective.views == 2
    )


def _validation(data: Corpus, encoder: TextEncoder, recipe: Recipe, device: str) -> Validate | None:
    """Retrieval on the validation split, together and of each folder, where there are reports to find."""
    if recipe.objective.name == "simclr":
        return None
    task = Retrieval()
    measured = {"": data} if _distinct_reports(data) > 1 else {}
    if not measured:
        log.warning("no validation split with reports: the run is not validated")
        return None
    measured |= {f"{part.name}/": part for part in data.parts if _distinct_reports(part) > 1}

    def validate(model: Imitate) -> dict[str, float]:
        subject = Subject("validation", model.image, recipe.model, model=model, text=encoder)
        found: dict[str, float] = {}
        for name, each in measured.items():
            values = task.measure(task.predict(subject, each, Budget(device=device)))
            found |= {f"{name}{metric}": value for metric, value in values.items()}
        return found

    return validate


def _distinct_reports(data: Corpus) -> int:
    rows = np.flatnonzero(data.table["split"].to_numpy() == Retrieval().split)
    return data.text(REPORT, rows).nunique()
