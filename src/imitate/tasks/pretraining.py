"""The verb ``pretrain``: a recipe and prepared folders in, a run folder with a model out."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imitate.config import Recipe, read_yaml, validate
from imitate.data.corpus import Corpus
from imitate.data.sampler import BatchReader, BatchSampler, LabelReader, training_rows, warm_up
from imitate.data.text_cache import TEXTS, TextCache, TextRows, corpus, no_texts, text_embeddings
from imitate.errors import UserError
from imitate.inference.encoder import ImitateEncoder
from imitate.inference.label_texts import texts_of_labels
from imitate.models.image import pinned
from imitate.models.imitate import Imitate, parameter_count, seeded_model
from imitate.models.text import fit_or_load, load_text_encoder, save_text_encoder
from imitate.models.types import TextEncoder
from imitate.names import REPORT
from imitate.tasks.base import Budget
from imitate.tasks.retrieval import Retrieval
from imitate.training.engine import launch, together
from imitate.training.loop import Job, Validate, fit
from imitate.training.objectives import find_objective
from imitate.training.run_folder import claimed, room, settle

log = logging.getLogger(__name__)
VALIDATION = Retrieval(split="val")


def run(
    recipe: Recipe,
    *,
    data: Sequence[Path],
    out: Path,
    weights: tuple[float, ...] = (),
    cache: Path | None = None,
    threads: int | None = None,
) -> Path:
    """Pre-train, or continue where the run folder ``out`` ends; returns the folder of the model.

    ``cache`` keeps the embeddings of reports, by default ``out``/text_cache.
    """
    _check_weights(weights, folders=len(data))
    chosen = pinned(recipe.resolved())
    prepared = Corpus.open(data, size=chosen.model.prepared_size, projections=chosen.model.projections)
    fabric = launch(chosen.training, threads=threads)
    with together(fabric):
        finished = _train(fabric, chosen, prepared, Places(out, cache or out / "text_cache"), weights)
    if not finished:
        log.info("stopped and saved; the same command continues")
        raise KeyboardInterrupt
    log.info("finished: %s", out / "model")
    return out / "model"


class Places(NamedTuple):
    """Where a run writes."""

    run: Path
    cache: Path  # of the reports' embeddings

    def texts(self, encoder: TextEncoder | None) -> TextCache | None:
        return TextCache(encoder, self.cache) if encoder else None


def _check_weights(weights: tuple[float, ...], *, folders: int) -> None:
    if weights and len(weights) != folders:
        raise UserError(f"--weights has {len(weights)} values for {folders} folders: give one for each, or none")
    if bad := [weight for weight in weights if not (weight > 0 and math.isfinite(weight))]:
        raise UserError(f"--weights {bad[0]:g}: a weight is above 0; a folder that shall not train is not given")


def _train(fabric: Any, recipe: Recipe, data: Corpus, places: Places, weights: tuple[float, ...]) -> bool:
    """The first process makes the run folder, the others take it from there; False if a signal stopped the run."""
    recorded = {
        "paths": [str(each.root) for each in data.each],
        "fingerprints": [each.fingerprint for each in data.each],
        "weights": list(weights),
    }
    if recipe.labels_as_text:
        data = data.filled(texts_of_labels)
    out = places.run
    if not fabric.is_global_zero:
        fabric.barrier()
        recipe = _settled(out)
        encoder = load_text_encoder(out / "text") if recipe.model.reads_text else None
        return fit(_job(fabric, recipe, data, places.texts(encoder), out, weights))
    with claimed(out), room(out):
        recipe, encoder = _with_text(recipe, data, out)
        # Mistakes in the recipe show before anything is written
        job = _job(fabric, recipe, data, places.texts(encoder), out, weights)
        settle(out, recipe, recorded)
        if encoder and not (out / "text" / "text.json").is_file():
            save_text_encoder(encoder, out / "text")
        fabric.barrier()
        return fit(job)


def _with_text(recipe: Recipe, data: Corpus, out: Path) -> tuple[Recipe, TextEncoder | None]:
    """The recipe completed with what the data decide, and its text encoder where the objective reads text."""
    objective = find_objective(recipe.objective.name)
    if "labels" in objective.needs and not data.classes:
        raise UserError(
            f"objective {recipe.objective.name} needs labels, {data.root} has none: prepare a source with them"
        )
    found: dict[str, Any] = {"resize": data.resize, "percentiles": data.percentiles, "reads_text": objective.reads_text}
    encoder = None
    if objective.reads_text:
        known = (out / "text" / "text.json").is_file()
        encoder = load_text_encoder(out / "text") if known else fit_or_load(recipe.text, corpus(data))
        found["text_width"] = encoder.width
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=found)}), encoder


def _settled(out: Path) -> Recipe:
    values = read_yaml(out / "config.yaml", holds="this run's settings")
    values.pop("data")
    return validate(Recipe, values, where=str(out / "config.yaml"))


def _job(
    fabric: Any, recipe: Recipe, data: Corpus, texts: TextCache | None, out: Path, weights: tuple[float, ...]
) -> Job:
    objective, seed = find_objective(recipe.objective.name), recipe.training.seed
    model = seeded_model(recipe.model, pretrained=recipe.pretrained, seed=seed)
    rows = training_rows(data, textless=_compares_views(recipe), every=not objective.reads_text)
    sampler = BatchSampler(rows, weights=weights, batch_size=recipe.training.batch_size, seed=seed)
    log.info("%.1f M trainable parameters, %d samples, %d steps an epoch", parameter_count(model) / 1e6,
             len(sampler.rows), sampler.steps_per_epoch)  # fmt: skip
    if fabric.local_rank == 0:
        warm_up(data.image_files())
    reader = LabelReader if "labels" in objective.needs else BatchReader
    pin = fabric.device.type == "cuda"
    embedded = _embedded(recipe, data, texts, str(fabric.device))
    batches = reader(data, embedded, branches=recipe.model.texts, pin=pin)
    return Job(fabric, recipe, model, sampler, batches, out, _validation(data, texts, str(fabric.device)))


def _compares_views(recipe: Recipe) -> bool:
    """Whether an image without any text has a term of the loss."""
    objective = recipe.objective
    return getattr(objective, "visual_visual", False) and objective.views == 2


def _embedded(recipe: Recipe, data: Corpus, texts: TextCache | None, device: str) -> dict[str, TextRows]:
    """Of the texts that the objective reads; none of the others."""
    none = no_texts(len(data), recipe.model.text_width)
    if texts is None:
        return dict.fromkeys(TEXTS, none)
    read = find_objective(recipe.objective.name).texts(recipe.model)
    return {**dict.fromkeys(TEXTS, none), **text_embeddings(data, texts, read, device=device)}


def _validation(data: Corpus, texts: TextCache | None, device: str) -> Validate | None:
    """Retrieval on the validation split, together and of each folder, where there are reports to find."""
    if texts is None:
        return None
    task = VALIDATION
    measured = {"": data} if _distinct_reports(data) > 1 else {}
    if not measured:
        log.warning("no validation split with reports: the run is not validated")
        return None
    measured |= {f"{part.name}/": part for part in data.parts if _distinct_reports(part) > 1}

    def validate(model: Imitate) -> dict[str, float]:
        encoder = ImitateEncoder("validation", model, texts.encoder, texts)
        found: dict[str, float] = {}
        for name, each in measured.items():
            values = task.measure(task.predict(encoder, each, Budget(device=device)))
            found |= {f"{name}{metric}": value for metric, value in values.items()}
        return found

    return validate


def _distinct_reports(data: Corpus) -> int:
    rows = np.flatnonzero(data.table["split"].to_numpy() == VALIDATION.split)
    return data.text(REPORT, rows).nunique()
