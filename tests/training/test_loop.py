"""Whatever interrupts a run, the weights are those of an uninterrupted one."""

import json
import os
import signal
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from folders import write_folder
from jobs import metrics, scaled, start
from lightning_fabric import Fabric
from recipes import tiny_recipe
from waiting import BlockingCopies

from imitate.config import ImitateOptions, Recipe
from imitate.errors import UserError
from imitate.models import hub
from imitate.models.heads import PresentBatchNorm
from imitate.models.image import ImageEncoder
from imitate.models.imitate import Imitate, seeded_model
from imitate.training import loop
from imitate.training.checkpoint import load_checkpoint
from imitate.training.draws import draw_step
from imitate.training.loop import fit
from imitate.training.precision import Mixed
from imitate.training.pretraining import Pretraining


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("loop") / "data", n=60)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return Imitate.from_pretrained(folder / "model").state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def killed_and_continued(folder: Path, data: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, *, at: int) -> None:
    """A run that ends within this step, after which the same command goes on."""
    original = loop._agreed

    def killed(job: Any, *args: Any) -> bool:
        if job.step == at:
            raise SystemError("killed before this step is saved")
        return original(job, *args)

    monkeypatch.setattr(loop, "_agreed", killed)
    with pytest.raises(SystemError):
        fit(start(folder, data, recipe))
    monkeypatch.undo()
    assert fit(start(folder, data, recipe))


def test_training_lowers_the_loss(tmp_path, data):
    assert fit(start(tmp_path / "run", data, tiny_recipe(epochs=12)))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


@pytest.mark.parametrize(("precision", "log_every"), [("32-true", 3), ("bf16-mixed", 1)])
def test_killed_in_any_step_it_continues_bit_for_bit(tmp_path, data, monkeypatch, precision, log_every):
    recipe = tiny_recipe(checkpoint_every=1, precision=precision, log_every=log_every)
    whole = start(tmp_path / "whole", data, recipe)
    assert fit(whole) and whole.total == 8

    original, kill_at = loop._agreed, {1, 3, 5}

    def killed(job, *args):
        if job.step in kill_at:
            kill_at.remove(job.step)
            raise SystemError("killed before this step is saved")
        return original(job, *args)

    monkeypatch.setattr(loop, "_agreed", killed)
    for _ in range(3):
        with pytest.raises(SystemError):
            fit(start(tmp_path / "broken", data, recipe))
    assert fit(start(tmp_path / "broken", data, recipe))
    assert same(weights(tmp_path / "broken"), weights(tmp_path / "whole"))
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "broken")]
    assert logs[0] == logs[1]


def test_a_learned_temperature_is_continued_and_kept_with_the_model(tmp_path, data, monkeypatch):
    recipe = tiny_recipe(checkpoint_every=1)
    recipe = recipe.model_copy(update={"objective": ImitateOptions(learn_temperature=True)}).resolved()
    fit(start(tmp_path / "whole", data, recipe))
    killed_and_continued(tmp_path / "broken", data, recipe, monkeypatch, at=5)
    assert same(weights(tmp_path / "broken"), weights(tmp_path / "whole"))
    learned = [Imitate.from_pretrained(tmp_path / name / "model").config.temperature for name in ("whole", "broken")]
    assert learned[0] == learned[1] != pytest.approx(0.07, abs=1e-6)


def test_a_run_that_continues_without_averages_saves_the_trained_weights(tmp_path, data):
    assert fit(start(tmp_path / "run", data, tiny_recipe(epochs=1, ema_decay=0.9)))
    assert not same(weights(tmp_path / "run"), load_checkpoint(tmp_path / "run")["model"])
    assert fit(start(tmp_path / "run", data, tiny_recipe(epochs=2)))
    assert same(weights(tmp_path / "run"), load_checkpoint(tmp_path / "run")["model"])


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
    assert not fit(job) and job.step == 3 and job.signal == signal.SIGTERM
    monkeypatch.undo()
    assert hub.unfinished(tmp_path / "stopped") == f"step 3 of {job.total}"
    assert fit(start(tmp_path / "stopped", data, recipe))
    assert not hub.unfinished(tmp_path / "stopped") and not hub.unfinished(tmp_path / "whole")
    assert same(weights(tmp_path / "stopped"), weights(tmp_path / "whole"))


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(tmp_path, data, monkeypatch):
    recipe, original = tiny_recipe(checkpoint_every=1), loop.draw_step

    def poisoned(model, recipe, *, step, **more):
        draw = original(model, recipe, step=step, **more)
        if step == 5:
            draw.views[0].homography.mul_(float("nan"))
        return draw

    monkeypatch.setattr(loop, "draw_step", poisoned)
    advice = r"of step 5\. Lower .* bf16-mixed: the same command with --continue-with training\.learning_rate=0\.0003,"
    with pytest.raises(UserError, match=rf"not finite at step 5; .* the last good checkpoint: {advice}"):
        fit(start(tmp_path / "run", data, recipe))
    reported = json.loads((tmp_path / "run/not_finite.json").read_text())
    assert (
        reported["step"] == 5
        and len(reported["image_ids"]) == 8
        and all(name.startswith("image0") for name in reported["image_ids"])
    )
    monkeypatch.undo()
    job = start(tmp_path / "run", data, recipe)
    assert fit(job) and job.step == job.total


def test_best_is_the_validation_with_the_highest_metric(tmp_path, data):
    values = iter([0.1, 0.9, 0.5, 0.7, 0.3, 0.2])
    kept = []

    def validate(model: Imitate) -> dict[str, float]:
        assert not model.training
        kept.append({n: t.clone() for n, t in model.state_dict().items()})
        return {"recall": next(values), "other": 9.0}

    settings = {"epochs": 3, "validate_every": 2, "snapshot_every": 5, "keep_best": 3}
    job = start(tmp_path / "run", data, tiny_recipe(**settings), validate)
    assert fit(job) and job.total == 12
    rows = [row for row in metrics(tmp_path / "run") if "val/recall" in row]
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
    assert same(Imitate.from_pretrained(tmp_path / "run/best").state_dict(), kept[1])
    assert same(weights(tmp_path / "run"), kept[5])
    top = {path.name: path for path in (tmp_path / "run/top").iterdir()}
    assert top.keys() == {"step-0000004", "step-0000006", "step-0000008"}
    assert same(Imitate.from_pretrained(top["step-0000008"]).state_dict(), kept[3])
    assert {path.name for path in (tmp_path / "run/snapshots").iterdir()} == {"step-0000005", "step-0000010"}


def test_an_error_in_validation_ends_nothing_and_the_step_before_it_is_saved(tmp_path, data, caplog):
    saved = []

    def validate(model: Imitate) -> dict[str, float]:
        saved.append(load_checkpoint(tmp_path / "run")["step"])
        if len(saved) < 2:
            raise UserError("no reports to find")
        return {"recall": 0.5}

    assert fit(start(tmp_path / "run", data, tiny_recipe(), validate))
    assert saved == [4, 8] and "step 4 is not validated: no reports to find" in caplog.text
    assert [row["step"] for row in metrics(tmp_path / "run") if "val/recall" in row] == [8]
    assert (tmp_path / "run/best").is_dir()


def test_a_validation_that_was_killed_is_made_up_for_and_a_finished_one_is_not_repeated(tmp_path, data):
    asked = []

    def validate(model: Imitate) -> dict[str, float]:
        asked.append(len(asked))
        if len(asked) == 1:
            raise KeyboardInterrupt
        return {"recall": 0.5}

    with pytest.raises(KeyboardInterrupt):
        fit(start(tmp_path / "run", data, tiny_recipe(epochs=1), validate))
    for _ in range(2):
        assert fit(start(tmp_path / "run", data, tiny_recipe(epochs=1), validate))
    assert len(asked) == 2 and len([row for row in metrics(tmp_path / "run") if "val/recall" in row]) == 1


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_snapshot_that_was_killed_is_made_up_for(tmp_path, data, monkeypatch, ema_decay):
    recipe = tiny_recipe(epochs=1, checkpoint_every=1, snapshot_every=2, ema_decay=ema_decay)
    fit(start(tmp_path / "whole", data, recipe))
    original = loop._save

    def killed(job: Any, optimizer: Any) -> None:
        original(job, optimizer)
        if job.step == 2:
            raise SystemError("killed before this step has its snapshot")

    monkeypatch.setattr(loop, "_save", killed)
    with pytest.raises(SystemError):
        fit(start(tmp_path / "broken", data, recipe))
    monkeypatch.undo()
    assert fit(start(tmp_path / "broken", data, recipe))
    for step in ("step-0000002", "step-0000004"):
        found = [
            Imitate.from_pretrained(tmp_path / name / "snapshots" / step).state_dict() for name in ("whole", "broken")
        ]
        assert same(*found)


def test_no_snapshot_is_kept_of_weights_behind_a_loss_that_is_not_finite(tmp_path, data, monkeypatch):
    original = loop.draw_step

    def poisoned(model, recipe, *, step, **more):
        draw = original(model, recipe, step=step, **more)
        if step == 1:
            draw.views[0].homography.mul_(float("nan"))
        return draw

    monkeypatch.setattr(loop, "draw_step", poisoned)
    with pytest.raises(UserError, match="not finite at step 1"):
        fit(start(tmp_path / "run", data, tiny_recipe(log_every=4, snapshot_every=1)))
    assert [path.name for path in (tmp_path / "run/snapshots").iterdir()] == ["step-0000001"]


def test_a_row_is_the_mean_of_its_steps_and_the_validation_loss_that_of_the_objective(tmp_path, data):
    def run(name: str, log_every: int) -> list[dict[str, float]]:
        job = start(tmp_path / name, data, tiny_recipe(log_every=log_every, epochs=1))
        job.held_out = np.arange(10, 20)
        assert fit(job)
        return metrics(tmp_path / name)

    (*single, held_out), (*means, again) = run("single", 1), run("means", 3)
    assert [row["step"] for row in means] == [3, 4] and len(single) == 4
    for name in ("loss", "findings", "gradient_norm"):
        assert means[0][name] == pytest.approx(np.mean([row[name] for row in single[:3]]), rel=1e-5)
        assert means[1][name] == single[3][name]
    job = start(tmp_path / "single", data, tiny_recipe(epochs=1))
    model = Imitate.from_pretrained(tmp_path / "single/model").eval()
    batch = job.reader(np.arange(10, 18))
    terms = Pretraining(model, job.recipe.objective)(batch, draw_step(model, job.recipe, step=0))
    assert held_out == again == {"step": 4, "val/loss": pytest.approx(sum(map(float, terms.values())), rel=1e-5)}


def test_a_run_continues_at_another_precision_and_rate_and_says_on_what_it_started(tmp_path, data):
    job = scaled(start(tmp_path / "run", data, tiny_recipe(epochs=1)))
    job.facts = {"processes": 1}
    assert fit(job)
    job = start(tmp_path / "run", data, tiny_recipe(precision="bf16-mixed", learning_rate=1e-5))
    job.facts = {"processes": 2}
    assert fit(job)
    starts = [json.loads(line) for line in (tmp_path / "run/starts.jsonl").read_text().splitlines()]
    assert [(each["step"], each["processes"]) for each in starts] == [(0, 1), (4, 2)]
    rows = metrics(tmp_path / "run")
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert ["loss_scale" in row for row in rows] == [True] * 4 + [False] * 4


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
    with pytest.raises(UserError, match="sync_batchnorm needs GPUs: set training.sync_batchnorm=heads"):
        fit(job)
    job.model.synchronise()
    kinds = {type(module).__name__ for module in job.model.modules() if "Norm" in type(module).__name__}
    assert kinds == {"SyncBatchNorm", "PresentBatchNorm"}
    assert job.model.state_dict().keys() == weights(tmp_path / "run").keys()


def test_a_run_in_chunks_lowers_the_loss(tmp_path, data):
    assert fit(start(tmp_path / "run", data, tiny_recipe(epochs=12, chunk=3)))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


def test_views_grow_over_the_training_and_an_interrupted_run_is_the_same(tmp_path, data, monkeypatch):
    recipe = tiny_recipe(checkpoint_every=1, image_sizes=[16, 24, 32])
    sides, original = [], ImageEncoder.forward
    monkeypatch.setattr(
        ImageEncoder, "forward", lambda self, x: (sides.append((self.training, x.shape[-1])), original(self, x))[1]
    )
    job = start(tmp_path / "whole", data, recipe)
    assert fit(job) and job.total == 8
    trained = [side for training, side in sides if training]
    assert trained == [16] * 6 + [24] * 6 + [32] * 4, "two views a step"
    monkeypatch.undo()
    killed_and_continued(tmp_path / "broken", data, recipe, monkeypatch, at=4)
    assert same(weights(tmp_path / "broken"), weights(tmp_path / "whole"))


def test_a_network_refuses_views_of_a_size_that_it_cannot_take(tmp_path, data):
    settings = {"backbone": "vit_tiny_patch16_224", "backbone_options": {"depth": 4, "embed_dim": 24, "num_heads": 2}}
    recipe = tiny_recipe(image_sizes=[24, 32])
    model = recipe.model.model_copy(update={**settings, "levels": (), "keep": ()})
    with pytest.raises(UserError, match="vit_tiny_patch16_224 does not accept images of 24 pixels"):
        fit(start(tmp_path / "run", data, recipe.model_copy(update={"model": model})))
    with pytest.raises(ValueError, match=r"training.image_sizes \(32, 16\) must end with model.image_size 32"):
        Recipe.model_validate({**recipe.model_dump(), "training": {"image_sizes": [32, 16]}})


def test_a_length_in_steps_takes_the_place_of_epochs(tmp_path, data):
    job = start(tmp_path / "run", data, tiny_recipe(steps=5))
    assert fit(job) and job.step == job.total == 5
    assert [row["step"] for row in metrics(tmp_path / "run")][-1] == 5


@pytest.fixture(scope="module")
def idle(tmp_path_factory, data) -> loop.Job:
    """A job that has not begun, of four steps an epoch; tests take copies of it."""
    return start(tmp_path_factory.mktemp("idle") / "run", data, tiny_recipe())


def copy_of(job: loop.Job, folder: Path, **training: object) -> loop.Job:
    settings = job.recipe.training.model_copy(update=training)
    model = seeded_model(job.recipe.model, pretrained=False, seed=1)
    recipe = job.recipe.model_copy(update={"training": settings})
    return loop.Job(job.fabric, recipe, model, job.order, job.reader, folder)


class Norms(torch.optim.SGD):
    """Notes the norm of the gradient that it steps along."""

    def step(self, closure=None):
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        self.norm = float(torch.stack([grad.square().sum() for grad in grads]).sum().sqrt())
        return super().step(closure)


@pytest.mark.parametrize("clip", [None, 0.01])
def test_a_step_reports_its_loss_and_the_norm_before_it_is_clipped(tmp_path, idle, monkeypatch, clip):
    seeds: list[int] = []
    monkeypatch.setattr(torch, "manual_seed", seeds.append)
    job = copy_of(idle, tmp_path, clip_gradient=clip, seed=3)
    assert job.step == 0 and job.saved is None
    job.step, seeds[:] = 2, []
    module = Pretraining(job.model, job.recipe.objective)
    optimizer = Norms(module.parameters(), lr=0.0)
    terms = loop._step(job, module, optimizer, job.reader(job.order.batch(2)))
    named = [value for name, value in terms.items() if name not in ("loss", "gradient_norm")]
    assert len(named) == 4 and float(terms["loss"]) == pytest.approx(float(sum(named)))
    assert float(terms["gradient_norm"]) > 100
    assert optimizer.norm == pytest.approx(0.01 if clip else float(terms["gradient_norm"]), rel=1e-4)
    assert job.step == 3 and seeds == [3 * 1_000_003 + 2 * 1_009]
    assert int(job.broken) == -1 and all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize("before", [-1, 0])
def test_the_first_step_whose_gradient_is_not_finite_is_kept(tmp_path, idle, before):
    job = copy_of(idle, tmp_path)
    job.step, job.broken = 2, torch.tensor(before)
    job.model.text_head[0].weight.register_hook(lambda gradient: gradient * torch.nan)
    module = Pretraining(job.model, job.recipe.objective)
    terms = loop._step(job, module, Norms(module.parameters(), lr=0.0), job.reader(job.order.batch(2)))
    assert torch.isfinite(terms["loss"]) and int(job.broken) == (2 if before < 0 else before)


@pytest.mark.parametrize("scale", [None, 8.0])
def test_a_row_has_the_means_the_rate_and_the_scale(tmp_path, idle, monkeypatch, scale):
    job, written = copy_of(idle, tmp_path), []
    if scale:
        monkeypatch.setattr(loop, "_scaler", lambda job: SimpleNamespace(get_scale=lambda: scale))
    for loss in (0.25, 0.75):
        job.means.add({"loss": torch.tensor(loss)})
    job.step = 2
    monkeypatch.setattr(
        loop.Journal, "write", lambda self, step, values, measured: written.append((step, values, measured))
    )
    journal = loop.Journal(tmp_path, step=0)
    monkeypatch.setattr(loop.Clock, "rate", lambda self, step: 1.25 * step)
    optimizer, clock = SimpleNamespace(param_groups=[{"lr": 0.125}]), loop.Clock(0)
    assert loop._record(job, journal, optimizer, clock) == "loss 0.500  20 samples/s"
    values = {"loss": 0.5, "learning_rate": 0.125, **({"loss_scale": 8.0} if scale else {})}
    assert written == [(2, values, {"samples_per_second": 20.0})]


def test_what_is_not_finite_is_reported_with_its_images(tmp_path, idle):
    job = copy_of(idle, tmp_path)
    loop._check(job)
    job.broken = torch.tensor(5)
    for saved, reported in ((None, "none yet"), (4, "of step 4")):
        job.saved = saved
        with pytest.raises(UserError, match=rf"not finite at step 5; .* the last good checkpoint: {reported}\. Lower"):
            loop._check(job)
    images = [str(name) for name in job.reader.image_ids[job.order.batch(5)]]
    content = json.dumps({"step": 5, "image_ids": images}, indent=1) + "\n"
    assert (tmp_path / "not_finite.json").read_text() == content and len(images) == 8


def test_a_scaler_below_the_least_scale_ends_the_run(tmp_path, idle, monkeypatch):
    job = copy_of(idle, tmp_path)
    assert loop._loss_scale(job) == 1 and loop._scaler(job) is None
    monkeypatch.setattr(idle.fabric.strategy, "precision", SimpleNamespace(scaler=SimpleNamespace(get_scale=lambda: 4)))
    assert loop._loss_scale(job) == 4
    job.step = 3
    monkeypatch.setattr(loop, "_loss_scale", lambda job: 2.0**-20)
    loop._check(job)
    monkeypatch.setattr(loop, "_loss_scale", lambda job: 2.0**-21)
    with pytest.raises(UserError, match="not finite at step 2; .* use precision bf16-mixed: "):
        loop._check(job)
    job.broken = torch.tensor(0)
    with pytest.raises(UserError, match="not finite at step 0; "):
        loop._check(job)


def test_a_checkpoint_has_all_that_a_run_continues_from(tmp_path, idle, monkeypatch, caplog):
    def scaler(scale: float) -> torch.amp.GradScaler:
        found = torch.amp.GradScaler("cpu", init_scale=scale)
        monkeypatch.setattr(idle.fabric.strategy, "precision", Mixed("16-mixed", "cpu", found))
        return found

    scaler(8.0)
    job = copy_of(idle, tmp_path)
    optimizer = torch.optim.SGD(job.model.parameters(), lr=0.5, momentum=0.5)
    sum(p.sum() for p in job.model.parameters()).backward()
    optimizer.step()
    job.step = 3
    job.means.add({"loss": torch.tensor(2.0)})
    learning = ImitateOptions(learn_temperature=True)
    job.pretraining = Pretraining(job.model, learning)
    job.pretraining.log_temperature.data.fill_(-1)
    loop._save(job, optimizer)
    assert job.saved == 3 and load_checkpoint(tmp_path)["objective"] == {"log_temperature": torch.tensor(-1.0)}
    assert load_checkpoint(tmp_path).keys() >= {"step", "model", "optimizer", "scaler", "means"}
    other, fresh = copy_of(idle, tmp_path), scaler(1.0)
    other.pretraining = Pretraining(other.model, learning)
    again = torch.optim.SGD(other.model.parameters(), lr=0.1, momentum=0.1, weight_decay=0.25)
    with caplog.at_level("INFO"):
        loop._resume(other, again)
    assert caplog.messages == ["continuing from step 3 of 8"] and other.pretraining.log_temperature == -1
    assert (other.step, other.saved, fresh.get_scale()) == (3, 3, 8.0) and other.means.take() == {"loss": 2.0}
    assert same(other.model.state_dict(), job.model.state_dict())
    assert again.param_groups[0]["weight_decay"] == 0.25  # with which it is to continue
    assert again.param_groups[0]["lr"] == 0.5 and len(again.state) == len(optimizer.state)


@pytest.mark.parametrize(
    ("sync", "world", "synchronised"), [("heads", 2, True), (False, 2, False), (True, 1, False), ("heads", 1, False)]
)
def test_the_heads_are_synchronised_where_there_are_several_processes(tmp_path, idle, sync, world, synchronised):
    job = copy_of(idle, tmp_path, sync_batchnorm=sync)
    job.fabric = Elsewhere(torch.device("cpu"), world_size=world)
    loop._set_up(job)
    found = {norm.synchronised for norm in job.model.modules() if isinstance(norm, PresentBatchNorm)}
    assert found == {synchronised} and type(job.model.image.network.bn1) is torch.nn.BatchNorm2d


def test_the_backbone_is_synchronised_on_gpus_only(tmp_path, idle):
    job = copy_of(idle, tmp_path, sync_batchnorm=True)
    job.fabric = Elsewhere(torch.device("cpu"), world_size=2)
    with pytest.raises(UserError, match="sync_batchnorm needs GPUs: set training.sync_batchnorm=heads"):
        loop._set_up(job)
    asked = []
    job.fabric = SimpleNamespace(device=torch.device("cuda"), world_size=2)
    job.model.synchronise = lambda backbone: asked.append(backbone) or 1 / 0
    for sync, everywhere in ((True, True), ("heads", False)):
        job.recipe = job.recipe.model_copy(
            update={"training": job.recipe.training.model_copy(update={"sync_batchnorm": sync})}
        )
        with pytest.raises(ZeroDivisionError):
            loop._set_up(job)
        assert asked.pop() is everywhere


def test_metrics_are_written_with_and_without_a_validation_loss(tmp_path, idle, monkeypatch, caplog):
    job, rows = copy_of(idle, tmp_path), []
    job.step, job.validate = 4, lambda model: {"recall": 0.5}
    journal: Any = loop.Journal(tmp_path, step=0)
    monkeypatch.setattr(loop.Journal, "write", lambda self, step, values: rows.append((step, values)))
    for loss in ({}, {"loss": 2.0}):
        monkeypatch.setattr(loop, "_held_out_loss", lambda job, module, loss=loss: loss)
        with caplog.at_level("INFO"):
            loop._validate(job, job.model, journal)
        assert caplog.messages[-1] == "step 4 of 8: recall 0.5000"
        assert rows.pop() == (4, {"val/recall": 0.5, **{f"val/{name}": value for name, value in loss.items()}})
    job.validate = None
    loop._validate(job, job.model, journal)
    assert rows == [(4, {"val/loss": 2.0})] and job.model.training
    monkeypatch.setattr(loop, "_held_out_loss", lambda job, module: {})
    loop._validate(job, job.model, journal)
    assert len(rows) == 1
    journal.close()


def test_it_saves_at_the_end_of_an_epoch_and_logs_the_last_step(tmp_path, data, monkeypatch, caplog):
    saved, original = [], loop._save
    monkeypatch.setattr(loop, "_save", lambda job, optimizer: saved.append(job.step) or original(job, optimizer))
    job = start(tmp_path / "run", data, tiny_recipe(log_every=3, validate_every=8, snapshot_every=7))
    job.facts = {"processes": 1}
    assert fit(job) and saved == [4, 8]
    assert [row["step"] for row in metrics(tmp_path / "run")] == [3, 6, 8]
    assert (tmp_path / "run/starts.jsonl").read_text() == '{"step": 0, "total": 8, "processes": 1}\n'
    assert hub.unfinished(tmp_path / "run") == ""
    assert [path.name for path in (tmp_path / "run/snapshots").iterdir()] == ["step-0000007"]
    assert not caplog.records  # without a validation nothing is warned of


def test_a_run_validates_as_often_as_asked(tmp_path, idle):
    job = copy_of(idle, tmp_path, validate_every=3)
    steps = [step for step in range(9) if setattr(job, "step", step) or job.validates]
    assert steps == [3, 6, 8] and job.total == 8
    often = copy_of(idle, tmp_path, validate_every=1)
    assert [step for step in range(4) if setattr(often, "step", step) or often.validates] == [1, 2, 3]
    assert job.is_every(4) and not job.is_every(3) and not job.is_every(None)


@pytest.mark.parametrize(
    ("count", "world", "size", "batches"),
    [(1, 1, 0, 0), (2, 1, 2, 1), (7, 1, 7, 1), (8, 1, 8, 1), (17, 1, 8, 2), (7, 2, 6, 1), (3, 2, 0, 0)],
)
def test_the_held_out_loss_is_that_of_whole_batches(tmp_path, idle, count, world, size, batches):
    job = copy_of(idle, tmp_path)
    job.fabric = Elsewhere(torch.device("cpu"), world_size=world)
    job.held_out, read, reader = np.arange(20, 20 + count), [], job.reader

    def reading(rows: np.ndarray, *others: Any) -> Any:
        read.append(rows.tolist())
        return reader(rows, *others)

    job.reader = reading
    module = Pretraining(job.model, job.recipe.objective).eval()
    found = loop._held_out_loss(job, module)
    assert read == [list(range(20 + i * size, 20 + i * size + size // world)) for i in range(batches)]
    assert list(found) == (["loss"] if batches else [])
    losses = []
    for number, rows in enumerate(read):
        draw = draw_step(job.model, job.recipe, step=number, part=slice(size // world))
        losses.append(sum(map(float, module(reader(np.array(rows)), draw).values())))
    assert not batches or found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_several_processes_agree_to_stop_at_logging_steps(tmp_path, idle, monkeypatch):
    job = copy_of(idle, tmp_path, log_every=3)
    assert loop._agreed(job, [15]) is True and loop._agreed(job, []) is False
    job.fabric = Elsewhere(torch.device("cpu"), world_size=2)
    asked, other = [], torch.tensor(10)

    def all_reduce(votes, operation):
        asked.append(int(votes))
        assert operation == loop.dist.ReduceOp.MAX
        votes.copy_(torch.maximum(votes, other))

    monkeypatch.setattr(loop.dist, "all_reduce", all_reduce)
    for job.step in (1, 2):
        assert loop._agreed(job, [15]) is False
    job.step = 3
    assert loop._agreed(job, []) is True and asked == [0] and job.signal == 10
    assert loop._agreed(job, [2]) is True and job.signal == 10, "the scheduler's notice counts before Ctrl-C"
    other.zero_()
    assert loop._agreed(job, []) is False and loop._agreed(job, [2]) is True
