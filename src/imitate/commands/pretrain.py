"""The verb ``pretrain``: a recipe and a prepared folder in, a run folder with a model out."""

import logging
from pathlib import Path
from typing import Any

from imitate.config import Recipe, load_config, parse_settings, read_yaml
from imitate.data.prepared import Prepared
from imitate.data.sampler import LabelReader, Order, Reader, training_rows, warm_up
from imitate.data.text_cache import TEXTS, TextCache, TextRows, corpus, no_texts, text_embeddings
from imitate.errors import UserError
from imitate.inference.encoder import ImitateEncoder
from imitate.models.imitate import Imitate, parameter_count, seeded_model
from imitate.models.text import fit_or_load, load_text_encoder, save_text_encoder
from imitate.models.types import TextEncoder
from imitate.tasks.base import Budget
from imitate.tasks.retrieval import Retrieval
from imitate.training.engine import launch, together
from imitate.training.loop import Job, Validate, fit
from imitate.training.objectives import find_objective
from imitate.training.run_folder import claimed, room, settle

log = logging.getLogger(__name__)


def pretrain(
    recipe: Path,
    /,
    *,
    data: Path,
    out: Path,
    settings: tuple[str, ...] = (),
    cache: Path | None = None,
    threads: int | None = None,
) -> None:
    """Pre-train on a prepared folder.

    The same command again continues an interrupted run, bit for bit where it was. The run folder holds config.yaml,
    metrics.jsonl, tensorboard/, last.ckpt, model/ (the last weights; loads without the network) and best/ (the epoch
    that retrieves best on the validation split).

    Args:
        recipe: YAML file; recipes/tiny.yaml and the like, where there is no such file, come with the package.
        data: prepared folder.
        out: run folder.
        settings: settings over the recipe's, as key=value, such as training.epochs=3.
        cache: folder for embeddings of reports that other runs can use again; default: OUT/text_cache.
        threads: compute threads; with another job on the machine, fewer than cores is faster.
    """
    chosen = load_config(Recipe, recipe, parse_settings(settings)).resolved()
    prepared = Prepared.open(data, size=chosen.model.prepared_size)
    fabric = launch(chosen.training, threads=threads)
    with together(fabric):
        finished = _train(fabric, chosen, prepared, out, cache or out / "text_cache")
    if not finished:
        log.info("stopped and saved; the same command continues")
        raise KeyboardInterrupt
    log.info("finished: %s", out / "model")


def _train(fabric: Any, recipe: Recipe, data: Prepared, out: Path, cache: Path) -> bool:
    """The first process makes the run folder, the others take it from there; False if a signal stopped the run."""
    if not fabric.is_global_zero:
        fabric.barrier()
        recipe = _settled(out)
        encoder = load_text_encoder(out / "text") if recipe.model.reads_text else None
        return fit(_job(fabric, recipe, data, TextCache(encoder, cache) if encoder else None, out))
    with claimed(out), room(out):
        recipe, encoder = _with_text(recipe, data, out)
        texts = TextCache(encoder, cache) if encoder else None
        job = _job(fabric, recipe, data, texts, out)  # mistakes in the recipe show before anything is written
        settle(out, recipe, {"path": str(data.root), "fingerprint": data.meta["fingerprint"]})
        if encoder and not (out / "text" / "text.json").is_file():
            save_text_encoder(encoder, out / "text")
        fabric.barrier()
        return fit(job)


def _with_text(recipe: Recipe, data: Prepared, out: Path) -> tuple[Recipe, TextEncoder | None]:
    """The recipe completed with what the data decide, and its text encoder where the objective reads text."""
    objective = find_objective(recipe.objective.name)
    if "labels" in objective.needs and not data.classes:
        raise UserError(
            f"objective {recipe.objective.name} needs labels, {data.root} has none: prepare a source with them"
        )
    found: dict[str, Any] = {"fit": data.meta["fit"], "reads_text": objective.reads_text}
    encoder = None
    if objective.reads_text:
        known = (out / "text" / "text.json").is_file()
        encoder = load_text_encoder(out / "text") if known else fit_or_load(recipe.text, corpus(data))
        found["text_width"] = encoder.width
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=found)}), encoder


def _settled(out: Path) -> Recipe:
    values = read_yaml(out / "config.yaml", holds="this run's settings")
    values.pop("data")
    return Recipe.model_validate(values)


def _job(fabric: Any, recipe: Recipe, data: Prepared, texts: TextCache | None, out: Path) -> Job:
    objective = find_objective(recipe.objective.name)
    model = seeded_model(recipe.model, pretrained=recipe.pretrained, seed=recipe.training.seed)
    rows = training_rows(data) if objective.reads_text else data.rows("train")
    order = Order(rows, batch_size=recipe.training.batch_size, seed=recipe.training.seed)
    log.info("%.1f M trainable parameters, %d samples, %d steps an epoch", parameter_count(model) / 1e6,
             len(order.rows), order.steps_per_epoch)  # fmt: skip
    if fabric.local_rank == 0:
        warm_up(data.root / "images.npy")
    reader = LabelReader if "labels" in objective.needs else Reader
    embedded = _embedded(recipe, data, texts)
    pinned = fabric.device.type == "cuda"
    validate = _validation(data, texts, recipe, str(fabric.device))
    return Job(
        fabric, recipe, model, order, reader(data, embedded, branches=recipe.model.texts, pin=pinned), out, validate
    )


def _embedded(recipe: Recipe, data: Prepared, texts: TextCache | None) -> dict[str, TextRows]:
    """Of the texts that the objective reads; none of the others."""
    none = no_texts(len(data), recipe.model.text_width)
    if texts is None:
        return dict.fromkeys(TEXTS, none)
    read = find_objective(recipe.objective.name).texts(recipe.model)
    return {**dict.fromkeys(TEXTS, none), **text_embeddings(data, texts, read)}


def _validation(data: Prepared, texts: TextCache | None, recipe: Recipe, device: str) -> Validate | None:
    """Retrieval on the validation split, where there is one and the objective reads text."""
    if texts is None:
        return None
    if not (data.table["split"] == "val").any():
        log.warning("no validation split: the run is not validated")
        return None
    task = Retrieval()

    def validate(model: Imitate) -> dict[str, float]:
        encoder = ImitateEncoder("validation", model, texts.encoder, texts)
        return task.measure(task.predict(encoder, data, Budget(device=device)))

    return validate
