"""Many steps of training: memory and open files stay level."""

import os
from pathlib import Path

import pytest
import torch
from folders import write_folder
from recipes import tiny_recipe

from imitate.data.corpus import Corpus
from imitate.data.sampler import BatchReader, BatchSampler, training_rows
from imitate.data.text_cache import TextCache, corpus, text_embeddings
from imitate.models.imitate import seeded_model
from imitate.models.text import fit_or_load
from imitate.training import loop
from imitate.training.engine import launch


def resident() -> float:
    """MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads its memory in /proc")
@pytest.mark.parametrize("steps", [60, pytest.param(2000, marks=pytest.mark.stress)])
def test_memory_and_handles_stay_level(steps, tmp_path, monkeypatch, write_counts):
    data = Corpus.open(write_folder(tmp_path / "data", n=560, size=36))
    recipe = tiny_recipe(epochs=steps // 40 + 1, checkpoint_every=25)
    encoder = fit_or_load(recipe.text, corpus(data))
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"text_width": encoder.width})})
    model, seen = seeded_model(recipe.model, pretrained=False, seed=0), []
    (tmp_path / "run").mkdir()
    original = loop._step

    def watched(job, *rest):
        terms = original(job, *rest)
        if job.step % (steps // 20) == 0:
            seen.append((job.step, resident(), len(list(Path("/proc/self/fd").iterdir()))))
        return terms

    monkeypatch.setattr(loop, "_step", watched)
    order = BatchSampler(training_rows(data), batch_size=8, seed=0)
    job = loop.Job(
        launch(recipe.training),
        recipe,
        model,
        order,
        BatchReader(data, text_embeddings(data, TextCache(encoder))),
        tmp_path / "run",
    )
    assert loop.fit(job) and job.step >= steps and all(torch.isfinite(p).all() for p in model.parameters())
    settled = [each for each in seen if each[0] >= steps // 4]
    memory, handles = ([each[column] for each in settled] for column in (1, 2))
    half = len(settled) // 2
    grown = sum(memory[half:]) / len(memory[half:]) - sum(memory[:half]) / half
    assert max(handles) - min(handles) <= 2 and grown < 0.02 * memory[0] + 5
    write_counts(
        "soak_training",
        steps=job.step,
        memory_mb=[round(m, 1) for m in memory],
        grown_mb=round(grown, 1),
        handles=[min(handles), max(handles)],
    )
