"""A small pre-training run, without the command."""

import json
from pathlib import Path

import torch

from imitate.config import Recipe
from imitate.data.corpus import Corpus
from imitate.data.sampler import BatchReader, BatchSampler, training_rows
from imitate.data.text_cache import TextCache, corpus, text_embeddings
from imitate.models.imitate import seeded_model
from imitate.models.text import fit_or_load
from imitate.models.text_tower import TextTower
from imitate.training.engine import launch
from imitate.training.job import Job, Validate
from imitate.training.precision import Mixed


def start(folder: Path, data: Path, recipe: Recipe, validate: Validate | None = None) -> Job:
    prepared = Corpus.open(data)
    encoder = fit_or_load(recipe.text, corpus(prepared))
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"text_width": encoder.width})})
    model = seeded_model(recipe.model, pretrained=False, seed=recipe.training.seed)
    order = BatchSampler(training_rows(prepared), batch_size=recipe.training.batch_size, seed=recipe.training.seed)
    folder.mkdir(exist_ok=True)
    part = recipe.training
    tower = TextTower(encoder, layers=part.text_layers, lora=part.text_lora) if part.trains_text else None
    reader = BatchReader(prepared, text_embeddings(prepared, TextCache(tower.pieces if tower else encoder)))
    return Job(launch(recipe.training), recipe, model, order, reader, folder, validate, tower=tower)


def scaled(job: Job) -> Job:
    """At 16-mixed as on a GPU: a CPU's run would take bf16 in its place, which has no scaler."""
    job.fabric.strategy.precision = Mixed("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1.0))
    return job


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
