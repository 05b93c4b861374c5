"""What the method needs exact stays exact in mixed precision: through Fabric itself, on a CPU."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import write_folder
from jobs import metrics, scaled, start
from lightning_fabric.plugins import Precision
from recipes import TINY_MODEL as MODEL
from recipes import tiny_recipe
from torch import Tensor, nn
from torch.nn import functional as F

from imitate.config import AugmentConfig, TrainingConfig
from imitate.data.augment import warp
from imitate.errors import UserError
from imitate.models.imitate import seeded_model
from imitate.training import loop, precision, pretraining, step
from imitate.training.draws import draw_step
from imitate.training.engine import launch
from imitate.training.loop import fit
from imitate.training.precision import Mixed, possible, precision_plugin
from imitate.training.pretraining import Pretraining


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("precision") / "data", n=60)


class Watched:
    """A function's arguments and results."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.calls: list[tuple[tuple[Any, ...], Any]] = []

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        result = self.function(*arguments, **options)
        self.calls.append((arguments, result))
        return result


def sample(size: int = 8) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (size, 36, 36), dtype=torch.uint8, generator=generator)
    texts = [torch.randn(size, 12, generator=generator) for _ in range(2)]
    present = torch.ones(size, dtype=torch.bool)
    whole = dict(report=texts[1], has_report=present)
    return dict(
        images=images, findings=texts[0], impression=texts[1], has_findings=present, has_impression=present, **whole
    )


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_views_texts_and_targets_are_not_rounded(precision, monkeypatch):
    """Equal to float32, bit for bit: rounded to bfloat16, coordinates moved by up to five pixels."""
    recipe = tiny_recipe(precision=precision).model_copy(update={"augment": AugmentConfig(scale=0.2)})
    module = Pretraining(seeded_model(MODEL, pretrained=False, seed=0), recipe.objective)
    draw, batch = draw_step(module.model, recipe, step=0), sample()
    sampled = Watched(F.grid_sample)
    monkeypatch.setattr(F, "grid_sample", sampled)
    exact = [warp(batch["images"], view, MODEL) for view in draw.views]
    prior = Watched(pretraining.clinical_prior)
    monkeypatch.setattr(pretraining, "clinical_prior", prior)
    softened = Watched(pretraining.soften)
    monkeypatch.setattr(pretraining, "soften", softened)
    warped = Watched(step.warp)
    monkeypatch.setattr(step, "warp", warped)
    fabric = launch(TrainingConfig(precision=precision, batch_size=8))
    wrapped = fabric.setup(module)
    terms = wrapped(batch, draw)
    assert wrapped(batch, draw).keys() == terms.keys() and all(term.dtype == torch.float32 for term in terms.values())
    grids = [arguments[1] for arguments, _ in sampled.calls]
    assert all(torch.equal(ours, grids[view]) for view, ours in enumerate(grids[2:4]))
    assert all(torch.equal(found, exact[view]) for view, (_, found) in enumerate(warped.calls[:2]))
    for name, (arguments, found) in zip(("findings", "impression"), prior.calls, strict=False):
        assert torch.equal(arguments[0], batch[name])
        assert found.dtype == torch.float32 and torch.equal(found, prior.function(*arguments))
    for arguments, found in softened.calls:
        assert found.dtype == torch.float32
        assert torch.equal(found, softened.function(*arguments, kernel_lambda=0.2))


def test_fp16_skips_an_overflow_and_stops_where_there_is_nothing_else(tmp_path, data, monkeypatch):
    original, overflowing = loop._step, {2}

    def step(job, module, *rest):
        hook = job.model.findings_head[0].weight.register_hook(
            lambda gradient: gradient * torch.inf if job.step in overflowing else gradient
        )
        terms = original(job, module, *rest)
        hook.remove()
        return terms

    monkeypatch.setattr(loop, "_step", step)
    monkeypatch.setattr(loop, "LEAST_SCALE", 2**-3.5)
    assert fit(scaled(start(tmp_path / "once", data, tiny_recipe(epochs=1))))
    rows = metrics(tmp_path / "once")
    assert [row["loss_scale"] for row in rows] == [1, 1, 0.5, 0.5]
    assert math.isnan(rows[2]["gradient_norm"]) and all(math.isfinite(row["loss"]) for row in rows)
    overflowing.update(range(3, 99))
    always = start(tmp_path / "always", data, tiny_recipe(epochs=2, checkpoint_every=3, clip_gradient=1.0))
    with pytest.raises(UserError, match=r"not finite at step 5; .* the last good checkpoint: of step 4"):
        fit(scaled(always))


@pytest.mark.parametrize(
    ("precision", "fused"), [("32-true", False), ("bf16-mixed", False), ("16", False), ("16", True)]
)
def test_the_gradient_is_clipped_by_its_own_norm_whatever_its_scale(tmp_path, data, monkeypatch, precision, fused):
    """And one that is not finite ends the run in one line."""
    recipe = tiny_recipe(clip_gradient=0.01, epochs=1, precision="32-true" if precision == "16" else precision)
    job = start(tmp_path / "run", data, recipe)
    clipped = []

    class Watching(torch.optim.AdamW):
        def step(self, closure=None):
            clipped.append(nn.utils.get_total_norm([p.grad for group in self.param_groups for p in group["params"]]))
            return super().step(closure)

    def build(module: nn.Module, training: object) -> torch.optim.Optimizer:
        return Watching(module.parameters(), lr=1e-3, fused=fused)

    monkeypatch.setattr(loop, "build_optimizer", build)
    assert fit(scaled(job) if precision == "16" else job)
    norms = [row["gradient_norm"] for row in metrics(tmp_path / "run")]
    assert len(clipped) == 4 and 1000 < min(norms) < max(norms) < (20_000 if precision == "16" else 10_000)
    assert all(float(norm) == pytest.approx(0.01, rel=1e-4) for norm in clipped)
    if precision != "16":
        broken = start(tmp_path / "broken", data, recipe)
        broken.model.text_head[0].weight.register_hook(lambda gradient: gradient * torch.nan)
        with pytest.raises(UserError, match="not finite at step 0; .* checkpoint: none yet"):
            fit(broken)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight * x).sum()


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaled_gradient_is_unscaled_once_and_an_overflow_skips_the_step(fused):
    fabric = launch(TrainingConfig(precision="bf16-mixed"))
    scaler = torch.amp.GradScaler("cpu")
    fabric.strategy.precision = Mixed("16-mixed", "cpu", scaler)
    plain = Two()
    module, optimizer = fabric.setup(plain, torch.optim.AdamW(plain.parameters(), lr=0.1, fused=fused))

    def step(x: list[float]) -> None:
        fabric.backward(module(torch.tensor(x)))
        fabric.strategy.precision.unscale_gradients(optimizer.optimizer)
        assert torch.equal(plain.weight.grad, torch.tensor(x))
        optimizer.step()
        optimizer.zero_grad()

    step([3.0, 4.0])
    moved = plain.weight.detach().clone()
    assert torch.allclose(moved, torch.tensor([0.9, 0.9]), atol=0.002) and scaler.get_scale() == 2**16
    step([torch.inf, 1.0])
    assert torch.equal(plain.weight, moved) and scaler.get_scale() == 2**15


def test_a_cpu_takes_bfloat16_in_the_place_of_fp16_or_float32_where_it_has_none(monkeypatch):
    fp16 = "precision 16-mixed is for GPUs: on this CPU, bf16-mixed is used instead"
    bf16 = "this CPU has no bfloat16 instructions, so bf16-mixed would be slow: 32-true is used instead"
    for has, names, remarks in (
        (True, {"16-mixed": "bf16-mixed", "bf16-mixed": "bf16-mixed"}, {"16-mixed": [fp16], "bf16-mixed": []}),
        (False, {"16-mixed": "32-true", "bf16-mixed": "32-true"}, {"16-mixed": [fp16, bf16], "bf16-mixed": [bf16]}),
    ):
        monkeypatch.setattr(precision, "multiplies_bfloat16", lambda has=has: has)
        for name in ("16-mixed", "bf16-mixed"):
            assert possible(name, "cpu") == (names[name], remarks[name])
            assert possible(name, "cuda") == (name, [])
        assert possible("32-true", "cpu") == ("32-true", [])
    made: Any = precision_plugin("bf16-mixed", "cpu")
    assert (type(made), made.precision, made.device) == (Mixed, "bf16-mixed", "cpu")
    assert type(precision_plugin("32-true", "cuda")) is Precision


def test_what_is_used_instead_is_said(caplog, monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: False)
    assert type(launch(TrainingConfig(precision="16-mixed", accelerator="cpu")).strategy.precision) is Precision
    assert [message[:9] for message in caplog.messages] == ["precision", "this CPU "]


def test_channels_are_last_but_where_the_cpu_writes_beyond_its_buffers(monkeypatch):
    narrow, wide = (nn.Sequential(nn.Conv2d(width, 16, 1, stride=2)) for width in (4, 8))
    monkeypatch.setattr(precision, "_capabilities", lambda: {"avx2": True, "avx512_f": False})
    assert precision.memory_format(narrow, "cpu") is torch.contiguous_format
    assert precision.memory_format(wide, "cpu") is precision.memory_format(narrow, "cuda") is torch.channels_last
    monkeypatch.setattr(precision, "_capabilities", lambda: {"avx512_f": True})
    assert precision.memory_format(narrow, "cpu") is torch.channels_last
