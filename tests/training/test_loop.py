"""Whatever interrupts a run, the weights are those of an uninterrupted one."""

import json
import os
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import write_folder
from lightning_fabric import Fabric
from recipes import tiny_recipe
from waiting import BlockingCopies

from imitate.config import Recipe
from imitate.data.corpus import Corpus
from imitate.data.sampler import BatchReader, BatchSampler, training_rows
from imitate.data.text_cache import TextCache, corpus, text_embeddings
from imitate.errors import UserError
from imitate.models.image import ImageEncoder
from imitate.models.imitate import Imitate, seeded_model
from imitate.models.text import fit_or_load
from imitate.training import loop
from imitate.training.engine import launch
from imitate.training.loop import Job, fit
from imitate.training.pretraining import Pretraining


def start(folder: Path, data: Path, recipe: Recipe, validate=None) -> Job:
    prepared = Corpus.open(data)
    encoder = fit_or_load(recipe.text, corpus(prepared))
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"text_width": encoder.width})})
    model = seeded_model(recipe.model, pretrained=False, seed=recipe.training.seed)
    order = BatchSampler(training_rows(prepared), batch_size=recipe.training.batch_size, seed=recipe.training.seed)
    folder.mkdir(exist_ok=True)
    reader = BatchReader(prepared, text_embeddings(prepared, TextCache(encoder)))
    return Job(launch(recipe.training), recipe, model, order, reader, folder, validate)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("loop") / "data", n=60)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return Imitate.from_pretrained(folder / "model").state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_training_lowers_the_loss(tmp_path, data):
    assert fit(start(tmp_path / "run", data, tiny_recipe(epochs=12)))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_killed_in_any_step_it_continues_bit_for_bit(tmp_path, data, monkeypatch, precision):
    recipe = tiny_recipe(checkpoint_every=1, precision=precision)
    whole = start(tmp_path / "whole", data, recipe)
    assert fit(whole) and whole.total == 8

    original, kill_at = loop._record, {1, 3, 6}

    def killed(job, *args):
        original(job, *args)
        if job.step in kill_at:
            kill_at.remove(job.step)
            raise SystemError("killed before this step is saved")

    monkeypatch.setattr(loop, "_record", killed)
    for _ in range(3):
        with pytest.raises(SystemError):
            fit(start(tmp_path / "broken", data, recipe))
    assert fit(start(tmp_path / "broken", data, recipe))
    assert same(weights(tmp_path / "broken"), weights(tmp_path / "whole"))
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "broken")]
    assert logs[0] == logs[1]


def test_a_signal_saves_and_the_same_command_continues(tmp_path, data, monkeypatch):
    recipe = tiny_recipe(checkpoint_every=100)
    original = loop._step

    def interrupted(job, *args):
        if job.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(job, *args)

    fit(start(tmp_path / "whole", data, recipe))
    monkeypatch.setattr(loop, "_step", interrupted)
    job = start(tmp_path / "stopped", data, recipe)
    assert not fit(job) and job.step == 3
    monkeypatch.undo()
    assert fit(start(tmp_path / "stopped", data, recipe))
    assert same(weights(tmp_path / "stopped"), weights(tmp_path / "whole"))


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(tmp_path, data, monkeypatch):
    recipe, original = tiny_recipe(checkpoint_every=1), loop.draw_step

    def poisoned(model, recipe, *, step, part):
        draw = original(model, recipe, step=step, part=part)
        if step == 5:
            draw.views[0].homography.mul_(float("nan"))
        return draw

    monkeypatch.setattr(loop, "draw_step", poisoned)
    with pytest.raises(UserError, match=r"not finite at step 5; .* the last good checkpoint: of step 5\. Lower"):
        fit(start(tmp_path / "run", data, recipe))
    told = json.loads((tmp_path / "run/not_finite.json").read_text())
    assert (
        told["step"] == 5
        and len(told["image_ids"]) == 8
        and all(name.startswith("image0") for name in told["image_ids"])
    )
    monkeypatch.undo()
    job = start(tmp_path / "run", data, recipe)
    assert fit(job) and job.step == job.total


def test_fp16_skips_an_overflow_and_stops_where_there_is_nothing_else(tmp_path, data, monkeypatch):
    recipe, original = tiny_recipe(precision="16-mixed", epochs=12, checkpoint_every=10), loop._step
    overflowing = {2}
    scales = torch.cuda.is_available()  # on a CPU there is no scaler: the first overflow ends the run

    def step(job, module, *rest):
        hook = job.model.findings_head[0].weight.register_hook(
            lambda gradient: gradient * torch.inf if job.step in overflowing else gradient
        )
        terms = original(job, module, *rest)
        hook.remove()
        return terms

    monkeypatch.setattr(loop, "_step", step)
    if scales:
        assert fit(start(tmp_path / "once", data, recipe))
    overflowing.update(range(6, 99))
    told = r"step 4\d; .* the last good checkpoint: of step 40" if scales else r"step 2; .* checkpoint: none yet"
    with pytest.raises(UserError, match=f"not finite at {told}"):
        fit(start(tmp_path / "always", data, recipe))


def test_best_is_the_epoch_with_the_highest_figure(tmp_path, data):
    figures = iter([0.1, 0.9, 0.5])
    kept = []

    def validate(model: Imitate) -> dict[str, float]:
        assert not model.training
        kept.append({n: t.clone() for n, t in model.state_dict().items()})
        return {"recall": next(figures), "other": 9.0}

    job = start(tmp_path / "run", data, tiny_recipe(epochs=3), validate)
    fit(job)
    assert job.best == 0.9 and same(Imitate.from_pretrained(tmp_path / "run/best").state_dict(), kept[1])
    assert same(weights(tmp_path / "run"), kept[2])


class Elsewhere(Fabric):
    """An engine that believes that it is on this device, among so many processes."""

    device: Any = None
    world_size: Any = None

    def __init__(self, device: torch.device, world_size: int = 1) -> None:
        super().__init__(accelerator="cpu", devices=1)
        self.device, self.world_size = device, world_size

    def backward(self, tensor: torch.Tensor) -> None:
        tensor.backward()


def test_a_step_never_waits_for_its_device(data, tmp_path, monkeypatch):
    """On the meta device a tensor has no value to wait for: reading one, or a shape that depends on one, raises.
    Copies to the device are found by watching for them."""
    recipe = tiny_recipe(clip_gradient=None)
    job = start(tmp_path / "run", data, recipe)
    read: Any = job.reader(job.order.batch(0))
    batch = {name: value.to("meta") for name, value in read.items()}
    job.fabric = Elsewhere(torch.device("meta"))
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # there is none on meta
    job.broken = job.broken.to("meta")
    module = Pretraining(job.model, recipe.objective).to("meta")
    with BlockingCopies() as found:
        terms = loop._step(job, module, torch.optim.SGD(module.parameters(), lr=0.1), batch)
    assert all(term.is_meta for term in terms.values()) and job.step == 1
    assert found.blocking == []


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x + torch.tensor([1.0, 2.0], device="meta"),
        lambda x: x + x.new_tensor([1.0, 2.0]),
        lambda x: x + torch.as_tensor(1.0).to(x),
        lambda x: x[torch.tensor([1, 0])],
    ],
)
def test_copies_that_wait_are_found(wait):
    with BlockingCopies() as found:
        wait(torch.ones(2, device="meta"))
    assert len(found.blocking) == 1


def test_compilation_and_synchronised_normalisation_reach_the_backbone(tmp_path, data, monkeypatch):
    asked = []
    monkeypatch.setattr(ImageEncoder, "compile", lambda self, mode: asked.append(mode))
    assert fit(start(tmp_path / "run", data, tiny_recipe(epochs=1, compile="reduce-overhead")))
    assert asked == ["reduce-overhead"]
    job = start(tmp_path / "other", data, tiny_recipe(sync_batchnorm=True))
    job.fabric = Elsewhere(torch.device("cpu"), world_size=2)
    with pytest.raises(UserError, match="sync_batchnorm needs GPUs: set training.sync_batchnorm=false"):
        fit(job)
    job.model.synchronise()
    kinds = {type(module).__name__ for module in job.model.modules() if "Norm" in type(module).__name__}
    assert kinds == {"SyncBatchNorm", "PresentBatchNorm"}
    assert job.model.state_dict().keys() == weights(tmp_path / "run").keys()


def test_a_run_in_chunks_lowers_the_loss(tmp_path, data):
    assert fit(start(tmp_path / "run", data, tiny_recipe(epochs=12, chunk=3)))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
